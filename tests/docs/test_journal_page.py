"""The journal's page names all there is, and the program that readers copy runs as three processes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

import pytest

import journal
from journal import JournalConfig, StateMachine, desk, events, exactly_once, history, levels, statemachine, updates
from journal.config import JournalConfig as _Config
from tests.docs.pages import ROOT, Page
from tests.support.cluster import bound_socket

PAGE = (ROOT / "docs" / "reference" / "journal.md").read_text(encoding="utf-8")


def test_every_name_of_the_package_is_on_its_page() -> None:
    missing = [name for name in journal.__all__ if f"`{name}" not in PAGE and name != "Event"]
    assert not missing, missing


def test_every_name_of_the_package_can_be_imported() -> None:
    """They are imported when they are first used; a name without a home would fail only then."""
    for name in journal.__all__:
        assert getattr(journal, name).__name__ == name if name != "Event" else journal.Event
    with pytest.raises(AttributeError):
        journal.nothing  # noqa: B018 - the lookup itself is the test


def test_every_field_level_method_and_key_is_on_the_page() -> None:
    wanted = [field.name for field in fields(_Config)]
    wanted += [*levels.Response, *levels.Consistency]
    wanted += [name for name in vars(StateMachine) if not name.startswith("_")]
    text = (ROOT / "journal" / "journal.py").read_text(encoding="utf-8")
    wanted += re.findall(r'^ +"(\w+)": ', text.partition("def status(")[2], re.MULTILINE)
    missing = [name for name in wanted if not re.search(rf"`{name}[`(]", PAGE)]
    assert not missing, missing
    assert JournalConfig is _Config


def test_every_limit_is_on_the_page_with_its_value() -> None:
    """But for those of a module's inner workings, that nobody can meet."""
    inner = {"ATTEMPTS_MAX", "DIGEST_MAX", "INDEX_MAX", "PIECE_BYTES_MAX", "STUCK_TURNS_MAX"}
    for module in (events, exactly_once, history, desk, statemachine, updates):
        for name, value in sorted(vars(module).items()):
            if name.isupper() and name.endswith(("_MAX", "_MS")) and name not in inner:
                assert f"| `{name}` | {value} |" in PAGE, (module.__name__, name, value)


class Process:
    """One member of the example, typed at."""

    def __init__(self, program: Path, me: str, peers: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(program), me, peers],
            cwd=program.parent,
            env={"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def type(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def members(tmp_path: Path) -> Iterator[dict[str, Process]]:
    page = Page(ROOT / "docs" / "how-to" / "run-your-own-state-machine.md", "")
    page = Page(page.path, page.path.read_text(encoding="utf-8"))
    (text,) = (block.text for block in page.blocks if block.text.startswith('"""A replicated key-value store'))
    program = tmp_path / "store.py"
    program.write_text(text)
    sockets = [bound_socket() for _ in range(3)]
    peers = ",".join(f"{me}=127.0.0.1:{sock.getsockname()[1]}" for me, sock in zip("abc", sockets, strict=True))
    for sock in sockets:
        sock.close()
    with ExitStack() as stack:
        found = {}
        for me in "abc":
            found[me] = Process(program, me, peers)
            stack.callback(found[me].close)
        yield found


def test_the_example_replicates_among_three_processes(members: dict[str, Process]) -> None:
    """Exactly what the page promises to whoever types it in."""
    assert members["a"].type("set color blue") == "null"
    assert members["b"].type("get color") == '"blue"'
    assert members["c"].type("add color red") == "error: color is there already"
    members.pop("a").close()
    assert members["b"].type("set color green") == '"blue"'
    assert members["c"].type("get color") == '"green"'
