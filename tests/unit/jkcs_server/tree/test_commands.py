"""The commands' numbers are a format: they stand in every log and in every backup."""

from __future__ import annotations

from jkcs_client.protocol import messages
from jkcs_server.tree import commands


def test_the_clusters_own_commands_keep_their_numbers() -> None:
    """A log that was written by an earlier release must mean the same: there a number that changes is another command,
    or none, and replicas of two releases would drift apart in silence."""
    numbers = (commands.OPEN, commands.EXPIRE, commands.MOVE, commands.REAP, commands.IDENTIFIED)
    assert numbers == (64, 65, 66, 67, 256)
    assert commands.MOVE_SERIALS == 1 << 20


def test_clients_writes_keep_theirs() -> None:
    """The same: a client's request becomes a command as it is, and an older client sends them, too."""
    names = ("CREATE", "SET", "DELETE", "CHECK", "GUARD", "MULTI", "CLOSE", "SET_ACL", "SEQUENCE")
    assert [getattr(messages, name) for name in names] == list(range(16, 25))
    flags = [(flag.name, flag.value) for flag in messages.CreateFlag]
    expected = ("EPHEMERAL", "SEQUENTIAL", "PARENTS", "CONTAINER", "TTL", "INT32")
    assert flags == [(name, 1 << bit) for bit, name in enumerate(expected)]
