"""Names and addresses of a cluster's members: from text and tables to values, each checked, and back.

Knows nothing of what listens at an address. Called by the configurations of nodes, which name the field that a
bad value was meant for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from journal.limits import VOTERS_MAX

Address = tuple[str, int]
"""Host and port. The host is a name or an IP address, without brackets."""

URL_PREFIX = "jkcs://"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[^\s,=/\[\]]+")


class ConfigError(ValueError):
    """A value that cannot be used. `field` names it, `why` says what is wrong with it."""

    def __init__(self, field: str, why: str, source: str = "") -> None:
        self.field = field
        self.why = why
        self.source = source
        """Where the value came from: a flag, an environment variable, a place in the file; empty when passed in."""
        super().__init__(f"{field}: {why}" + (f" (from {source})" if source else ""))


def check_members(
    me: str, peers: Mapping[str, Address], observers: Collection[str] = (), *, joins: bool = False
) -> None:
    """Raise ConfigError when `me` is not among the members, or they could never work together.

    With `joins` this node is new to a cluster that runs already, and the other members must include voters.
    """
    check_name("me", me)
    if me not in peers:
        raise ConfigError("me", f"{me!r} is not among the members {', '.join(peers)}")
    for name in observers:
        if name not in peers:
            raise ConfigError("observers", f"{name!r} is not among the members {', '.join(peers)}")
    voters = set(peers) - set(observers)
    if len(voters) > VOTERS_MAX:
        raise ConfigError("peers", f"{len(voters)} voters, at most {VOTERS_MAX} are of use")
    if not voters - ({me} if joins else set()):
        raise ConfigError("peers", "no voters: name those that run already" if joins else "no voters")
    owners: dict[Address, str] = {}
    for name, address in peers.items():
        check_name("peers", name)
        if address[1] == 0 and len(peers) > 1:
            raise ConfigError("peers", f"{name}'s port is 0, but the other members must know it")
        if address in owners:
            raise ConfigError("peers", f"{owners[address]} and {name} share the address {show_address(address)}")
        owners[address] = name


def check_together(**paths: Path | None) -> None:
    """Raise ConfigError, naming one that is missing, when some of these settings are given and some are not."""
    missing = [name for name, path in paths.items() if path is None]
    if missing and len(missing) < len(paths):
        raise ConfigError(missing[0], f"is missing: {' and '.join(paths)} belong together")


def check_peer_tls(certificate: Path | None, key: Path | None, ca: Path | None) -> None:
    """Raise ConfigError unless a node has all that it takes to speak TLS with its peers, or nothing of it."""
    check_together(peer_tls_certificate=certificate, peer_tls_key=key, peer_tls_ca=ca)


def optional_path(value: str | Path | None) -> Path | None:
    """A file that may be named; empty text names none."""
    return Path(value) if value is not None and str(value) else None


def is_loopback_host(host: str) -> bool:
    """Whether what listens at `host` can be reached from its own machine alone. A name other than localhost is
    taken for reachable: what it stands for may change."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_name(field: str, name: str) -> None:
    """Raise ConfigError unless `name` can be a member's or a cluster's."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            field, f"{name!r} is no name: 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        )


def show_address(address: Address) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(field: str, value: object) -> Address:
    """An address from `host:port`, `[ipv6]:port` or a pair. Raises ConfigError naming `field`."""
    if isinstance(value, str):
        host, colon, port_text = value.strip().rpartition(":")
        if not colon or not port_text.isascii() or not port_text.isdigit():
            raise ConfigError(field, f"{value!r} is no address: HOST:PORT is expected, as in 127.0.0.1:2181")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ConfigError(field, f"{value!r}: an IPv6 address needs brackets, as in [::1]:2181")
        port: object = int(port_text)
    elif isinstance(value, tuple | list) and len(value) == 2:
        host, port = value
    else:
        raise ConfigError(field, f"{value!r} is no address: HOST:PORT is expected")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise ConfigError(field, f"{value!r} has no usable host")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ConfigError(field, f"port {port!r} is not between 0 and 65535")
    return host, port


def parse_peers(value: object) -> Mapping[str, Address]:
    """The members by name, from a mapping or from text; a member without a name is called like its host.

    Text is `n1=host:2182,n2=host:2182` or `jkcs://host1:2182,host2:2182`. Raises ConfigError.
    """
    members: dict[str, Address] = {}
    for name, address in _peer_items(value):
        if name in members:
            raise ConfigError("peers", f"two members are called {name!r}: give each its name, as in n1=HOST:PORT")
        members[name] = parse_address("peers", address)
    if not members:
        raise ConfigError("peers", "no members: n1=HOST:PORT,n2=HOST:PORT,... is expected")
    return MappingProxyType({name: members[name] for name in sorted(members)})


def _peer_items(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from value.items()
        return
    if not isinstance(value, str):
        raise ConfigError("peers", f"{value!r} is neither text nor a table of names and addresses")
    for item in value.strip().removeprefix(URL_PREFIX).rstrip("/").split(","):
        if not item.strip():
            continue
        name, equals, address = item.partition("=")
        if equals:
            yield name.strip(), address.strip()
        else:
            yield parse_address("peers", item)[0], item
