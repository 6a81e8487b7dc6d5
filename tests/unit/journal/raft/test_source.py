"""What a source answers, and whom it sends its snapshot."""

from __future__ import annotations

from journal.raft.messages import AppendReply, Heartbeat, Message, PullReply, PullRequest
from journal.raft.source import INSTALL_SECONDS
from journal.raft.state import State
from journal.values import Configuration, Index, Position, SnapshotMeta, Term
from tests.support.raft_cluster import Alone, node_names, position_after

NAMES = node_names(5)
OBSERVER = NAMES[3]


def source(entries: int, *, cut_at: int = 0) -> Alone:
    """A leader with so many committed entries, of which a snapshot covers the first `cut_at`."""
    node = Alone(*[1] * entries, configuration=Configuration(NAMES[:3], observers=NAMES[3:]))
    node.lead()
    node.acknowledge("n2", "n3")
    if cut_at:
        node.node.snapshot(keep=len(node.disk.entries) - cut_at)
        assert node.disk.start == position_after(node.entries[cut_at - 1])
    return node


def ask(node: Alone, after: int, *, seconds: float = 0.0) -> tuple[PullReply, list[str]]:
    """An observer's question after a while: its answer, and for whom a snapshot is wanted."""
    node.cluster.now += seconds
    node.core.step(OBSERVER, PullRequest(node.core.term, Index(after), False), node.cluster.now)
    wanted = [str(peer) for peer in state_of(node).snapshots_wanted]
    state_of(node).snapshots_wanted.clear()
    [reply] = [message for to, message in node.sent() if to == OBSERVER and isinstance(message, PullReply)]
    return reply, wanted


def state_of(node: Alone) -> State:
    return node.core._state


def test_what_is_on_the_sources_disk_and_committed_is_handed_out() -> None:
    """With the place that it follows, so that the observer can tell whether it has the same log."""
    node = source(3)
    reply, wanted = ask(node, 2)
    assert [entry.first for entry in reply.entries] == [3, 4]
    assert (reply.previous_index, reply.previous_term, reply.previous_crc) == (2, 1, node.entries[1].crc)
    assert (reply.commit, reply.compacted, wanted) == (4, False, [])
    assert (reply.leader, reply.hops, reply.term) == ("n1", 0, node.core.term)


def test_an_observer_too_far_behind_is_told_that_a_snapshot_follows() -> None:
    """Without that word it would ask again at once, and be answered, and ask, as fast as the link goes."""
    node = source(6, cut_at=4)
    reply, wanted = ask(node, 2)
    assert (reply.compacted, reply.entries, reply.commit) == (True, [], node.core.commit)
    assert wanted == [OBSERVER]


def test_a_snapshot_is_wanted_once_in_a_while() -> None:
    """Whoever asks again soon is told the same; one that waited as long as it should may have lost it on its way."""
    node = source(6, cut_at=4)
    timeout = node.cluster.timing.election_timeout
    assert ask(node, 2)[1] == [OBSERVER]
    assert node.core.peers_in_snapshot() == (OBSERVER,)
    for _ in range(5):
        reply, wanted = ask(node, 2, seconds=timeout / 2)
        assert reply.compacted and wanted == []
    assert ask(node, 2, seconds=timeout * 1.01)[1] == [OBSERVER]


def test_an_observer_that_has_its_snapshot_gets_the_log_behind_it() -> None:
    """From then on nothing is sent beside the log."""
    node = source(6, cut_at=4)
    ask(node, 2)
    reply, wanted = ask(node, 4, seconds=0.1)
    assert ([entry.first for entry in reply.entries], reply.compacted, wanted) == ([5, 6, 7], False, [])
    assert node.core.peers_in_snapshot() == ()


def test_an_observer_that_asks_no_more_gets_no_more() -> None:
    """It takes its snapshot from somebody else, or is gone."""
    node = source(6, cut_at=4)
    ask(node, 2)
    node.cluster.now += INSTALL_SECONDS
    node.core.tick(node.cluster.now)
    assert node.core.peers_in_snapshot() == (OBSERVER,)
    node.cluster.now += 0.1
    node.core.tick(node.cluster.now)
    assert node.core.peers_in_snapshot() == ()


def test_a_question_of_a_newer_term_ends_the_older_one() -> None:
    """Whoever pulls has heard of an election that the source has not."""
    node = source(3)
    node.core.step(OBSERVER, PullRequest(Term(9), Index(0), False), node.cluster.now)
    assert node.core.term == 9


def pulls(sent: list[tuple[str, Message]]) -> list[list[int]]:
    """The answers to the observer: the first index of each entry."""
    return [[entry.first for entry in reply.entries] for to, reply in sent if isinstance(reply, PullReply)]


def test_a_question_that_finds_nothing_new_waits_for_what_comes() -> None:
    """And is answered once: the observer asks again with what it then has."""
    node = source(3)
    end = node.core.commit
    assert pulls(node.step(OBSERVER, PullRequest(node.core.term, end, True))) == []
    assert node.core._source.has_observers
    node.propose()
    assert pulls(node.sent()) == [], "it is not committed"
    assert pulls(node.acknowledge("n2")) == [[end + 1]]
    assert not node.core._source.has_observers
    node.propose()
    assert pulls(node.acknowledge("n2")) == []


def test_one_that_will_not_wait_is_answered_with_nothing() -> None:
    """It wants to know who leads; and hears of what comes all the same."""
    node = source(3)
    end = node.core.commit
    [(_, reply)] = node.step(OBSERVER, PullRequest(node.core.term, end, False))
    assert isinstance(reply, PullReply)
    assert (reply.entries, reply.commit, reply.leader, reply.compacted) == ([], end, "n1", False)
    node.propose()
    assert pulls(node.acknowledge("n2")) == [[end + 1]]


def test_only_the_newest_question_counts() -> None:
    """What an observer asked before it started anew must not be answered, too: each answer brings a question."""
    node = source(3)
    node.step(OBSERVER, PullRequest(node.core.term, node.core.commit, True))
    assert pulls(node.step(OBSERVER, PullRequest(node.core.term, Index(1), True))) == [[2, 3, 4]]
    node.propose()
    assert pulls(node.acknowledge("n2")) == []


def test_a_question_goes_with_its_connection() -> None:
    """The observer has left for another source: to send it the log from here as well would be for nothing."""
    node = source(3)
    node.step(OBSERVER, PullRequest(node.core.term, node.core.commit, True))
    node.core.peer_lost(OBSERVER, node.cluster.now)
    assert not node.core._source.has_observers
    node.propose()
    assert pulls(node.acknowledge("n2")) == []


def test_nothing_is_handed_out_that_is_not_on_the_sources_own_disk() -> None:
    """A crash of it would leave it behind its observers, who would then have what nobody here has."""
    node = source(3)
    end = node.core.commit
    node.propose()
    node.sent()
    node.propose()
    for peer in ("n2", "n3"):
        node.step(peer, AppendReply(node.core.term, node.core.last_index), save=False)
    assert (node.core.commit, node.core.durable) == (end + 2, end + 1)
    [(_, reply)] = node.step(OBSERVER, PullRequest(node.core.term, Index(end - 1), False), save=False)
    assert isinstance(reply, PullReply)
    assert ([entry.first for entry in reply.entries], reply.commit) == ([end, end + 1], end + 1)


def test_a_source_that_installs_a_snapshot_has_nothing_to_hand_out() -> None:
    """Its log is about to be replaced."""
    node = Alone(1, 1, 1, configuration=Configuration(NAMES[:3], observers=NAMES[3:]))
    node.step("n2", Heartbeat(Term(1), Index(3), 1))
    assert node.core.commit == 3
    assert node.core.begin_restore(SnapshotMeta(Position(Index(9), Term(1), 1, 0), Configuration(NAMES[:3]), 1))
    [(_, reply)] = node.step(OBSERVER, PullRequest(Term(1), Index(1), False))
    assert isinstance(reply, PullReply) and (reply.entries, reply.compacted, reply.leader) == ([], False, "n2")
