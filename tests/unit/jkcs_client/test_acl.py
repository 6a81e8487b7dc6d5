"""Entries of access control lists: made, shown, parsed and sent."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.acl import Acl, from_wire, letters_of, permissions_of, to_wire
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import BadArguments, InvalidAcl, ProtocolError
from jkcs_client.protocol.messages import Permission


@pytest.mark.parametrize(
    ("entry", "text", "wire"),
    [
        (Acl.open(), "world:anyone:cdrwa", (31, "world", "anyone")),
        (Acl.read_only(), "world:anyone:r", (1, "world", "anyone")),
        (Acl.creator(), "auth::cdrwa", (31, "auth", "")),
        (Acl.creator("wr"), "auth::rw", (3, "auth", "")),
        (Acl.ip("10.0.0.0/8", "r"), "ip:10.0.0.0/8:r", (1, "ip", "10.0.0.0/8")),
        (Acl.ip("fd00::1", "a"), "ip:fd00::1:a", (16, "ip", "fd00::1")),
        (Acl.x509("CN=web,O=Example", "cd"), "x509:CN=web,O=Example:cd", (12, "x509", "CN=web,O=Example")),
        (
            Acl.digest("super", "test", "w"),
            "digest:super:D/InIHSb7yEEbrWz8b9l71RjZJU=:w",
            (2, "digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="),
        ),
    ],
)
def test_an_entry_is_the_same_as_value_as_text_and_on_the_wire(
    entry: Acl, text: str, wire: tuple[int, str, str]
) -> None:
    """The text is that of ZooKeeper's own shell."""
    assert str(entry) == text and Acl.parse(text) == entry
    assert to_wire([entry]) == [wire] and from_wire([list(wire)]) == [entry]


@pytest.mark.parametrize("text", ["", "hush", "x:hush", "digest:me:hush", "digest:me:hush:", ":hush:r", "a:hush:x"])
def test_what_is_no_entry_is_refused_without_being_repeated(text: str) -> None:
    """It may have a password in it."""
    with pytest.raises(BadArguments) as caught:
        Acl.parse(text)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("letters", ["", "x", "rx", "R", 7, None])
def test_what_are_no_permissions_is_refused(letters: Any) -> None:
    with pytest.raises(BadArguments):
        permissions_of(letters)


def test_every_permission_has_a_letter() -> None:
    """One without could be neither given nor seen."""
    assert permissions_of("cdrwa") == ~Permission(0)
    assert [letters_of(permission) for permission in Permission] == list("rwcda")


def test_a_hash_is_not_in_what_is_shown_of_an_entry() -> None:
    """SHA-1 without salt is soon undone, and what is shown ends in logs."""
    entry = Acl.digest("me", "secret")
    assert digest_id("me:secret").split(":")[1] not in repr([entry]) and "me" in repr(entry)


@pytest.mark.parametrize("user", ["", "a:b"])
def test_a_user_has_a_name_without_a_colon(user: str) -> None:
    with pytest.raises(BadArguments):
        Acl.digest(user, "x")


def test_an_empty_list_is_invalid_and_what_is_no_list_is_bad() -> None:
    """A single entry, or a text, in the place of a list is a likely slip."""
    with pytest.raises(InvalidAcl):
        to_wire([])
    for value in (Acl.open(), "world:anyone:r", ["world:anyone:r"], None, 7):
        with pytest.raises(BadArguments):
            to_wire(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [None, 7, [[1, "world"]], [7], [["r", "world", "anyone"]]])
def test_a_list_that_is_none_is_not_taken_from_a_server(fields: Any) -> None:
    with pytest.raises(ProtocolError):
        from_wire(fields)
