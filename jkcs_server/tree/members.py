"""The text of `/zookeeper/config`: who the members are, as ZooKeeper's clients read it.

Knows nothing of the tree. Called by `machine` when a configuration is applied.
"""

from __future__ import annotations

from journal.values import Configuration


def describe(configuration: Configuration, index: int) -> bytes:
    """One line for each member whose address the configuration carries, and the version: the entry's index.

    Of ZooKeeper's two ports of a member both are ours, for there is one. Who is still learning is called an observer:
    it has no say yet.
    """
    lines = []
    for name, address in configuration.addresses:
        host, _, port = address.rpartition(":")
        if configuration.has_say(name):
            lines.append(f"server.{name}={host}:{port}:{port}:participant")
        elif name in configuration.observers or name in configuration.learners:
            lines.append(f"server.{name}={host}:{port}:{port}:observer")
    lines.append(f"version={index:x}")
    return "\n".join(lines).encode()
