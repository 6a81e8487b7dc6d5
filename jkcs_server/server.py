"""One server: replica, tree and client connections joined, with every edge passed in.

The node gives it real files, sockets and clocks, the simulator simulated ones; the server does not know
the difference. It owns the order of start and stop, and what `status` tells.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jkcs_client.protocol.errors import OK
from jkcs_server.config import ANYWHERE, NodeConfig, show_address
from jkcs_server.facts import ServerFacts
from jkcs_server.monitoring import Monitoring
from jkcs_server.serving.admin import AdminDesk, Handler
from jkcs_server.serving.crowd import Crowd
from jkcs_server.serving.fourletter import answer
from jkcs_server.serving.listener import ClientProtocol
from jkcs_server.serving.requests import Requests
from jkcs_server.serving.snapshots import SnapshotShelf
from journal.addresses import URL_PREFIX
from journal.administration import Administration
from journal.clock import Scheduler
from journal.cluster import ReplicaCluster
from journal.peers.network import Network
from journal.raft.ready import Role
from journal.replica import Replica
from journal.scrubbing import Scrubbing
from journal.storage.disk import Disk
from journal.storage.store import INCARNATION_BYTES, Identity, Store
from journal.storage.worker import Worker
from journal.values import Configuration, NodeId

logger = logging.getLogger("jkcs_server")

ADMIN_PATIENCE_TIMEOUTS = 5
"""A leader has so many election timeouts to answer what another node passes on to it."""


@dataclass(frozen=True, slots=True)
class Edges:
    """The ways from a server to the world outside."""

    scheduler: Scheduler
    disk: Disk
    sync_worker: Worker
    """One thread, for the log and the metadata only: nothing else may delay a sync."""
    background_worker: Worker
    """For snapshots, and for reading cold files again."""
    network: Network
    random: random.Random
    wall: Callable[[], int]
    """Milliseconds since 1970."""
    entropy: Callable[[int], bytes]
    """Unguessable bytes, for session passwords."""


class Server:
    """A member of the cluster that serves clients. Everything runs on the scheduler's thread."""

    def __init__(self, config: NodeConfig, edges: Edges) -> None:
        """Recovers from the disk: raises StorageError when the data directory cannot be used."""
        config.check()
        self.config = config
        self.edges = edges
        self.on_failed: Callable[[BaseException], None] = lambda error: None
        """Called once when the server has stopped by itself."""
        self.client_address: str | None = None
        """Where clients reach this server, for `status`; set by who listens."""
        me = NodeId(config.me)
        self.store = Store.open(
            edges.disk,
            Identity(config.cluster, me),
            config.limits,
            first_configuration(config),
            edges.entropy(INCARNATION_BYTES),
        )
        self._compare_members()
        self.requests = Requests(
            config.me,
            edges.scheduler,
            edges.entropy,
            history_events=config.history_events,
            timeout_ms_min=round(config.session_timeout_min * 1000),
            timeout_ms_max=round(config.session_timeout_max * 1000),
            connections_max=config.connections_max,
            super_digest=config.super_digest,
            x509_super=config.x509_super,
            audit=config.audit,
        )
        self.machine = self.requests.machine
        self.replica = Replica(
            me,
            self.store,
            {0: self.machine},
            self.requests,
            scheduler=edges.scheduler,
            network=edges.network,
            sync_worker=edges.sync_worker,
            background_worker=edges.background_worker,
            chance=edges.random.random,
            wall=edges.wall,
            limits=config.limits,
            timing=config.timing,
        )
        self.scrubbing = Scrubbing(self.store, edges.background_worker, edges.scheduler, config.limits)
        self.replica.core.pull_from([NodeId(name) for name in config.pull_from])
        self.requests.bind(self.replica, self.status, self._failed)
        self._started_at = edges.scheduler.time()
        self._monitoring = Monitoring(
            self.replica, edges.disk, str(config.data_dir), config.timing.election_timeout, edges.scheduler.time
        )
        self._answer_words()
        self._admit_administrators()

    def _answer_words(self) -> None:
        """Let the desk answer ZooKeeper's four-letter words."""
        config, edges = self.config, self.edges
        facts = ServerFacts(
            config,
            self.requests,
            self._monitoring,
            version=package_version(),
            client_address=lambda: self.client_address,
            connected=edges.network.connected,
            now=edges.scheduler.time,
            wall=edges.wall,
        )
        self.requests.on_word = lambda word: answer(word, facts, config.four_letter_words)

    def _admit_administrators(self) -> None:
        """Join what answers ADMIN requests to the desk that takes them."""
        config, edges, replica = self.config, self.edges, self.replica
        cluster = ReplicaCluster(replica, edges.scheduler)
        patience = ADMIN_PATIENCE_TIMEOUTS * config.timing.election_timeout
        administration = Administration(cluster, edges.scheduler, patience)
        shelf = SnapshotShelf(replica, edges.background_worker.submit, config.limits.snapshot_chunk_bytes)
        handlers: dict[str, Handler] = {
            "server_status": lambda _, done: done(OK, self.server_status()),
            "list_snapshots": shelf.list,
            "download_snapshot": shelf.download,
        }
        desk = AdminDesk(administration, handlers, from_anywhere=config.admin_from == ANYWHERE)
        self.requests.administrate_with(desk, administration)

    def _compare_members(self) -> None:
        """Say so when the configuration names others than the data directory: the directory is right."""
        known, named = set(self.store.configuration.members), set(self.config.peers)
        if known != named and not self.store.configurations():
            logger.warning(
                "%s: the members are %s, as of the data directory; the configuration names %s, whose addresses are "
                "used where they are members. Change members with jkcs admin",
                self.config.me,
                ", ".join(sorted(known)),
                ", ".join(sorted(named)),
            )

    async def start(self) -> None:
        """Listen to peers and begin to take part."""
        await self.edges.network.start(self.replica)
        self.replica.start()
        self.scrubbing.start()
        self.requests.start()

    def accept(self) -> ClientProtocol:
        """The server's end of one client connection: an asyncio protocol, whatever carries its bytes."""
        return ClientProtocol(self.requests.accept, Crowd(0))

    async def hand_over(self, seconds: float) -> None:
        """Let another node lead, if this one does, and wait until it has let go, but not for long."""
        if self.replica.hand_over():
            try:
                await asyncio.wait_for(self.requests.wait_until_following(), seconds)
            except TimeoutError:
                logger.warning("%s: nobody took over within %.1f s", self.config.me, seconds)

    async def stop(self) -> None:
        """Close clients, leave the cluster's traffic, and let running saves end."""
        self.requests.stop()
        self.scrubbing.stop()
        self.replica.stop()
        await self.edges.network.close()
        self.edges.sync_worker.close()
        self.edges.background_worker.close()

    def _failed(self, error: BaseException) -> None:
        logger.critical("%s stops: %s", self.config.me, error)
        self.on_failed(error)

    def status(self) -> dict[str, Any]:
        """What `jkcs status` shows; see docs/reference/protocol.md."""
        replica, core, machine = self.replica, self.replica.core, self.machine
        match = {peer.peer: peer.match for peer in core.progress()}
        connected = set(self.edges.network.connected())
        addresses = dict(core.configuration.addresses)
        members = [
            {
                "node": name,
                "peer_address": addresses.get(name, ""),
                "client_address": self._client_address_of(name),
                "role": self._role_of(name),
                "match_index": core.durable if name == self.config.me else match.get(name),
                "connected": name == self.config.me or name in connected,
            }
            for name in core.configuration.members
        ]
        snapshot = replica.snapshots.newest
        return {
            "node": self.config.me,
            "cluster": self.config.cluster,
            "version": package_version(),
            "pid": os.getpid(),
            "role": core.role.value,
            "leader": core.leader,
            "term": core.term,
            "uptime_s": round(self.edges.scheduler.time() - self._started_at, 3),
            "last_index": core.last_index,
            "commit_index": core.commit,
            "applied_index": replica.applied,
            "snapshot_index": snapshot,
            "log_first_index": self.store.start.index + 1,
            "read_only": replica.read_only,
            "fsync": self.config.fsync,
            "damage": self.scrubbing.damage,
            "keys": len(machine.tree),
            "sessions": len(machine.sessions),
            "connections": len(self.requests.connections),
            "watches": self.requests.hub.count,
            "members": members,
        }

    def server_status(self) -> dict[str, Any]:
        """What `jkcs admin status` shows: everything that is of interest to those who watch a server."""
        clients = self.client_address
        return {
            "uri": None if clients is None else f"{URL_PREFIX}{clients}",
            "node": self.config.me,
            "cluster": self.config.cluster,
            "version": package_version(),
            "pid": os.getpid(),
            "uptime_s": round(self.edges.scheduler.time() - self._started_at, 3),
            "fsync": self.config.fsync,
            "keys": len(self.machine.tree),
            "sessions": len(self.machine.sessions),
            "connections": len(self.requests.connections),
            "watches": self.requests.hub.count,
            **self._monitoring.report(),
        }

    def _client_address_of(self, name: str) -> str | None:
        """Where clients reach a member, as far as it has told."""
        if name == self.config.me:
            return self.client_address
        return self.edges.network.about(NodeId(name)) or None

    def _role_of(self, name: NodeId) -> str:
        core = self.replica.core
        if name == self.config.me:
            return core.role.value
        if name == core.leader:
            return Role.LEADER.value
        if core.configuration.has_say(name):
            return Role.FOLLOWER.value
        return Role.LEARNER.value if name in core.configuration.learners else Role.OBSERVER.value


def first_configuration(config: NodeConfig) -> Configuration:
    """Who belongs to the cluster as far as a node knows that has never run before."""
    strangers = {config.me} if config.join else set()
    addresses = [(NodeId(name), show_address(address)) for name, address in config.peers.items() if address[1]]
    return Configuration(
        voters=tuple(sorted(NodeId(name) for name in set(config.peers) - {*config.observers, *strangers})),
        observers=tuple(sorted(NodeId(name) for name in set(config.observers) - strangers)),
        addresses=tuple(sorted(pair for pair in addresses if pair[0] not in strangers)),
    )


def package_version() -> str:
    """The installed distribution's version."""
    try:
        return version("jkcs")
    except PackageNotFoundError:
        return "unknown"
