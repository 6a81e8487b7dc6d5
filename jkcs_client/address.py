"""Where the servers are: `jkcs://host:port,host:port/chroot`, read into addresses and a chroot; `jkcss://` with TLS.

Names stay names here: they are resolved anew at each attempt to connect, by the dialer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jkcs_client.paths import check_path
from jkcs_client.protocol.errors import BadArguments, BadPath

SCHEME = "jkcs://"
TLS_SCHEME = "jkcss://"
DEFAULT_PORT = 2181
PORT_MAX = 65535


class Address(NamedTuple):
    """One server, as named by the user."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL says."""

    addresses: tuple[Address, ...]
    chroot: str
    """Goes before every path; "" or a legal path other than "/"."""
    tls: bool = False
    """Whether the URL asks for TLS."""


def parse(url: str) -> Target:
    """Read a URL. Raises BadArguments naming the part that is wrong."""
    if not isinstance(url, str) or not url.startswith((SCHEME, TLS_SCHEME)):
        raise BadArguments(
            f"a URL looks like {SCHEME}host:port,host:port/chroot, or {TLS_SCHEME}... with TLS, not {url!r}"
        )
    hosts, slash, rest = url.partition("://")[2].partition("/")
    addresses = tuple(dict.fromkeys(_address(part.strip(), url) for part in hosts.split(",")))
    chroot = (slash + rest).rstrip("/")
    if chroot:
        try:
            check_path(chroot)
        except BadPath as error:
            raise BadArguments(f"chroot of {url!r}: {error.detail}") from None
    return Target(addresses, chroot, url.startswith(TLS_SCHEME))


def _address(text: str, url: str) -> Address:
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise BadArguments(f"{text!r} in {url!r}: an IPv6 address is written [::1]:port")
        port = tail[1:] if tail else str(DEFAULT_PORT)
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise BadArguments(f"{text!r} in {url!r}: an IPv6 address is written [::1]:port")
        port = port if colon else str(DEFAULT_PORT)
    if not host or any(character.isspace() or character in "@?#" for character in host):
        raise BadArguments(f"{text!r} in {url!r} names no host")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX):
        raise BadArguments(f"{text!r} in {url!r}: a port is a number from 1 to {PORT_MAX}")
    return Address(host, int(port))
