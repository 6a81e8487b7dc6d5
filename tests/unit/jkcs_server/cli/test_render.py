"""How results look."""

from __future__ import annotations

import pytest

from jkcs_server.cli.render import duration_text, plain_table, show_table, value_json, value_shown, wants_colour


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.34, "340 ms"),
        (0.0, "0 ms"),
        (1.0, "1.0 s"),
        (9.96, "10 s"),
        (12.4, "12 s"),
        (300, "5 min"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_duration_has_the_unit_that_fits(seconds: float, text: str) -> None:
    """An uptime in seconds says nothing to people."""
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "shown", "document"),
    [
        (b"", "", {"value": ""}),
        (b"host=a\n", "host=a\n", {"value": "host=a\n"}),
        ("späť".encode(), "späť", {"value": "späť"}),
        (b"\xff\x00", "0xff00", {"value_hex": "ff00"}),
        (b"\x1b[2J", "0x1b5b324a", {"value_hex": "1b5b324a"}),
        ("\u202eabc".encode(), "0xe280ae616263", {"value_hex": "e280ae616263"}),
    ],
)
def test_value_is_text_only_when_it_is_safe_to_print(value: bytes, shown: str, document: dict[str, str]) -> None:
    """A value is written by whoever may write it; it must not steer the terminal of who reads it."""
    assert value_shown(value) == shown
    assert value_json(value) == document


def test_plain_table_is_aligned_and_ends_without_spaces() -> None:
    """Plain output is read by people in pipes and by awk."""
    table = plain_table(("node", "term"), [["n1", "7"], ["node-2", "12"]], right=("term",))
    assert table == "NODE    TERM\nn1         7\nnode-2    12"


def test_no_colour_where_standard_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a file or a pipe are rubbish."""
    assert not wants_colour()
    show_table(("a",), [["[bold]x[/bold]"]])
    assert capsys.readouterr().out == "A\n[bold]x[/bold]\n"


def test_no_colour_when_the_user_does_not_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR, set to anything, is the user's word."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour()


def test_table_on_a_terminal_shows_markup_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key called [red] is a key, not a colour."""
    monkeypatch.setattr("jkcs_server.cli.render.wants_colour", lambda: True)
    show_table(("node", "role"), [["[red]n1", "leader"], ["n2", "unreachable: connection refused"]])
    out = capsys.readouterr().out
    assert "[red]n1" in out
    assert "unreachable: connection refused" in out
