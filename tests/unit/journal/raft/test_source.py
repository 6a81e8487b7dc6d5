"""What a source answers, and whom it sends its snapshot."""

from __future__ import annotations

from journal.raft.messages import PullReply, PullRequest
from journal.raft.source import INSTALL_SECONDS
from journal.raft.state import State
from journal.values import Configuration, Index, Term
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
