"""What a message of an older term gets for an answer: news of the newer one, when its sender needs it.

Called by `core.py`; everything else of an older term is dropped.
"""

from __future__ import annotations

from journal.raft.messages import Append, Heartbeat, HeartbeatReply, Message, SnapshotChunk
from journal.raft.state import State
from journal.values import NodeId


def answer_outdated(state: State, sender: NodeId, message: Message) -> None:
    """Tell a leader of an older term that its term is over.

    It may be the only one that a quorum hears. This node can no longer follow it, and as long as the others
    hear it they grant no pre-vote: without this answer the node would stay out for ever.

    The answer is an echo of no round at all, whatever was asked. It carries the newer term, and the asker
    may by now lead in it: it must not take an answer to its former self for one to a question of this term.
    """
    assert message.term < state.term, (message.term, state.term)
    if isinstance(message, Append | Heartbeat | SnapshotChunk):
        state.send(sender, HeartbeatReply(state.term, 0))
