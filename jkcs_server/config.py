"""The configuration of one node: a frozen value, and the rules that make it from flags, environment and file.

Knows nothing of files, processes or the command line: whoever read the TOML file and the flags passes
them in as dictionaries. Called by those who embed a node (`NodeConfig(...)`) and by `jkcs serve` (`load`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jkcs_client.protocol.messages import SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN
from jkcs_server.serving.words import DEFAULT_WORDS, EVERY_WORD, WORDS
from journal.addresses import (
    URL_PREFIX,
    Address,
    ConfigError,
    check_members,
    check_name,
    check_peer_tls,
    check_together,
    is_loopback_host,
    optional_path,
    parse_address,
    parse_peers,
    show_address,
)
from journal.limits import Limits, Timing

__all__ = ["URL_PREFIX", "Address", "ConfigError", "NodeConfig", "load", "parse_address", "parse_peers", "show_address"]

DEFAULT_LISTEN: Address = ("127.0.0.1", 2181)
DEFAULT_LIMITS = Limits()
DEFAULT_TIMING = Timing()
ENVIRONMENT_PREFIX = "JKCS_"
CLIENT_AUTH = ("none", "want", "need")
_DIGEST = re.compile(r"[^:]+:[A-Za-z0-9+/]{27}=")
LOOPBACK = "loopback"
ANYWHERE = "any"


@dataclass(frozen=True, slots=True, init=False)
class NodeConfig:
    """What one node of a cluster must know. Built from text or values alike; the fields are always plain values."""

    data_dir: Path
    me: str
    """This node's name; it has an address among `peers`."""
    peers: Mapping[str, Address]
    """All members, this node too, with the addresses where they speak to each other; in order of their names."""
    listen: Address
    """Where clients connect. Port 0 takes any free one."""
    cluster: str
    """Nodes of another cluster, or with another cluster's data, are refused."""
    limits: Limits
    timing: Timing
    session_timeout_min: float
    """Seconds; what a client asks for is brought between this and `session_timeout_max`."""
    session_timeout_max: float
    history_events: int
    """Events kept, so that a watch may resume after its client was away."""
    connections_max: int
    """Clients of this server."""
    connections_per_address_max: int
    """Of them, those that come from one address other than this machine's own; 0 for any number."""
    fsync: bool
    """False loses acknowledged writes in a power failure: for tests and throw-away data only."""
    peer_listen: Address | None
    """Where to listen for peers, when that is not this node's own address among `peers`."""
    admin_from: str
    """From where ADMIN requests are taken: "loopback", this machine alone, or "any"."""
    join: bool
    """This node is new to a cluster that runs already: it waits until an administrator takes it in."""
    observers: tuple[str, ...]
    """Those of `peers` that observe: they pull the log, serve reads and sessions, and do not vote."""
    pull_from: tuple[str, ...]
    """Whom this node pulls the log from while it observes, best first; empty leaves the choice to it."""
    tls_certificate: Path | None
    """With `tls_key`: clients may speak TLS. The files are read again when they change."""
    tls_key: Path | None
    tls_client_ca: Path | None
    """Whose certificates of clients are believed."""
    tls_client_auth: str
    """Whether clients show a certificate: "none", "want" (checked if they do) or "need"."""
    tls_only: bool
    """Clients without TLS are refused."""
    peer_tls_certificate: Path | None
    """With `peer_tls_key` and `peer_tls_ca`: peers speak TLS, and each shows a certificate that names it."""
    peer_tls_key: Path | None
    peer_tls_ca: Path | None
    insecure: bool
    """Other machines may reach this node without TLS."""
    four_letter_words: tuple[str, ...]
    """Those of ZooKeeper's four-letter words that are answered; "*" stands for all."""
    super_digest: str | None = field(repr=False)
    """Who may do everything, whatever the access control lists say: "user:base64 of a SHA-1"."""
    x509_super: str | None
    """The same for whoever shows a certificate with this subject."""
    audit: bool
    """Who is refused what, and who changes permissions, is logged."""

    def __init__(
        self,
        data_dir: str | Path,
        me: str,
        peers: Mapping[str, Address] | Mapping[str, str] | str,
        listen: Address | str = DEFAULT_LISTEN,
        cluster: str = "jkcs",
        limits: Limits = DEFAULT_LIMITS,
        timing: Timing = DEFAULT_TIMING,
        session_timeout_min: float = SESSION_TIMEOUT_MS_MIN / 1000,
        session_timeout_max: float = SESSION_TIMEOUT_MS_MAX / 1000,
        history_events: int = 100_000,
        connections_max: int = 10_000,
        connections_per_address_max: int = 1_000,
        fsync: bool = True,
        peer_listen: Address | str | None = None,
        admin_from: str = LOOPBACK,
        join: bool = False,
        observers: Iterable[str] | str = (),
        pull_from: Iterable[str] | str = (),
        tls_certificate: str | Path | None = None,
        tls_key: str | Path | None = None,
        tls_client_ca: str | Path | None = None,
        tls_client_auth: str = "none",
        tls_only: bool = False,
        peer_tls_certificate: str | Path | None = None,
        peer_tls_key: str | Path | None = None,
        peer_tls_ca: str | Path | None = None,
        insecure: bool = False,
        four_letter_words: Iterable[str] | str = DEFAULT_WORDS,
        super_digest: str | None = None,
        x509_super: str | None = None,
        audit: bool = True,
    ) -> None:
        """Raises ConfigError for text that cannot be read; `check` looks at what the values mean."""
        values: dict[str, Any] = dict(locals())
        del values["self"]
        values |= {
            "data_dir": _directory(data_dir),
            "peers": parse_peers(peers),
            "listen": parse_address("listen", listen),
            "session_timeout_min": float(session_timeout_min),
            "session_timeout_max": float(session_timeout_max),
            "peer_listen": None if peer_listen is None else parse_address("peer_listen", peer_listen),
            "observers": tuple(sorted(set(_names("observers", observers)))),
            "pull_from": tuple(_names("pull_from", pull_from)),
            **_paths(tls_certificate=tls_certificate, tls_key=tls_key, tls_client_ca=tls_client_ca),
            **_paths(peer_tls_certificate=peer_tls_certificate, peer_tls_key=peer_tls_key, peer_tls_ca=peer_tls_ca),
            "four_letter_words": tuple(sorted(set(_names("four_letter_words", four_letter_words)))),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def peer_bind(self) -> Address:
        """Where this node listens for its peers."""
        return self.peer_listen or self.peers[self.me]

    def check(self) -> None:
        """Raise ConfigError, a ValueError, naming the first field that cannot be right, and why."""
        check_name("cluster", self.cluster)
        check_members(self.me, self.peers, self.observers, joins=self.join)
        for name in self.pull_from:
            if name not in self.peers:
                raise ConfigError("pull_from", f"{name!r} is not among the members {', '.join(self.peers)}")
        if self.listen[1] != 0 and self.listen == self.peer_bind:
            raise ConfigError("listen", f"{show_address(self.listen)} is where this node listens for its peers")
        if not 0.1 <= self.session_timeout_min <= self.session_timeout_max:
            raise ConfigError(
                "session_timeout_min",
                f"{self.session_timeout_min:g} s must be at least 0.1 s and at most session_timeout_max"
                f" ({self.session_timeout_max:g} s)",
            )
        if self.history_events < 1:
            raise ConfigError("history_events", f"{self.history_events} must be at least 1")
        if self.connections_max < 1:
            raise ConfigError("connections_max", f"{self.connections_max} must be at least 1")
        if self.connections_per_address_max < 0:
            raise ConfigError("connections_per_address_max", f"{self.connections_per_address_max} must be at least 0")
        if self.admin_from not in (LOOPBACK, ANYWHERE):
            raise ConfigError("admin_from", f"{self.admin_from!r} is neither {LOOPBACK!r} nor {ANYWHERE!r}")
        self._check_tls()
        for word in self.four_letter_words:
            if word not in WORDS and word != EVERY_WORD:
                raise ConfigError("four_letter_words", f"{word!r} is none of {', '.join(sorted(WORDS))}, and not *")
        if self.super_digest is not None and not _DIGEST.fullmatch(self.super_digest):
            # It is not shown: it may be a password that was not made a hash.
            raise ConfigError("super_digest", "must be user:hash, the hash a SHA-1 in base64")
        for table, part in (("limits", self.limits), ("timing", self.timing)):
            try:
                part.check()
            except ValueError as error:
                raise ConfigError(table, str(error).removeprefix(f"{table}: ")) from None

    def _check_tls(self) -> None:
        check_together(tls_certificate=self.tls_certificate, tls_key=self.tls_key)
        check_peer_tls(self.peer_tls_certificate, self.peer_tls_key, self.peer_tls_ca)
        if self.tls_client_auth not in CLIENT_AUTH:
            raise ConfigError("tls_client_auth", f"{self.tls_client_auth!r} is none of {', '.join(CLIENT_AUTH)}")
        if (self.tls_client_auth != "none") != (self.tls_client_ca is not None):
            raise ConfigError("tls_client_ca", "goes with tls_client_auth want or need, and they with it")
        if self.tls_certificate is None and (self.tls_only or self.tls_client_ca is not None):
            setting = "tls_only" if self.tls_only else "tls_client_ca"
            raise ConfigError(setting, "needs tls_certificate and tls_key")

    def check_exposure(self) -> None:
        """Raise ConfigError when other machines could reach this node without TLS, unless it is told to be `insecure`.

        Whoever opens the ports asks; nobody else needs to: a simulated network harms no one.
        """
        if self.insecure:
            return
        if not is_loopback_host(self.listen[0]) and not self.tls_only:
            how = "tls_only" if self.tls_certificate is not None else "tls_certificate, tls_key and tls_only"
            raise ConfigError("listen", _exposed("clients", self.listen, how))
        if not is_loopback_host(self.peer_bind[0]) and self.peer_tls_certificate is None:
            field = "peers" if self.peer_listen is None else "peer_listen"
            how = "peer_tls_certificate, peer_tls_key and peer_tls_ca"
            raise ConfigError(field, _exposed("peers", self.peer_bind, how))


def _paths(**files: str | Path | None) -> dict[str, Path | None]:
    return {name: optional_path(file) for name, file in files.items()}


def _exposed(whom: str, address: Address, how: str) -> str:
    return (
        f"{show_address(address)} can be reached from other machines, and {whom} may come there without TLS: "
        f"set {how}, or insecure where the network is trusted"
    )


# --- from flags, environment and file -------------------------------------------------------------------------


def _directory(value: str | Path) -> Path:
    if not str(value):
        raise ConfigError("data_dir", "must name a directory")
    return Path(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(name, f"{value!r} is not text")
    return value


def _names(field: str, value: object) -> list[str]:
    """Names from a list, or from text with commas between them."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable):
        raise ConfigError(field, f"{value!r} is no list of names")
    return [_text(field, item).strip() for item in items if item]


def _integer(name: str, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d[\d_]*", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigError(name, f"{value!r} is not a whole number")


def _number(name: str, value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", value.strip(), re.ASCII):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    raise ConfigError(name, f"{value!r} is not a number of seconds")


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _switch(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = _WORDS.get(value.strip().lower()) if isinstance(value, str) else None
    if word is None:
        raise ConfigError(name, f"{value!r} is neither true nor false")
    return word


def _path(name: str, value: object) -> str | Path:
    return value if isinstance(value, Path) else _text(name, value)


_Parser = Callable[[str, object], Any]

_SETTINGS: dict[str, _Parser] = {
    "data_dir": _path,
    "me": _text,
    "peers": lambda name, value: parse_peers(value),
    "listen": parse_address,
    "cluster": _text,
    "session_timeout_min": _number,
    "session_timeout_max": _number,
    "history_events": _integer,
    "connections_max": _integer,
    "connections_per_address_max": _integer,
    "fsync": _switch,
    "peer_listen": parse_address,
    "admin_from": _text,
    "join": _switch,
    "observers": lambda name, value: tuple(_names(name, value)),
    "pull_from": lambda name, value: tuple(_names(name, value)),
    "tls_certificate": _path,
    "tls_key": _path,
    "tls_client_ca": _path,
    "tls_client_auth": _text,
    "tls_only": _switch,
    "peer_tls_certificate": _path,
    "peer_tls_key": _path,
    "peer_tls_ca": _path,
    "insecure": _switch,
    "four_letter_words": lambda name, value: tuple(_names(name, value)),
    "super_digest": _text,
    "x509_super": _text,
    "audit": _switch,
    **{f"limits.{each.name}": _integer for each in fields(Limits)},
    **{f"timing.{each.name}": _number for each in fields(Timing)},
}
_TABLES = ("limits", "timing")
_REQUIRED = ("data_dir", "me", "peers")
NOT_SETTINGS = ("JKCS_AUTH", "JKCS_CA", "JKCS_CERTIFICATE", "JKCS_CONFIG", "JKCS_KEY", "JKCS_LOG_LEVEL", "JKCS_URL")
"""Variables that mean something to the command line, not to a node."""

# Kubernetes puts JKCS_SERVICE_HOST, JKCS_PORT, JKCS_PEERS_PORT_2182_TCP_ADDR and the like into every container
# beside a service called jkcs: refusing those as unknown would keep a node from starting there.
_INJECTED = re.compile(r"JKCS_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT(_\d+_\w+)?)")


def load(
    file: Mapping[str, object] | None, env: Mapping[str, str], flags: Mapping[str, object], *, file_name: str = "file"
) -> NodeConfig:
    """A checked configuration: flags before JKCS_* variables before the file.

    `flags` are keyed like the fields; None means not given. Raises ConfigError that says where a bad
    value came from; a name nobody knows is refused with the nearest one that exists.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value, source in (
        *_from_file(file or {}, file_name),
        *_from_environment(env),
        *_from_flags(flags),
    ):
        try:
            values[name] = _SETTINGS[name](name, value)
        except ConfigError as error:
            raise ConfigError(error.field, error.why, source) from None
        sources[name] = source
    for name in _REQUIRED:
        if name not in values:
            flag, variable = _flag_of(name), _variable_of(name)
            raise ConfigError(name, f"is not set: give {flag}, {variable}, or {name} in the configuration file")
    return _build(values, sources)


def _build(values: dict[str, Any], sources: dict[str, str]) -> NodeConfig:
    try:
        config = NodeConfig(
            limits=Limits(**_table("limits", values)),
            timing=Timing(**_table("timing", values)),
            **{name: value for name, value in values.items() if "." not in name},
        )
        config.check()
    except ConfigError as error:
        # A relation between the entries of a table has as many sources as entries were given.
        found = {source for name, source in sources.items() if name.partition(".")[0] == error.field}
        raise ConfigError(error.field, error.why, ", ".join(sorted(found))) from None
    return config


def _table(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{table}."
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def _from_file(file: Mapping[str, object], file_name: str) -> Iterator[tuple[str, object, str]]:
    for key, value in file.items():
        if key not in _TABLES:
            yield _known(key, key, file_name), value, f"{key} in {file_name}"
        elif isinstance(value, Mapping):
            for inner, inner_value in value.items():
                name = f"{key}.{inner}"
                yield _known(name, name, file_name), inner_value, f"{name} in {file_name}"
        else:
            raise ConfigError(key, f"must be a table [{key}]", file_name)


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    names = {_variable_of(name): name for name in _SETTINGS}
    for variable in sorted(env):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS or _INJECTED.fullmatch(variable):
            continue
        if variable not in names:
            raise ConfigError(variable, "is not a setting" + _nearest(variable, names), "the environment")
        yield names[variable], env[variable], f"the environment's {variable}"


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    for name, value in flags.items():
        if value is not None:
            yield _known(name, _flag_of(name), "the flags"), value, _flag_of(name)


def _known(name: str, shown: str, source: str) -> str:
    if name not in _SETTINGS:
        raise ConfigError(shown, "is not a setting" + _nearest(name, _SETTINGS), source)
    return name


def _nearest(name: str, known: Mapping[str, object]) -> str:
    # A key written at the wrong level ("segment_bytes" for "limits.segment_bytes") is near, too.
    nested = [each for each in known if each.endswith(f".{name}")]
    near = nested or difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _flag_of(name: str) -> str:
    return "--" + name.replace("_", "-").replace(".", "-")


def _variable_of(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()
