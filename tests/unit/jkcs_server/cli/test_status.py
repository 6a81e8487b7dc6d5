"""The table of members."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jkcs_server.cli import status as module
from jkcs_server.cli.probe import ProbeFailed
from jkcs_server.cli.status import survey
from tests.unit.jkcs_server.cli.answering import status_of

A1, A2, A3 = ("h1", 1), ("h2", 2), ("h3", 3)
Answers = dict[tuple[str, int], Any]


def member(node: str, client: str | None, match: int | None = None) -> dict[str, Any]:
    """One member as another one describes it."""
    return {
        "node": node,
        "peer_address": f"peer-{node}:9",
        "client_address": client,
        "role": "follower",
        "match_index": match,
        "connected": True,
    }


ALL = [member("n1", "h1:1"), member("n2", "h2:2", 90), member("n3", "h3:3", 40)]
LEADER = status_of("n1", "leader", members=ALL)
DOWN = ProbeFailed("connection refused")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What each address answers; an address that is not in it is down."""
    answers: Answers = {}
    monkeypatch.setattr(module, "ask_each", lambda asked, timeout, tls: {at: answers.get(at, DOWN) for at in asked})
    return answers


def run(*arguments: str) -> Result:
    return CliRunner().invoke(module.status, arguments)


def test_members_that_the_url_does_not_name_are_found_through_those_it_does(cluster: Answers) -> None:
    """One address is enough to see the cluster."""
    cluster |= {A1: LEADER, A2: status_of("n2", applied_index=95), A3: status_of("n3")}
    members = survey([A1], 1)
    assert [(each.node, each.address, each.lag) for each in members] == [
        ("n1", "h1:1", 0),
        ("n2", "h2:2", 5),
        ("n3", "h3:3", 0),
    ]


def test_member_that_does_not_answer_keeps_its_line_with_the_reason(cluster: Answers) -> None:
    """What is missing is what the operator came for; how far it had come, the leader knows."""
    cluster |= {A1: LEADER, A2: status_of("n2")}
    result = run("jkcs://h1:1")
    assert result.exit_code == 0
    [line] = [line for line in result.output.splitlines() if line.startswith("n3 ")]
    assert line.split() == ["n3", "h3:3", "unreachable", "60", "connection", "refused"]
    [third] = [each for each in survey([A1], 1) if each.node == "n3"]
    assert third.lag == 60


def test_member_on_every_interface_is_asked_where_its_peers_find_it(cluster: Answers) -> None:
    """0.0.0.0 is an address to listen on, not one to connect to."""
    cluster |= {A1: status_of("n1", "leader", members=[member("n2", "0.0.0.0:2")]), ("peer-n2", 2): status_of("n2")}
    assert [each.address for each in survey([A1], 1)] == ["h1:1", "peer-n2:2"]


def test_member_whose_address_nobody_knows_is_listed_too(cluster: Answers) -> None:
    """It belongs to the cluster, whether or not it could be asked."""
    cluster |= {A1: status_of("n1", "leader", members=[member("n1", "h1:1"), member("n2", None), member("n3", "::")])}
    assert "where it serves clients is not known" in run("jkcs://h1:1").output


def test_member_without_an_address_for_peers_is_listed(cluster: Answers) -> None:
    """A cluster of one that lets the system choose that port has none to tell."""
    cluster[A1] = status_of("n1", "leader", members=[{**member("n1", "h1:1"), "peer_address": ""}])
    assert [(each.node, each.address) for each in survey([A1], 1)] == [("n1", "h1:1")]


def test_silent_address_of_the_url_is_given_to_the_member_on_that_host(cluster: Answers) -> None:
    """A member that is down has told nobody where it serves; two lines for it would read as two members."""
    down = [member("n2", None, 40), member("n3", None, 50)]
    cluster |= {A1: status_of("n1", "leader", members=[member("n1", "h1:1"), *down])}
    asked = [A1, ("peer-n2", 7), ("peer-n3", 8), ("elsewhere", 9)]
    found = [(each.node, each.address, each.lag) for each in survey(asked, 1)]
    assert found == [
        ("n1", "h1:1", 0),
        ("n2", "peer-n2:7", 60),
        ("n3", "peer-n3:8", 50),
        (None, "elsewhere:9", None),
    ]


def test_last_silent_address_is_given_to_the_last_silent_member_and_no_more_is_guessed(cluster: Answers) -> None:
    """On one machine all hosts are the same; one missing member is still told for sure, two are not."""
    one = [member("n1", "h1:1"), member("n2", "h2:2"), member("n3", None)]
    cluster |= {A1: status_of("n1", "leader", members=one), A2: status_of("n2")}
    assert [(each.node, each.address) for each in survey([A1, A2, A3], 1)][2:] == [("n3", "h3:3")]
    two = [member("n1", "h1:1"), member("n2", None), member("n3", None)]
    cluster.pop(A2)
    cluster |= {A1: status_of("n1", "leader", members=two)}
    assert [(each.node, each.address) for each in survey([A1, A2, A3], 1)] == [
        ("n1", "h1:1"),
        ("n2", None),
        ("n3", None),
        (None, "h2:2"),
        (None, "h3:3"),
    ]


def test_member_named_twice_is_one_line(cluster: Answers) -> None:
    """localhost and 127.0.0.1 are one node."""
    cluster |= {A1: LEADER, A2: LEADER}
    assert [each.node for each in survey([A1, A2], 1)] == ["n1", "n2", "n3"]


def test_exit_code_tells_a_cluster_without_leader(cluster: Answers) -> None:
    """A script asks for nothing else."""
    cluster |= {A1: status_of("n1", leader=None), A2: status_of("n2", leader=None)}
    result = run("jkcs://h1:1,h2:2")
    assert result.exit_code == 1
    assert result.output.endswith("no leader\n")
    assert "none" in result.output


def test_leader_that_did_not_answer_us_is_taken_from_those_who_follow_it(cluster: Answers) -> None:
    """A cluster that works must not be reported as broken because the URL names a follower only."""
    cluster |= {A2: status_of("n2", leader="n1")}
    assert run("jkcs://h2:2").exit_code == 0
    cluster |= {A1: status_of("n1", leader="n1")}  # it has just stepped down
    assert run("jkcs://h1:1,h2:2").exit_code == 1


def test_exit_code_tells_that_nobody_answered(cluster: Answers) -> None:
    """Not reached is not the same as without a leader."""
    result = run("jkcs://h1:1,h2:2")
    assert result.exit_code == 3
    assert "?     h1:1     unreachable" in result.output
    assert "connection refused" in result.output


def test_json_holds_what_each_member_said(cluster: Answers) -> None:
    """One document, also when members are down."""
    cluster |= {A1: LEADER, A2: status_of("n2")}
    result = run("jkcs://h1:1", "--json")
    document = json.loads(result.output)
    assert document["leader"] == "n1"
    assert [each["reachable"] for each in document["members"]] == [True, True, False]
    assert document["members"][0]["term"] == 3
    assert document["members"][2] == {
        "node": "n3",
        "address": "h3:3",
        "reachable": False,
        "error": "connection refused",
        "lag": 60,
    }


def test_json_without_any_answer_is_still_one_document(cluster: Answers) -> None:
    """A script must be able to read every outcome."""
    result = run("jkcs://h1:1", "--json")
    assert result.exit_code == 3
    assert json.loads(result.output)["leader"] is None


@pytest.mark.parametrize("url", ["http://h:1", "jkcs://h:x", "jkcs://"])
def test_bad_url_is_wrong_usage(url: str) -> None:
    """Nothing is asked of anybody."""
    result = run(url)
    assert result.exit_code == 2
    assert "URL" in result.output
