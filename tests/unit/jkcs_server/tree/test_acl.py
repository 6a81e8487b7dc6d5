"""Lists and identities: what is allowed to whom, and which lists are none."""

from __future__ import annotations

import gc

import pytest

from jkcs_client.protocol.errors import BadArguments, InvalidAcl, TooLarge
from jkcs_client.protocol.messages import ACL_ENTRIES_MAX, ACL_ID_BYTES_MAX
from jkcs_server.tree import acl
from jkcs_server.tree.acl import ADMIN, ALL, CREATE, OPEN_ENTRIES, READ, SUPER, WRITE, Ids

ME = ("digest", "me:x")
ALLOWED: list[tuple[tuple[acl.Entry, ...], int, Ids, bool]] = [
    (((READ, "world", "anyone"),), READ, (), True),
    (((READ, "world", "anyone"),), WRITE, (), False),
    (((READ, "world", "anyone"),), WRITE, (SUPER,), True),
    (((READ, "world", "somebody"),), READ, (ME,), False),
    (((ALL, *ME),), WRITE, (("ip", "10.0.0.1"), ME), True),
    (((ALL, *ME),), WRITE, (("digest", "me:y"),), False),
    (((ALL, *ME),), WRITE, (("x509", "me:x"),), False),
    (((READ, *ME), (WRITE, "ip", "10.0.0.1")), WRITE, (ME,), False),
    (((READ | ADMIN, *ME),), CREATE | ADMIN, (ME,), True),
    (((ALL, "ip", "10.1.0.0/16"),), READ, (("ip", "10.1.2.3"),), True),
    (((ALL, "ip", "10.1.2.9/16"),), READ, (("ip", "10.1.2.3"),), True),
    (((ALL, "ip", "10.1.0.0/16"),), READ, (("ip", "10.2.2.3"),), False),
    (((ALL, "ip", "0.0.0.0/0"),), READ, (("ip", "10.2.2.3"),), True),
    (((ALL, "ip", "0.0.0.0/0"),), READ, (("ip", "::1"),), False),
    (((ALL, "ip", "::/0"),), READ, (("ip", "::1"),), True),
    (((ALL, "ip", "10.1.0.0/33"),), READ, (("ip", "10.1.0.0"),), False),
    (((ALL, "ip", "nonsense"),), READ, (("ip", "nonsense"),), False),
    (((ALL, "auth", ""),), READ, (("auth", ""),), True),
]


@pytest.mark.parametrize(("entries", "permission", "ids", "allowed"), ALLOWED)
def test_list_allows_what_it_says(entries: tuple[acl.Entry, ...], permission: int, ids: Ids, allowed: bool) -> None:
    """The one place where it is decided, for writes, reads and events."""
    assert acl.allows(acl.shared(entries), permission, ids) is allowed


def test_open_list_is_none_and_allows_everything() -> None:
    """Most keys have it: it must cost nothing."""
    assert acl.shared(OPEN_ENTRIES) is None
    assert acl.entries_of(None) == OPEN_ENTRIES
    assert acl.allows(None, ALL, ())


def test_equal_lists_are_one_object_while_somebody_has_it() -> None:
    """A million keys with one list must not be a million lists; and a list that no key has goes."""
    gc.collect()  # what other tests have left must not go in between
    entries = ((1, "digest", "only:here"),)
    one = acl.shared(entries)
    assert one is acl.shared(((1, "digest", "only:here"),)) and one is not None
    assert acl.entries_of(one) == entries
    gc.collect()
    before = len(acl._lists)
    del one
    gc.collect()
    assert len(acl._lists) == before - 1


VALID = ["world:anyone", "ip:10.0.0.1", "ip:10.0.0.0/8", "ip:::1", "x509:CN=me", "sasl:me@REALM"]
VALID += ["digest:me:bWU=", "digest:me:~", "digest::x"]
INVALID = ["world:all", "ip:here", "ip:1.2.3.4/33", "ip:::1/129", "ip:1.2.3.4/", "ip:1.2.3.4/-1", "ip:1.2.3.4/\u00b2"]
INVALID += ["ip:1.2.3.4/" + "0" * 5000, "digest:me", "digest:me:x:y", "digest:", "x509:"]
INVALID += ["super:", "other:me", ":"]


@pytest.mark.parametrize("who", VALID)
def test_known_identities_stay_as_they_are(who: str) -> None:
    """What ZooKeeper's clients send for these schemes."""
    scheme, _, name = who.partition(":")
    assert acl.fix(((READ, scheme, name), (READ, scheme, name)), ()) == ((READ, scheme, name),)


@pytest.mark.parametrize("who", INVALID)
def test_unknown_identities_are_refused(who: str) -> None:
    """A list that means nobody locks everybody out."""
    scheme, _, name = who.partition(":")
    with pytest.raises(InvalidAcl):
        acl.fix(((READ, scheme, name),), (SUPER, ME))


def test_auth_is_whoever_the_client_has_proved_to_be() -> None:
    """An address proves nothing, nor is the super user somebody of his own."""
    ids = (("ip", "10.0.0.1"), SUPER, ME, ("x509", "CN=me"))
    assert acl.fix(((5, "auth", ""),), ids) == ((5, *ME), (5, "x509", "CN=me"))
    for nobody in ((), (("ip", "10.0.0.1"),)):
        with pytest.raises(InvalidAcl):
            acl.fix(((5, "auth", ""),), nobody)
    with pytest.raises(InvalidAcl):
        acl.fix((), ids)


def test_sizes_have_a_limit() -> None:
    """A list is kept on every server."""
    entry = (1, "ip", "::1")
    acl.check_size([entry] * ACL_ENTRIES_MAX)
    acl.check_size([(1, "x509", "ü" * ((ACL_ID_BYTES_MAX - 4) // 2))])
    with pytest.raises(TooLarge):
        acl.check_size([entry] * (ACL_ENTRIES_MAX + 1))
    with pytest.raises(TooLarge):
        acl.check_size([(1, "x509", "ü" * ((ACL_ID_BYTES_MAX - 4) // 2) + "x")])
    with pytest.raises(BadArguments):
        acl.check_size([(1, "x509")])


def test_digests_are_hidden_from_who_may_not_administer() -> None:
    """They could be tried against passwords."""
    assert acl.redacted(((1, "digest", "me:secret"), (2, "ip", "::1"))) == ((1, "digest", "me:x"), (2, "ip", "::1"))
