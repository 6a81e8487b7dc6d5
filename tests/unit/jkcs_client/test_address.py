"""URLs: what they say, and what is wrong with them."""

from __future__ import annotations

import pytest

from jkcs_client.address import Address, Target, parse
from jkcs_client.protocol.errors import BadArguments


@pytest.mark.parametrize(
    ("url", "addresses", "chroot"),
    [
        ("jkcs://a", [("a", 2181)], ""),
        ("jkcs://a:1,b:2", [("a", 1), ("b", 2)], ""),
        ("jkcs://a/", [("a", 2181)], ""),
        ("jkcs://a:1, b:2/app", [("a", 1), ("b", 2)], "/app"),
        ("jkcs://a/app/x/", [("a", 2181)], "/app/x"),
        ("jkcs://[::1]:7,[fe80::2]", [("::1", 7), ("fe80::2", 2181)], ""),
        ("jkcs://a:1,a:1,b:1", [("a", 1), ("b", 1)], ""),
    ],
)
def test_a_url_names_servers_and_a_chroot(url: str, addresses: list[tuple[str, int]], chroot: str) -> None:
    """The one string that a user's configuration holds."""
    target = parse(url)
    assert list(target.addresses) == addresses
    assert target.chroot == chroot


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://a", "jkcs://"),
        ("jkcs://", "no host"),
        ("jkcs://a,,b", "no host"),
        ("jkcs://a:", "port"),
        ("jkcs://a:0", "port"),
        ("jkcs://a:65536", "port"),
        ("jkcs://a:x", "port"),
        ("jkcs://a:²", "port"),
        ("jkcs://::1", "IPv6"),
        ("jkcs://[::1", "IPv6"),
        ("jkcs://[::1]7", "IPv6"),
        ("jkcs://me@a", "no host"),
        ("jkcs://a/\udc80", "chroot"),
    ],
)
def test_a_bad_url_is_refused_with_what_is_wrong(url: str, named: str) -> None:
    """A typing mistake must not look like a server that is down."""
    with pytest.raises(BadArguments, match=named):
        parse(url)


def test_an_address_is_written_as_it_is_read() -> None:
    """Errors name servers; what they print can be pasted into a URL."""
    assert str(Address("::1", 7)) == "[::1]:7"
    assert str(Address("a", 7)) == "a:7"


def test_a_url_may_ask_for_tls() -> None:
    """It says so itself, so that it cannot be lost on the way to the one that connects."""
    assert parse("jkcss://h1,h2:7/app") == Target((Address("h1", 2181), Address("h2", 7)), "/app", tls=True)
    assert not parse("jkcs://h1").tls
