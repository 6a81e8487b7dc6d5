"""The four-letter words: what ZooKeeper's monitoring asks of a server, in ZooKeeper's words.

A client sends four letters instead of a greeting, gets a text and is hung up on. Text and keys are those of ZooKeeper
3.8, so that what reads them finds what it looks for; what ZooKeeper tells of its JVM and of its inner queues has no
meaning here and is left out. Where the facts come from this module does not know: it is handed `Facts`, which look
when they are asked. Called by `requests.py` for a connection whose first bytes are a word.

An answer is made line by line and stops at `ANSWER_BYTES_MAX`, so that no list of a million watches is walked to its
end for one who asks (CVE-2017-5637).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from jkcs_server.serving.words import EVERY_WORD, WORDS

ZOOKEEPER_VERSION = "3.9.2"
"""The ZooKeeper whose protocol is spoken here; clients choose what they dare by it."""
ANSWER_BYTES_MAX = 1 << 20

_NOT_SERVING = "This ZooKeeper instance is not currently serving requests"
_MASK = (1 << 64) - 1


class ClientFigures(Protocol):
    """One connection. Latencies are of those requests that were timed, in milliseconds; 0 when none was."""

    @property
    def address(self) -> str:
        """HOST:PORT; empty for a client in this very process."""

    @property
    def received(self) -> int:
        """Requests taken since the connection began, or since the word crst."""

    @property
    def sent(self) -> int:
        """Answers and events, likewise."""

    @property
    def queued(self) -> int:
        """Requests that have no answer yet."""

    @property
    def session(self) -> int:
        """0 for none."""

    @property
    def timeout_ms(self) -> int: ...

    @property
    def established_ms(self) -> int:
        """When the connection began, in milliseconds since 1970."""

    @property
    def last_operation(self) -> str:
        """ZooKeeper's abbreviation: PING, GETD, SETD, CREA and so on; NA for none."""

    @property
    def last_zxid(self) -> int:
        """The log index of the last answer; -1 for none."""

    @property
    def last_latency_ms(self) -> int: ...

    @property
    def min_latency_ms(self) -> int: ...

    @property
    def avg_latency_ms(self) -> int: ...

    @property
    def max_latency_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Traffic:
    """All connections together, those that are gone too."""

    received: int
    sent: int
    outstanding: int
    """Requests that have no answer yet."""
    latency_min_ms: int
    latency_avg_ms: float
    latency_max_ms: int


@dataclass(frozen=True, slots=True)
class Following:
    """The other members, as their leader sees them."""

    learners: int
    """All that are connected."""
    synced_voters: int
    """Those of them that vote and receive the log as it grows."""
    synced_newcomers: int
    """Those that receive it and do not vote yet."""
    observers: int
    """Those that only observe."""
    pending_syncs: int
    """Those that are still being filled."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The server at a glance."""

    mode: str
    """leader, follower, observer; standalone for a cluster of one, read-only for one whose disk is full."""
    zxid: int
    """The log index that is applied here."""
    uptime_ms: int
    keys: int
    ephemerals: int
    data_bytes: int
    """Of paths and values, about."""
    sessions: int
    quorum_size: int
    """How many vote."""
    following: Following | None
    """Only on a leader."""
    open_files: int
    open_files_max: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server was set up."""

    client_port: int
    secure_client_port: int
    """-1 for none."""
    data_dir: str
    tick_ms: int
    session_timeout_ms_min: int
    session_timeout_ms_max: int
    backlog: int
    number: int
    """The place of this server among the members, from 1; 0 for a cluster of one."""
    peer_port: int
    observes: bool
    members: tuple[str, ...]
    """The lines of /zookeeper/config that name members; empty for a cluster of one."""
    configuration_index: int


@dataclass(frozen=True, slots=True)
class WatchCounts:
    connections: int
    paths: int
    watches: int


class Facts(Protocol):
    """What can be asked of the server. Lists are walked only as far as they fit into an answer."""

    @property
    def version(self) -> str:
        """Of JKCS."""

    @property
    def built(self) -> str: ...

    @property
    def serving(self) -> bool:
        """Whether clients are served: there is a leader."""

    @property
    def read_only(self) -> bool:
        """Whether reads are served and writes are not."""

    def overview(self) -> Overview: ...

    def settings(self) -> Settings: ...

    def traffic(self) -> Traffic: ...

    def clients(self) -> Sequence[ClientFigures]:
        """The open connections, the oldest first."""

    def disk_bytes(self) -> tuple[int, int]:
        """Of snapshots, and of the log."""

    def environment(self) -> Iterable[tuple[str, str]]: ...

    def sessions(self) -> Iterable[tuple[int, int]]:
        """Every session and its timeout in milliseconds."""

    def ephemerals(self) -> Iterable[tuple[int, Iterable[str]]]:
        """Every session that owns keys, and their paths."""

    def watch_counts(self) -> WatchCounts: ...

    def watches_by_session(self) -> Iterable[tuple[int, Iterable[str]]]:
        """Every session that watches, and the paths; 0 for a connection without one."""

    def watches_by_path(self) -> Iterable[tuple[str, Iterable[int]]]: ...

    def digests(self) -> Iterable[tuple[int, int]]:
        """Log indices, and the digest of the state there."""

    def reset_connections(self) -> None:
        """Every connection's figures begin anew."""

    def reset_traffic(self) -> None:
        """The figures of all connections together begin anew."""


def answer(word: str, facts: Facts, allowed: Collection[str]) -> bytes | None:
    """The text that answers a word; None for one that ZooKeeper does not know either."""
    tell = _ANSWERS.get(word)
    if tell is None:
        return None
    if word not in allowed and EVERY_WORD not in allowed:
        return f"{word} is not executed because it is not in the whitelist.\n".encode()
    if not facts.serving and word not in _WITHOUT_LEADER:
        # As there: this one word ends without a line end.
        return (_NOT_SERVING if word == "hash" else _NOT_SERVING + "\n").encode()
    return _capped(tell(facts))


def full_version(facts: Facts) -> str:
    """As clients parse it: the version of ZooKeeper in front."""
    return f"{ZOOKEEPER_VERSION}-jkcs-{facts.version}, built on {facts.built}"


def _capped(pieces: Iterable[str]) -> bytes:
    """The pieces together, up to the limit; what is left out is said, and not even looked up."""
    text: list[bytes] = []
    room = ANSWER_BYTES_MAX
    for piece in pieces:
        data = piece.encode()
        room -= len(data)
        if room < 0:
            text.append(f"... the rest is left out: an answer has at most {ANSWER_BYTES_MAX} bytes\n".encode())
            break
        text.append(data)
    return b"".join(text)


# The words. Each yields pieces of text, with their line ends.


def _ruok(_: Facts) -> Iterator[str]:
    yield "imok"


def _isro(facts: Facts) -> Iterator[str]:
    if not facts.serving:
        yield "null"
    else:
        yield "ro" if facts.read_only else "rw"


def _srvr(facts: Facts) -> Iterator[str]:
    yield _version_line(facts)
    yield from _server_lines(facts)


def _stat(facts: Facts) -> Iterator[str]:
    yield _version_line(facts)
    yield "Clients:\n"
    for client in facts.clients():
        yield f"{_client(client)})\n"
    yield "\n"
    yield from _server_lines(facts)


def _version_line(facts: Facts) -> str:
    note = "READ-ONLY mode; serving only read-only clients\n" if facts.read_only else ""
    return f"Zookeeper version: {full_version(facts)}\n{note}"


def _server_lines(facts: Facts) -> Iterator[str]:
    overview, traffic = facts.overview(), facts.traffic()
    yield (
        f"Latency min/avg/max: {traffic.latency_min_ms}/{round(traffic.latency_avg_ms, 4)}/{traffic.latency_max_ms}\n"
        f"Received: {traffic.received}\n"
        f"Sent: {traffic.sent}\n"
        f"Connections: {len(facts.clients())}\n"
        f"Outstanding: {traffic.outstanding}\n"
        f"Zxid: 0x{overview.zxid:x}\n"
        f"Mode: {overview.mode}\n"
        f"Node count: {overview.keys}\n"
    )
    if overview.mode == "leader":
        # Entries carry the writes of many clients: there is no size of a proposal. ZooKeeper says so before its first.
        yield "Proposal sizes last/min/max: -1/-1/-1\n"


def _client(client: ClientFigures) -> str:
    # The number in brackets is what the server waits for: 1, that the client sends.
    return f" /{client.address}[1](queued={client.queued},recved={client.received},sent={client.sent}"


def _cons(facts: Facts) -> Iterator[str]:
    for client in facts.clients():
        if not client.session:
            yield f"{_client(client)})\n"
            continue
        yield (
            f"{_client(client)},sid=0x{client.session:x},lop={client.last_operation},est={client.established_ms}"
            f",to={client.timeout_ms},lzxid=0x{client.last_zxid & _MASK:x},llat={client.last_latency_ms}"
            f",minlat={client.min_latency_ms},avglat={client.avg_latency_ms},maxlat={client.max_latency_ms})\n"
        )
    yield "\n"


_PEER_STATES = {"leader": "leading", "follower": "following", "observer": "observing"}


def _mntr(facts: Facts) -> Iterator[str]:
    for key, value in _monitored(facts):
        yield f"zk_{key}\t{value}\n"


def _monitored(facts: Facts) -> Iterator[tuple[str, object]]:
    overview, traffic = facts.overview(), facts.traffic()
    yield "version", full_version(facts)
    yield "server_state", overview.mode
    yield "ephemerals_count", overview.ephemerals
    yield "num_alive_connections", len(facts.clients())
    yield "min_latency", traffic.latency_min_ms
    yield "avg_latency", round(traffic.latency_avg_ms, 4)
    yield "max_latency", traffic.latency_max_ms
    yield "packets_received", traffic.received
    yield "packets_sent", traffic.sent
    yield "outstanding_requests", traffic.outstanding
    yield "znode_count", overview.keys
    yield "watch_count", facts.watch_counts().watches
    yield "approximate_data_size", overview.data_bytes
    yield "open_file_descriptor_count", overview.open_files
    yield "max_file_descriptor_count", overview.open_files_max
    yield "global_sessions", overview.sessions
    yield "local_sessions", 0
    yield "uptime", overview.uptime_ms
    if overview.mode in _PEER_STATES:
        yield "peer_state", f"{_PEER_STATES[overview.mode]} - broadcast"
        yield "quorum_size", overview.quorum_size
    following = overview.following
    if following is not None:
        yield "learners", following.learners
        yield "followers", following.learners  # its name until 3.5, which many exporters still know
        yield "synced_followers", following.synced_voters
        yield "synced_non_voting_followers", following.synced_newcomers
        yield "synced_observers", following.observers
        yield "pending_syncs", following.pending_syncs


def _conf(facts: Facts) -> Iterator[str]:
    settings = facts.settings()
    snapshot_bytes, log_bytes = facts.disk_bytes()
    yield (
        f"clientPort={settings.client_port}\n"
        f"secureClientPort={settings.secure_client_port}\n"
        f"dataDir={settings.data_dir}\n"
        f"dataDirSize={snapshot_bytes}\n"
        f"dataLogDir={settings.data_dir}\n"
        f"dataLogSize={log_bytes}\n"
        f"tickTime={settings.tick_ms}\n"
        "maxClientCnxns=0\n"
        f"minSessionTimeout={settings.session_timeout_ms_min}\n"
        f"maxSessionTimeout={settings.session_timeout_ms_max}\n"
        f"clientPortListenBacklog={settings.backlog}\n"
        f"serverId={settings.number}\n"
    )
    if settings.members:
        members = "".join(f"{line}\n" for line in settings.members)
        yield (
            f"electionPort={settings.peer_port}\n"
            f"quorumPort={settings.peer_port}\n"
            f"peerType={int(settings.observes)}\n"
            f"membership: \n{members}version={settings.configuration_index:x}"
        )


def _envi(facts: Facts) -> Iterator[str]:
    yield f"Environment:\nzookeeper.version={full_version(facts)}\n"
    for key, value in facts.environment():
        yield f"{key}={value}\n"


def _dirs(facts: Facts) -> Iterator[str]:
    snapshot_bytes, log_bytes = facts.disk_bytes()
    yield f"datadir_size: {snapshot_bytes}\nlogdir_size: {log_bytes}\n"


def _dump(facts: Facts) -> Iterator[str]:
    overview = facts.overview()
    yield f"SessionTracker dump:\nGlobal Sessions({overview.sessions}):\n"
    for session, timeout_ms in facts.sessions():
        yield f"0x{session:x}\t{timeout_ms}ms\n"
    owners = list(facts.ephemerals())
    yield f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owners)}):\n"
    for session, paths in owners:
        yield f"0x{session:x}:\n"
        for path in paths:
            yield f"\t{path}\n"
    clients = facts.clients()
    yield f"Connections dump:\nConnections ({len(clients)}):\n"
    for client in clients:
        yield f"\tip: /{client.address} sessionId: 0x{client.session:x}\n"


def _wchs(facts: Facts) -> Iterator[str]:
    counts = facts.watch_counts()
    yield f"{counts.connections} connections watching {counts.paths} paths\nTotal watches:{counts.watches}\n"


def _wchc(facts: Facts) -> Iterator[str]:
    for session, paths in facts.watches_by_session():
        yield f"0x{session:x}\n"
        for path in paths:
            yield f"\t{path}\n"
    yield "\n"


def _wchp(facts: Facts) -> Iterator[str]:
    for path, sessions in facts.watches_by_path():
        yield f"{path}\n"
        for session in sessions:
            yield f"\t0x{session:x}\n"
    yield "\n"


def _hash(facts: Facts) -> Iterator[str]:
    for index, digest in facts.digests():
        yield f"{index:x}: {digest:x}\n"


def _crst(facts: Facts) -> Iterator[str]:
    facts.reset_connections()
    yield "Connection stats reset.\n"


def _srst(facts: Facts) -> Iterator[str]:
    facts.reset_traffic()
    yield "Server stats reset.\n"


_ANSWERS: dict[str, Callable[[Facts], Iterator[str]]] = {
    "conf": _conf,
    "cons": _cons,
    "crst": _crst,
    "dirs": _dirs,
    "dump": _dump,
    "envi": _envi,
    "hash": _hash,
    "isro": _isro,
    "mntr": _mntr,
    "ruok": _ruok,
    "srst": _srst,
    "srvr": _srvr,
    "stat": _stat,
    "wchc": _wchc,
    "wchp": _wchp,
    "wchs": _wchs,
}
_WITHOUT_LEADER = ("envi", "isro", "ruok")
"""What is answered even while no client is served."""

assert _ANSWERS.keys() == WORDS, sorted(_ANSWERS.keys() ^ WORDS)
