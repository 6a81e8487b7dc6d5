"""What the demo tells."""

from __future__ import annotations

import json

import pytest

from jkcs_server.cli.story import Story


def test_every_claim_stands_in_the_table_with_its_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are what the demo is for."""
    story = Story()
    story.act("An act")
    story.say("something happens")
    story.count("never shown outside a terminal")
    story.claim("nothing is lost", "5 acknowledged, 0 lost", True, lost=0)
    story.claim("the gap is short", "2000 ms", False, seconds=2.0)
    story.conclude("/tmp/kept")
    lines = capsys.readouterr().out.splitlines()
    assert "OK      nothing is lost   5 acknowledged, 0 lost" in lines
    assert "FAILED  the gap is short  2000 ms" in lines
    assert lines[-2].startswith("1 claim(s) did not hold")
    assert lines[-1] == "data and logs are in /tmp/kept"
    assert not any("never shown" in line for line in lines)


def test_demo_without_claims_has_not_held() -> None:
    """A demo that broke off at once must not end in success."""
    assert not Story().held


def test_json_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads the claims; the story is for who watches."""
    story = Story(as_json=True)
    story.say("something happens")
    story.claim("nothing is lost", "0 lost", True, lost=0)
    story.conclude(None)
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["held"] is True
    assert document["claims"] == [{"claim": "nothing is lost", "held": True, "figure": "0 lost", "lost": 0}]
    assert document["directory"] is None
    assert "something happens" in err
