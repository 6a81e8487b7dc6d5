"""What one server tells in four-letter words: the facts behind `serving/fourletter.py`.

Only looks, at the replica, the tree, the watches and the connections. Knows nothing of texts and protocols. Made by
`server.py`.
"""

from __future__ import annotations

import getpass
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from jkcs_server.config import NodeConfig, parse_address
from jkcs_server.monitoring import Monitoring
from jkcs_server.serving.connection import Connection
from jkcs_server.serving.figures import Totals
from jkcs_server.serving.fourletter import (
    Following,
    Overview,
    Settings,
    Traffic,
    WatchCounts,
)
from jkcs_server.serving.requests import Requests
from jkcs_server.serving.watches import Watcher
from journal.addresses import ConfigError
from journal.raft.ready import Role

CLIENT_BACKLOG = 1024
SIZED_KEYS_MAX = 20_000
"""Of more keys, the sizes of so many, evenly chosen, stand for all."""
LATELY_TIMEOUTS = 2
"""A member that was not heard of for so many election timeouts is not there."""


class ServerFacts:
    """See `fourletter.Facts`."""

    def __init__(
        self,
        config: NodeConfig,
        requests: Requests,
        monitoring: Monitoring,
        *,
        version: str,
        client_address: Callable[[], str | None],
        connected: Callable[[], Iterable[str]],
        now: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self.version = version
        self._config = config
        self._requests = requests
        self._replica = requests.replica
        self._machine = requests.machine
        self._hub = requests.hub
        self._monitoring = monitoring
        self._client_address = client_address
        self._connected = connected
        """The members that messages reach at present."""
        self._now = now
        self._wall = wall
        """Milliseconds since 1970."""
        self._started_at = now()

    # Connections.

    def clients(self) -> Sequence[Client]:
        began = self._wall() - self._now() * 1000
        return [Client(connection, began) for connection in self._requests.connections]

    def traffic(self) -> Traffic:
        total = Totals()
        total.add_all(self._requests.departed)
        outstanding = 0
        for connection in self._requests.connections:
            total.add(connection.figures)
            outstanding += len(connection.lane)
        return Traffic(
            received=total.received,
            sent=total.sent,
            outstanding=outstanding,
            latency_min_ms=round(total.min_latency_ms),
            latency_avg_ms=total.avg_latency_ms,
            latency_max_ms=round(total.max_latency_ms),
        )

    def reset_connections(self) -> None:
        for connection in self._requests.connections:
            self._requests.departed.add(connection.figures)
            connection.figures.reset()

    def reset_traffic(self) -> None:
        """The connections' figures are reset, too: the sums are made of them."""
        self.reset_connections()
        self._requests.departed = Totals()

    # The server.

    @property
    def built(self) -> str:
        """When this installation was written to its disk."""
        written = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
        return written.strftime("%Y-%m-%d %H:%M UTC")

    @property
    def serving(self) -> bool:
        return self._replica.core.leader is not None and self._replica.failed is None

    @property
    def read_only(self) -> bool:
        return bool(self._replica.read_only)

    def overview(self) -> Overview:
        core, tree = self._replica.core, self._machine.tree
        mode = self._mode()
        return Overview(
            mode=mode,
            zxid=self._replica.applied,
            uptime_ms=round((self._now() - self._started_at) * 1000),
            keys=len(tree),
            ephemerals=sum(map(len, tree.ephemerals.values())),
            data_bytes=self._data_bytes(),
            sessions=len(self._machine.sessions),
            quorum_size=len(core.configuration.voters),
            following=self._following() if mode == "leader" else None,
            open_files=_open_files(),
            open_files_max=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )

    def _mode(self) -> str:
        core = self._replica.core
        members = core.configuration
        if self.read_only:
            return "read-only"
        if len(members.members) == 1:
            return "standalone"
        if core.role is Role.LEADER:
            return "leader"
        return "follower" if members.has_say(self._replica.me) else "observer"

    def _data_bytes(self) -> int:
        nodes = self._machine.tree.nodes
        step = max(1, len(nodes) // SIZED_KEYS_MAX)
        sizes = [len(path) + len(node.data) for path, node in islice(nodes.items(), step // 2, None, step)]
        return round(sum(sizes) * len(nodes) / len(sizes))

    def _following(self) -> Following:
        members = self._replica.core.configuration
        lately = self._now() - LATELY_TIMEOUTS * self._config.timing.election_timeout
        peers = [peer for peer in self._replica.core.progress() if peer.heard_at >= lately]
        synced = [peer for peer in peers if peer.state.value == "replicate"]
        voters = sum(members.has_say(peer.peer) for peer in synced)
        connected = set(self._connected())
        observers = sum(name in connected for name in members.observers)
        return Following(
            learners=len(peers) + observers,
            synced_voters=voters,
            synced_newcomers=len(synced) - voters,
            observers=observers,
            pending_syncs=len(peers) - len(synced),
        )

    def settings(self) -> Settings:
        config, members = self._config, self._replica.core.configuration
        names: list[str] = sorted(members.members)
        alone = len(names) == 1
        lines = _member_lines(members.addresses, observers=members.observers)
        port = _port(self._client_address())
        return Settings(
            # Clients with TLS and those without come to one port.
            client_port=-1 if config.tls_only else port,
            secure_client_port=-1 if config.tls_certificate is None else port,
            data_dir=str(config.data_dir),
            tick_ms=round(config.timing.heartbeat_interval * 1000),
            session_timeout_ms_min=round(config.session_timeout_min * 1000),
            session_timeout_ms_max=round(config.session_timeout_max * 1000),
            backlog=CLIENT_BACKLOG,
            number=0 if alone or config.me not in names else names.index(config.me) + 1,
            peer_port=config.peer_bind[1],
            observes=config.me in members.observers,
            members=() if alone else lines,
            configuration_index=self._replica.core.configuration_index,
        )

    def disk_bytes(self) -> tuple[int, int]:
        sizes = self._monitoring.disk_space()
        return sizes["snapshot_bytes"], sizes["log_bytes"]

    def environment(self) -> Iterator[tuple[str, str]]:
        system = os.uname()
        yield "host.name", system.nodename
        yield "python.version", platform.python_version()
        yield "python.implementation", platform.python_implementation()
        yield "python.executable", sys.executable
        yield "os.name", system.sysname
        yield "os.arch", system.machine
        yield "os.version", system.release
        yield "user.name", _looked_up(getpass.getuser)
        yield "user.home", _looked_up(Path.home)
        yield "user.dir", _looked_up(Path.cwd)

    def digests(self) -> Iterator[tuple[int, int]]:
        """The newest state that a quorum agrees on."""
        index, digest = self._replica.core.attested
        if index:
            yield index, digest

    # Sessions, their keys and watches.

    def sessions(self) -> Iterator[tuple[int, int]]:
        for session in self._machine.sessions.values():
            yield session.id, session.timeout_ms

    def ephemerals(self) -> Iterator[tuple[int, Iterable[str]]]:
        for session, paths in self._machine.tree.ephemerals.items():
            yield session, sorted(paths)

    def watch_counts(self) -> WatchCounts:
        hub = self._hub
        return WatchCounts(sum(1 for _ in hub.by_watcher()), hub.path_count(), hub.count)

    def watches_by_session(self) -> Iterator[tuple[int, Iterable[str]]]:
        for watcher, paths in self._hub.by_watcher():
            yield _session_of(watcher), dict.fromkeys(paths)

    def watches_by_path(self) -> Iterator[tuple[str, Iterable[int]]]:
        for path, watchers in self._hub.by_path():
            yield path, dict.fromkeys(map(_session_of, watchers))


class Client:
    """See `fourletter.ClientFigures`."""

    def __init__(self, connection: Connection, began: float) -> None:
        """`began`: the wall's milliseconds at which the scheduler's clock was 0."""
        figures = connection.figures
        self.address = figures.address
        self.session = connection.session
        self.timeout_ms = connection.timeout_ms
        self.queued = len(connection.lane)
        self.received = figures.received
        self.sent = figures.sent
        self.established_ms = round(began + figures.established_at * 1000)
        self.last_operation = figures.last_operation
        self.last_zxid = figures.last_zxid
        self.last_latency_ms = round(figures.last_latency_ms)
        self.min_latency_ms = round(figures.min_latency_ms)
        self.avg_latency_ms = round(figures.avg_latency_ms)
        self.max_latency_ms = round(figures.max_latency_ms)


def _session_of(watcher: Watcher) -> int:
    session: int = getattr(watcher, "session", 0)
    return session


def _port(address: str | None) -> int:
    return -1 if address is None else parse_address("listen", address)[1]


def _member_lines(addresses: Iterable[tuple[str, str]], *, observers: Iterable[str]) -> tuple[str, ...]:
    """As in /zookeeper/config: peers meet at one port, which stands for both of ZooKeeper's."""
    lines = []
    for name, address in sorted(addresses):
        try:
            _, port = parse_address("peers", address)
        except ConfigError:
            continue
        role = "observer" if name in observers else "participant"
        lines.append(f"server.{name}={address}:{port}:{role}")
    return tuple(lines)


def _looked_up(fact: Callable[[], object]) -> str:
    """In a container the user may have no name and no home, and a directory may be gone."""
    try:
        return str(fact())
    except (OSError, KeyError, RuntimeError):
        return "unknown"


def _open_files() -> int:
    """-1 where it cannot be told."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(1 for _ in Path(folder).iterdir())
        except OSError:
            continue
    return -1
