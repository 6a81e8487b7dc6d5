"""The transition table, whole."""

from __future__ import annotations

import itertools

import pytest

from jkcs_client.lifecycle import ENDED, TRANSITIONS, Lifecycle, State, Trigger, mermaid

EVERYTHING = list(itertools.product(State, Trigger))


@pytest.mark.parametrize(("state", "trigger"), EVERYTHING)
def test_every_pair_is_a_row_or_a_mistake_of_ours(state: State, trigger: Trigger) -> None:
    """Exhaustive: a pair that nobody thought of must not pass in silence."""
    lifecycle = Lifecycle()
    lifecycle.state = state
    if (state, trigger) in TRANSITIONS:
        assert lifecycle.on(trigger) is TRANSITIONS[state, trigger] is lifecycle.state
    else:
        with pytest.raises(AssertionError):
            lifecycle.on(trigger)


def test_nothing_leads_back_from_an_ended_session() -> None:
    """A client that silently took a new session would let its owner believe in locks that are gone."""
    for (before, _), after in TRANSITIONS.items():
        if before in ENDED:
            assert after is State.CLOSED


def test_every_state_but_the_first_can_be_reached_and_closed() -> None:
    """A state without a way in or out is a bug in the table."""
    for state in State:
        assert state is State.CONNECTING or state in TRANSITIONS.values()
        assert state is State.CLOSED or (state, Trigger.CLOSED) in TRANSITIONS


def test_a_client_is_born_connecting() -> None:
    """Before the first hello there is no session to lose."""
    assert Lifecycle().state is State.CONNECTING
    assert not Lifecycle().ended


def test_the_diagram_shows_every_row() -> None:
    """The documentation's picture is drawn from the table, so it cannot be out of date."""
    drawn = mermaid()
    assert drawn.startswith("stateDiagram-v2\n")
    for (before, trigger), after in TRANSITIONS.items():
        assert f"{before.name} --> {after.name}: {trigger.value}\n" in drawn
