"""The architecture as tables: which floor each module stands on, and which package may import which.

docs/ARCHITECTURE.md says what the floors mean. A new module is entered here by whoever makes it; where it cannot be
entered without moving another one, its place is wrong or the page is, and one of them is mended in the same change.
"""

from __future__ import annotations

FLOORS: dict[str, int] = {
    # journal
    "journal": 0,
    "journal.clock": 2,
    "journal.errors": 0,
    "journal.limits": 0,
    "journal.machine": 0,
    "journal.members": 3,
    "journal.peers": 0,
    "journal.peers.codec": 0,
    "journal.peers.handshake": 0,
    "journal.peers.links": 2,
    "journal.peers.network": 2,
    "journal.peers.tcp": 2,
    "journal.proposing": 3,
    "journal.raft": 0,
    "journal.raft.candidate": 1,
    "journal.raft.changes": 1,
    "journal.raft.core": 1,
    "journal.raft.digests": 1,
    "journal.raft.follower": 1,
    "journal.raft.leader": 1,
    "journal.raft.log": 1,
    "journal.raft.membership": 1,
    "journal.raft.messages": 0,
    "journal.raft.observer": 1,
    "journal.raft.outdated": 1,
    "journal.raft.progress": 1,
    "journal.raft.quorum": 1,
    "journal.raft.reads": 1,
    "journal.raft.ready": 0,
    "journal.raft.source": 1,
    "journal.raft.state": 1,
    "journal.raft.view": 1,
    "journal.raft.voter": 1,
    "journal.reading": 3,
    "journal.record": 0,
    "journal.replica": 3,
    "journal.saving": 3,
    "journal.snapshotting": 3,
    "journal.storage": 0,
    "journal.storage.disk": 2,
    "journal.storage.metadata": 2,
    "journal.storage.recovery": 1,
    "journal.storage.segment": 2,
    "journal.storage.snapshots": 2,
    "journal.storage.store": 2,
    "journal.storage.wal": 2,
    "journal.storage.worker": 2,
    "journal.values": 0,
    # jkcs_client
    "jkcs_client": 4,
    "jkcs_client.address": 0,
    "jkcs_client.backoff": 1,
    "jkcs_client.bell": 3,
    "jkcs_client.client": 4,
    "jkcs_client.connection": 1,
    "jkcs_client.dialer": 2,
    "jkcs_client.fencing": 4,
    "jkcs_client.keys": 4,
    "jkcs_client.lifecycle": 1,
    "jkcs_client.liveness": 1,
    "jkcs_client.operations": 1,
    "jkcs_client.paths": 0,
    "jkcs_client.protocol": 0,
    "jkcs_client.protocol.errors": 0,
    "jkcs_client.protocol.framing": 0,
    "jkcs_client.protocol.messages": 0,
    "jkcs_client.recipes": 4,
    "jkcs_client.requests": 1,
    "jkcs_client.session": 3,
    "jkcs_client.transaction": 3,
    "jkcs_client.values": 0,
    "jkcs_client.watches": 1,
    "jkcs_client.watching": 3,
    # recipes
    "recipes": 4,
    "recipes.contenders": 3,
    "recipes.lock": 3,
    # jkcs_server
    "jkcs_server": 4,
    "jkcs_server.bench": 4,
    "jkcs_server.bench.cells": 0,
    "jkcs_server.bench.clusters": 4,
    "jkcs_server.bench.driver": 3,
    "jkcs_server.bench.figures": 1,
    "jkcs_server.bench.jute": 1,
    "jkcs_server.bench.line": 0,
    "jkcs_server.bench.measure": 3,
    "jkcs_server.bench.native": 1,
    "jkcs_server.bench.report": 3,
    "jkcs_server.bench.sitting": 3,
    "jkcs_server.bench.subject": 0,
    "jkcs_server.bench.usage": 2,
    "jkcs_server.bench.work": 0,
    "jkcs_server.bench.zookeeper": 4,
    "jkcs_server.cli": 4,
    "jkcs_server.cli.bench": 4,
    "jkcs_server.cli.demo": 4,
    "jkcs_server.cli.demo_load": 4,
    "jkcs_server.cli.demo_worker": 4,
    "jkcs_server.cli.dev": 4,
    "jkcs_server.cli.exits": 4,
    "jkcs_server.cli.main": 4,
    "jkcs_server.cli.parent": 4,
    "jkcs_server.cli.probe": 4,
    "jkcs_server.cli.processes": 4,
    "jkcs_server.cli.render": 4,
    "jkcs_server.cli.serve": 4,
    "jkcs_server.cli.shell": 4,
    "jkcs_server.cli.shell_commands": 4,
    "jkcs_server.cli.shell_lines": 4,
    "jkcs_server.cli.shell_prompt": 4,
    "jkcs_server.cli.status": 4,
    "jkcs_server.cli.story": 4,
    "jkcs_server.config": 0,
    "jkcs_server.loopback": 2,
    "jkcs_server.node": 4,
    "jkcs_server.server": 4,
    "jkcs_server.serving": 0,
    "jkcs_server.serving.lane": 1,
    "jkcs_server.serving.listener": 2,
    "jkcs_server.serving.native": 1,
    "jkcs_server.serving.requests": 3,
    "jkcs_server.serving.silence": 1,
    "jkcs_server.serving.watches": 1,
    "jkcs_server.tree": 0,
    "jkcs_server.tree.apply": 1,
    "jkcs_server.tree.checks": 1,
    "jkcs_server.tree.commands": 0,
    "jkcs_server.tree.image": 1,
    "jkcs_server.tree.keytree": 1,
    "jkcs_server.tree.machine": 1,
    "jkcs_server.tree.paths": 0,
    "jkcs_server.tree.sessions": 1,
}

ARROWS: dict[str, tuple[str, ...]] = {
    "journal": (),
    "jkcs_client.protocol": (),
    "jkcs_client": (),
    # The one module that looks back, so that users find the recipes where they expect them.
    "jkcs_client.recipes": ("jkcs_client", "recipes"),
    "recipes": ("jkcs_client",),
    "jkcs_server": ("journal", "jkcs_client.protocol"),
    # Assembly: the embedded node hands out a client, and the command line is a client of its own.
    "jkcs_server.node": ("jkcs_server", "journal", "jkcs_client"),
    "jkcs_server.cli": ("jkcs_server", "journal", "jkcs_client", "recipes"),
    "jkcs_server.bench": ("jkcs_server", "journal", "jkcs_client", "recipes"),
}
"""Area -> what it may import beside itself. The longest area that fits a module is its own."""

STRANGERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "journal.raft": (("journal.storage", "journal.peers", "journal.replica"), ()),
    "journal.storage": (("journal.raft", "journal.peers", "journal.replica"), ()),
    # The messages are the contract between the core and whoever carries them.
    "journal.peers": (("journal.raft", "journal.storage", "journal.replica"), ("journal.raft.messages",)),
    "jkcs_server.tree": (("jkcs_server.serving", "jkcs_server.cli"), ()),
}
"""Area -> (what it knows nothing of, the exceptions)."""

FACADES: dict[str, tuple[str, ...]] = {
    # The loop that its owner starts and is told by, and the seam to time that both sides need.
    "journal": ("journal", "journal.replica", "journal.clock"),
    "jkcs_client": ("jkcs_client", "jkcs_client.client"),
    "recipes": ("recipes",),
    "jkcs_server": ("jkcs_server",),
}
"""Package -> the modules through which others may enter it, beside its values of floor 0."""

PRINTERS: tuple[str, ...] = ("jkcs_server.cli",)
"""Where print() may stand."""

ENTRY_POINTS: tuple[str, ...] = ("jkcs_server.cli.main", "jkcs_client.recipes")
"""Modules that are started or imported by users, not by other modules of the product."""

PACKAGE_TESTS: tuple[str, ...] = (
    "jkcs_server/tree/test_model.py",
    "journal/raft/test_random_cluster.py",
)
"""Tests below tests/unit that are about a whole package, and named after what they set it against."""
