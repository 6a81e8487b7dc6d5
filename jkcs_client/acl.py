"""Who may do what with a key, as the caller writes it: `Acl`, one entry of an access control list.

Values only. What an entry means is the server's business; checked here is what could not be meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import BadArguments, InvalidAcl, ProtocolError
from jkcs_client.protocol.messages import Permission

LETTERS = {
    "c": Permission.CREATE,
    "d": Permission.DELETE,
    "r": Permission.READ,
    "w": Permission.WRITE,
    "a": Permission.ADMIN,
}
"""The letters that stand for permissions, in ZooKeeper's order."""
ALL = "cdrwa"


@dataclass(frozen=True, slots=True, repr=False)
class Acl:
    """One entry: somebody, by scheme and name, and what they may do. A key's list has one or more.

    Schemes: `world` (with the name "anyone"), `ip` (an address, perhaps with /bits), `digest` ("user:hash"), `x509` (a
    certificate's subject), and in lists that are sent `auth`: whoever sends it.
    """

    scheme: str
    id: str
    permissions: Permission

    @classmethod
    def open(cls) -> Self:
        """Everybody may do everything: what a key has that was given nothing else."""
        return cls("world", "anyone", permissions_of(ALL))

    @classmethod
    def read_only(cls) -> Self:
        """Everybody may read."""
        return cls("world", "anyone", Permission.READ)

    @classmethod
    def creator(cls, permissions: str = ALL) -> Self:
        """Whoever sends this list, by all the identities that it has proved: a client without one gets InvalidAcl."""
        return cls("auth", "", permissions_of(permissions))

    @classmethod
    def digest(cls, user: str, password: str, permissions: str = ALL) -> Self:
        """Whoever authenticates with this user and password. Only a hash of them is kept."""
        if not user or ":" in user:
            raise BadArguments("a user has a name, without a colon")
        return cls("digest", digest_id(f"{user}:{password}"), permissions_of(permissions))

    @classmethod
    def ip(cls, address: str, permissions: str = ALL) -> Self:
        """Whoever connects from this address, or from this network: "10.0.0.0/8"."""
        return cls("ip", address, permissions_of(permissions))

    @classmethod
    def x509(cls, subject: str, permissions: str = ALL) -> Self:
        """Whoever shows a certificate with this subject, as "CN=web,O=Example"."""
        return cls("x509", subject, permissions_of(permissions))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "scheme:id:permissions", as `str` writes it. Raises BadArguments."""
        scheme, colon, rest = text.partition(":")
        name, second, letters = rest.rpartition(":")
        if not (scheme and colon and second and letters):
            # Not repeated: there may be a password in it.
            raise BadArguments("an ACL is SCHEME:ID:PERMISSIONS, as world:anyone:r")
        return cls(scheme, name, permissions_of(letters))

    def __str__(self) -> str:
        return f"{self.scheme}:{self.id}:{letters_of(self.permissions)}"

    def __repr__(self) -> str:
        # Without the hash of a password: what is shown here ends in logs.
        name = f"{self.id.split(':', 1)[0]}:..." if self.scheme == "digest" else self.id
        return f"<Acl {self.scheme}:{name}:{letters_of(self.permissions)}>"


def permissions_of(letters: str) -> Permission:
    """The permissions that letters stand for. Raises BadArguments."""
    if type(letters) is not str or not letters or not set(letters) <= set(LETTERS):
        # Not repeated: where they were left out, a password may stand in their place.
        raise BadArguments(f"permissions are letters out of {ALL}")
    found = Permission(0)
    for letter in letters:
        found |= LETTERS[letter]
    return found


def letters_of(permissions: Permission) -> str:
    """Their letters, in ZooKeeper's order."""
    return "".join(letter for letter, permission in LETTERS.items() if permission & permissions)


def to_wire(entries: Iterable[Acl]) -> list[tuple[int, str, str]]:
    """A list as it is sent. Raises InvalidAcl for an empty one, BadArguments for what is none."""
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        raise BadArguments(f"an ACL is a list of Acl, not {type(entries).__name__}")
    sent = []
    for entry in entries:
        if not isinstance(entry, Acl):
            raise BadArguments(f"an ACL is a list of Acl, not of {type(entry).__name__}")
        sent.append((int(entry.permissions), entry.scheme, entry.id))
    if not sent:
        raise InvalidAcl("an ACL needs an entry")
    return sent


def from_wire(fields: Any) -> list[Acl]:
    """A list as it was received. Raises ProtocolError when it is none."""
    try:
        return [Acl(str(scheme), str(name), Permission(permissions)) for permissions, scheme, name in fields]
    except (TypeError, ValueError):
        raise ProtocolError(f"an ACL was due, got {type(fields).__name__}") from None
