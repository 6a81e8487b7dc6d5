"""The configuration of one member of a cluster that replicates a user's own state machine.

Knows nothing of what is done with it. Built by users of `Journal`, as text or values alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journal.addresses import (
    Address,
    ConfigError,
    check_members,
    check_name,
    check_peer_tls,
    optional_path,
    parse_address,
    parse_peers,
    show_address,
)
from journal.limits import Limits, Timing
from journal.values import Configuration, NodeId

DEFAULT_LIMITS = Limits()
DEFAULT_TIMING = Timing()


@dataclass(frozen=True, slots=True, init=False)
class JournalConfig:
    """What one member must know. The fields are always plain values, whatever they were made from."""

    data_dir: Path
    me: str
    """This member's name; it has an address among `peers`."""
    peers: Mapping[str, Address]
    """All members, this one too, with the addresses where they speak to each other; in order of their names."""
    cluster: str
    """Members of another cluster, or with another cluster's data, are refused."""
    limits: Limits
    timing: Timing
    fsync: bool
    """False loses acknowledged updates in a power failure: for tests and throw-away data only."""
    peer_listen: Address | None
    """Where to listen for peers, when that is not this member's own address among `peers`."""
    observers: tuple[str, ...]
    """Those of `peers` that observe: they pull the log, answer every call, and do not vote."""
    pull_from: tuple[str, ...]
    """Whom this member pulls the log from if it observes, best first; empty leaves the choice to it."""
    peer_tls_certificate: Path | None
    """With `peer_tls_key` and `peer_tls_ca`: members speak TLS, and each shows a certificate that names it."""
    peer_tls_key: Path | None
    peer_tls_ca: Path | None

    def __init__(
        self,
        data_dir: str | Path,
        me: str,
        peers: Mapping[str, Address] | Mapping[str, str] | str,
        cluster: str = "journal",
        limits: Limits = DEFAULT_LIMITS,
        timing: Timing = DEFAULT_TIMING,
        fsync: bool = True,
        peer_listen: Address | str | None = None,
        observers: Iterable[str] = (),
        pull_from: Iterable[str] = (),
        peer_tls_certificate: str | Path | None = None,
        peer_tls_key: str | Path | None = None,
        peer_tls_ca: str | Path | None = None,
    ) -> None:
        """Raises ConfigError for text that cannot be read; `check` looks at what the values mean."""
        if not str(data_dir):
            raise ConfigError("data_dir", "must name a directory")
        values: dict[str, Any] = {
            "data_dir": Path(data_dir),
            "me": me,
            "peers": parse_peers(peers),
            "cluster": cluster,
            "limits": limits,
            "timing": timing,
            "fsync": fsync,
            "peer_listen": None if peer_listen is None else parse_address("peer_listen", peer_listen),
            "observers": tuple(sorted(set(observers))),
            "pull_from": tuple(pull_from),
            "peer_tls_certificate": optional_path(peer_tls_certificate),
            "peer_tls_key": optional_path(peer_tls_key),
            "peer_tls_ca": optional_path(peer_tls_ca),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def peer_bind(self) -> Address:
        """Where this member listens for the others."""
        return self.peer_listen or self.peers[self.me]

    def check(self) -> None:
        """Raise ConfigError, a ValueError, naming the first field that cannot be right, and why."""
        check_name("cluster", self.cluster)
        check_members(self.me, self.peers, self.observers)
        for name in self.pull_from:
            if name not in self.peers:
                raise ConfigError("pull_from", f"{name!r} is not among the members {', '.join(self.peers)}")
        check_peer_tls(self.peer_tls_certificate, self.peer_tls_key, self.peer_tls_ca)
        for field, part in (("limits", self.limits), ("timing", self.timing)):
            try:
                part.check()
            except ValueError as error:
                raise ConfigError(field, str(error).removeprefix(f"{field}: ")) from None


def first_configuration(config: JournalConfig) -> Configuration:
    """Who belongs to the cluster as far as a member knows that has never run before."""
    addresses = [(NodeId(name), show_address(address)) for name, address in config.peers.items() if address[1]]
    return Configuration(
        voters=tuple(sorted(NodeId(name) for name in set(config.peers) - set(config.observers))),
        observers=tuple(NodeId(name) for name in config.observers),
        addresses=tuple(sorted(addresses)),
    )
