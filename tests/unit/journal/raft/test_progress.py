"""A peer's progress: three states, a window, and answers that come late."""

from __future__ import annotations

from journal.raft.progress import Progress, ProgressState
from journal.values import Index, NodeId


def progress(following: int = 11, *, match: int | None = None) -> Progress:
    """A peer that is probed, or one that replicates from `match` on."""
    made = Progress(NodeId("n2"), Index(following), 0.0, 0.1, 0.6)
    if match is not None:
        made.next = Index(match + 1)
        made.accepted(Index(match), 0.0)
        assert made.state is ProgressState.REPLICATE
    return made


def test_a_probe_waits_for_its_answer_and_success_opens_the_window() -> None:
    """While it is unknown where logs agree, more than one append would be thrown away."""
    peer = progress()
    peer.sent(Index(10), 1.0)
    assert peer.probe_waits and peer.next == 11
    assert peer.accepted(Index(10), 1.1)
    assert (peer.state, peer.match, peer.next) == (ProgressState.REPLICATE, 10, 11)
    peer.sent(Index(15), 1.2)
    peer.sent(Index(20), 1.2)
    assert (peer.next, list(peer.in_flight)) == (21, [15, 20])
    assert peer.accepted(Index(15), 1.3)
    assert list(peer.in_flight) == [20]
    assert peer.accepted(Index(20), 1.4)
    assert not peer.in_flight


def test_late_answers_move_nothing_back() -> None:
    """Match and next only grow (RELIABILITY 18)."""
    peer = progress(match=20)
    peer.sent(Index(30), 1.0)
    assert not peer.accepted(Index(5), 1.1)
    assert (peer.match, peer.next, list(peer.in_flight)) == (20, 31, [30])
    assert peer.is_late_refusal(Index(20))
    assert not peer.is_late_refusal(Index(25))


def test_a_late_answer_does_not_pass_for_the_probe_that_is_out() -> None:
    """It says nothing about the place that is probed."""
    peer = progress(match=5)
    peer.become_probe()
    peer.next = Index(11)
    peer.sent(Index(10), 1.0)
    peer.accepted(Index(4), 1.1)
    assert peer.state is ProgressState.PROBE and peer.probe_waits
    assert peer.is_late_refusal(Index(9)) and not peer.is_late_refusal(Index(10))


def test_a_refused_probe_goes_back_even_behind_what_was_acknowledged() -> None:
    """A peer whose disk lost its tail must be filled up again, and `match` stays (RELIABILITY R5)."""
    peer = progress(match=20)
    peer.become_probe()
    peer.sent(Index(20), 1.0)
    peer.retry_from(Index(8))
    assert (peer.match, peer.next, peer.probe_waits) == (20, 8, False)
    peer.sent(Index(10), 1.1)
    peer.accepted(Index(10), 1.2)
    assert (peer.state, peer.match, peer.next) == (ProgressState.REPLICATE, 20, 11)


def test_a_lost_append_is_given_up_after_a_while_and_patience_doubles() -> None:
    """Loss must not stop a peer for ever, and a slow disk must not be flooded."""
    peer = progress(match=5)
    peer.sent(Index(9), 1.0)
    assert not peer.give_up_waiting(1.05)
    assert peer.give_up_waiting(1.11)
    assert (peer.state, peer.next) == (ProgressState.PROBE, 6)
    peer.sent(Index(9), 1.11)
    assert not peer.give_up_waiting(1.30)
    assert peer.give_up_waiting(1.32)
    peer.sent(Index(9), 1.32)
    assert not peer.give_up_waiting(1.70)
    for _ in range(10):
        peer.give_up_waiting(peer.moved_at + 0.61)
        peer.sent(Index(9), peer.moved_at)
    assert peer.give_up_waiting(peer.moved_at + 0.61)
    peer.sent(Index(9), 9.0)
    peer.accepted(Index(9), 9.1)
    peer.sent(Index(12), 9.1)
    assert peer.give_up_waiting(9.21)


def test_a_peer_with_nothing_in_flight_is_not_disturbed() -> None:
    """An idle cluster sends heartbeats and nothing else."""
    peer = progress(match=5)
    assert not peer.give_up_waiting(1000.0)
    assert peer.state is ProgressState.REPLICATE


def test_a_probe_given_up_is_repeated_at_the_same_place() -> None:
    """Going back to `match` would forget what refusals have taught."""
    peer = progress(50)
    peer.sent(Index(49), 1.0)
    assert peer.give_up_waiting(1.2)
    assert (peer.next, peer.probe_waits) == (50, False)


def test_after_a_broken_connection_the_next_sign_of_life_restarts_the_probe() -> None:
    """What was in flight is lost, and nothing sent into the gap would arrive."""
    peer = progress(match=5)
    peer.sent(Index(9), 1.0)
    peer.lost()
    assert peer.state is ProgressState.PROBE and peer.probe_waits and not peer.in_flight
    assert peer.give_up_waiting(1.001)
    assert (peer.next, peer.probe_waits) == (6, False)


def test_an_installed_snapshot_is_followed_by_a_probe() -> None:
    """An answer that comes twice, or after the state has moved on, only confirms `match`."""
    peer = progress()
    peer.become_snapshot(1.0)
    assert peer.is_late_refusal(Index(10))
    peer.installed(Index(40), 2.0)
    assert (peer.state, peer.match, peer.next) == (ProgressState.PROBE, 40, 41)
    peer.sent(Index(40), 2.0)
    peer.accepted(Index(40), 2.1)
    peer.sent(Index(50), 2.2)
    peer.installed(Index(40), 2.3)
    assert (peer.state, peer.next) == (ProgressState.REPLICATE, 51)
