"""The reference pages name everything they must: what is in the code and not on its page is found here."""

from __future__ import annotations

import re
from dataclasses import fields

from jkcs_client.lifecycle import mermaid
from jkcs_client.protocol import errors, messages
from jkcs_client.values import Stat
from jkcs_server.config import NodeConfig
from journal.limits import Limits, Timing
from tests.docs.pages import ROOT


def _page(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")


def test_every_error_is_on_its_page_with_its_code() -> None:
    """A user who meets an error looks it up by name or by number."""
    page = _page("errors")
    missing = [cls.__name__ for code, cls in errors.BY_CODE.items() if f"| `{cls.__name__}` | {code} |" not in page]
    assert not missing, missing


def test_every_setting_is_on_its_page_with_its_default() -> None:
    """A default that changed without its page is a trap for whoever tuned by the page."""
    page = _page("configuration")
    missing = [field.name for field in fields(NodeConfig) if f"`{field.name}`" not in page]
    for table, values in (("limits", Limits()), ("timing", Timing())):
        for field in fields(values):
            row = f"| `{table}.{field.name}` | {getattr(values, field.name)} |"
            if row not in page:
                missing.append(row)
    assert not missing, missing


def test_every_opcode_is_on_its_page() -> None:
    """Somebody may write a client in another language from that page alone."""
    page = _page("protocol")
    missing = [f"| {name.upper()} | {op} |" for op, name in messages.OP_NAMES.items()]
    missing = [row for row in missing if row not in page]
    for mode in messages.WatchMode:
        if f"{mode.name} ({int(mode)})" not in page:
            missing.append(mode.name)
    for kind in messages.EventKind:
        if f"{kind.name} ({int(kind)})" not in page:
            missing.append(kind.name)
    assert not missing, missing


def test_every_limit_of_the_protocol_is_on_its_page() -> None:
    page = _page("protocol")
    names = [name for name in dir(messages) if name.endswith(("_MAX", "_MIN", "_BYTES"))]
    missing = [name for name in names if f"| `{name}` | {getattr(messages, name)} |" not in page]
    assert not missing, missing


def test_the_diagram_of_states_is_drawn_from_the_table() -> None:
    """Drawn by hand, it would be wrong after the first change."""
    assert f"```mermaid\n{mermaid()}```" in _page("client")


def test_every_field_of_a_stat_is_on_the_client_page() -> None:
    page = _page("client")
    missing = [field.name for field in fields(Stat) if f"`{field.name}`" not in page]
    assert not missing, missing


def test_every_key_of_a_status_is_on_the_protocol_page() -> None:
    """`jkcs status --json` shows the same keys."""
    page = _page("protocol")
    text = (ROOT / "jkcs_server" / "server.py").read_text(encoding="utf-8")
    keys = re.findall(r'^ +"(\w+)": ', text.partition("def status(")[2], re.MULTILINE)
    assert keys
    missing = [key for key in keys if f"`{key}`" not in page]
    assert not missing, missing
