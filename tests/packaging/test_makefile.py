"""The Makefile on machines that lack something: it must say what, in words, and must not half-install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the set-up reads of a clone."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the surroundings: make itself sets MAKEFLAGS for the tests' own make.
    environment = {"PATH": os.environ["PATH"], "HOME": str(clone)}
    return subprocess.run(
        ["make", "-C", str(clone), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_an_old_python_is_refused_by_name(clone: Path) -> None:
    """The usual cause of a first try that fails; a traceback of pip would not say it."""
    old = script(clone / "python-old", "exit 1")
    done = make(clone, "setup", f"PYTHON={old}")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr and str(old) in done.stderr
    assert not (clone / ".venv").exists()


def test_a_python_without_venv_is_refused_with_the_package_to_install(clone: Path) -> None:
    """Debian and Ubuntu ship venv in a package of its own."""
    bare = script(clone / "python-bare", 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac')
    done = make(clone, "setup", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "python3-venv" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_second_run_installs_nothing(clone: Path) -> None:
    """`make test` is typed all day; only a changed pyproject.toml is a reason to install."""
    stamp = clone / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    after = stamp.stat().st_mtime + 10
    os.utime(stamp, (after, after))
    assert make(clone, "setup", "PYTHON=/nonexistent").returncode == 0
    os.utime(clone / "pyproject.toml", (after + 10, after + 10))
    assert make(clone, "setup", "PYTHON=/nonexistent").returncode != 0


def test_an_installation_that_failed_is_tried_again(clone: Path) -> None:
    """The stamp is written last: with a broken pip there must be none."""
    pip = script(clone / "pip-broken", 'test "$3" != install')
    python = script(clone / "python-new", f'if [ "$2" = venv ]; then mkdir -p "$4/bin"; cp {pip} "$4/bin/python"; fi')
    done = make(clone, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert (clone / ".venv" / "bin" / "python").exists()
    assert not (clone / ".venv" / ".installed").exists()


def test_help_names_every_target(clone: Path) -> None:
    """`make` alone prints it."""
    text = (clone / "Makefile").read_text(encoding="utf-8")
    targets = text.partition(".PHONY:")[2].splitlines()[0].split()
    shown = make(clone).stdout
    assert [name for name in targets if name not in ("help", "setup") and f"make {name} " not in shown] == []


def test_the_sources_say_which_python_they_need() -> None:
    """The Makefile's bound and the package's must not drift apart."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11"' in pyproject
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert sys.version_info >= (3, 11)
