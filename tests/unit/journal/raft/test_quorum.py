"""Quorum arithmetic, checked against a second implementation that is too simple to be wrong."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.raft.quorum import VoteResult, has_quorum, quorum_value, vote_result
from journal.values import Configuration, NodeId

NAMES = tuple(NodeId(name) for name in "abcdefg")


def halves(configuration: Configuration) -> list[tuple[NodeId, ...]]:
    return [half for half in (configuration.voters, configuration.outgoing) if half]


def quorums(half: tuple[NodeId, ...]) -> list[tuple[NodeId, ...]]:
    return list(combinations(half, len(half) // 2 + 1))


def slow_value(configuration: Configuration, values: dict[NodeId, int]) -> int:
    """The highest value for which some set of nodes, a majority of each half, has reached it."""
    return max(
        value
        for value in values.values()
        if all(
            any(all(values[node] >= value for node in quorum) for quorum in quorums(half))
            for half in halves(configuration)
        )
    )


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    voters = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    outgoing = draw(st.sets(st.sampled_from(NAMES)))
    return Configuration(tuple(sorted(voters)), tuple(sorted(outgoing)))


@given(configurations(), st.lists(st.integers(0, 4), min_size=7, max_size=7))
def test_the_quorum_value_is_what_some_majority_of_each_half_has_reached(
    configuration: Configuration, numbers: list[int]
) -> None:
    """A commit index counted in one half only splits a joint cluster (RELIABILITY 38)."""
    values = dict(zip(NAMES, numbers, strict=True))
    members = {node: values[node] for node in configuration.members}
    assert quorum_value(configuration, values.__getitem__) == slow_value(configuration, members)


@pytest.mark.parametrize("size", range(1, 8))
def test_every_vote_of_a_plain_configuration_is_judged_right(size: int) -> None:
    """Exhaustive up to seven nodes: won, lost, or open exactly when the missing votes decide."""
    voters = NAMES[:size]
    for answers in product((True, False, None), repeat=size):
        votes = {node: answer for node, answer in zip(voters, answers, strict=True) if answer is not None}
        yes, no = answers.count(True), answers.count(False)
        if yes > size // 2:
            expected = VoteResult.WON
        elif size - no <= size // 2:
            expected = VoteResult.LOST
        else:
            expected = VoteResult.PENDING
        assert vote_result(Configuration(voters), votes) is expected, votes


@given(configurations(), st.lists(st.sampled_from((True, False, None)), min_size=7, max_size=7))
def test_a_joint_vote_needs_both_halves(configuration: Configuration, answers: list[bool | None]) -> None:
    """Lost in one half is lost; won in both is won; anything else is open."""
    votes = {node: answer for node, answer in zip(NAMES, answers, strict=True) if answer is not None}
    each = [vote_result(Configuration(half), votes) for half in halves(configuration)]
    if VoteResult.LOST in each:
        expected = VoteResult.LOST
    elif VoteResult.PENDING in each:
        expected = VoteResult.PENDING
    else:
        expected = VoteResult.WON
    assert vote_result(configuration, votes) is expected


@given(configurations(), st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_two_quorums_of_one_configuration_always_meet(
    configuration: Configuration, one: set[NodeId], other: set[NodeId]
) -> None:
    """I9: everything else in Raft rests on it."""
    if has_quorum(configuration, one.__contains__) and has_quorum(configuration, other.__contains__):
        assert one & other & set(configuration.members)


def test_strangers_and_learners_count_for_nothing() -> None:
    """A learner's vote or disk must not make a majority (RELIABILITY 41)."""
    configuration = Configuration(NAMES[:3], learners=NAMES[3:5])
    votes = {NAMES[0]: True, NAMES[3]: True, NAMES[4]: True, NodeId("stranger"): True}
    assert vote_result(configuration, votes) is VoteResult.PENDING
