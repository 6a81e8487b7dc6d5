"""Who may do what with a key: ZooKeeper's access control lists.

Knows nothing of keys, sessions and connections. A caller is a tuple of identities, each a scheme and a name in
it; a list grants permissions to identities. Called by `keytree` for writes, by the serving side for reads and
events, and by the edges to make a client's list fit to be proposed.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from weakref import WeakValueDictionary

from crc32c import crc32c
from msgpack import packb

from jkcs_client.protocol.errors import BadArguments, InvalidAcl, TooLarge
from jkcs_client.protocol.messages import ACL_ENTRIES_MAX, ACL_ID_BYTES_MAX, Permission

# Plain integers: they are compared for every request that meets a list.
READ = int(Permission.READ)
WRITE = int(Permission.WRITE)
CREATE = int(Permission.CREATE)
DELETE = int(Permission.DELETE)
ADMIN = int(Permission.ADMIN)
ALL = READ | WRITE | CREATE | DELETE | ADMIN

Entry = tuple[int, str, str]
"""Permissions, and to whom: scheme and name."""
Ids = tuple[tuple[str, str], ...]
"""Who somebody is: schemes and names. `SUPER` may do everything."""

OPEN_ENTRIES: tuple[Entry, ...] = ((ALL, "world", "anyone"),)
"""What a key has that was given nothing else."""
SUPER = ("super", "")

_AUTHENTICATED = ("digest", "x509", "sasl")
"""The schemes in which somebody has proved who he is: those that `auth` stands for. An address is no proof."""
_ADDRESSES_KEPT = 1024


class Acl:
    """A list other than the open one. Equal lists are one object: compare with `is`, make with `shared`."""

    __slots__ = ("__weakref__", "entries", "share")

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries
        self.share = crc32c(packb(entries))
        """Stands for the entries in the digest."""


_lists: WeakValueDictionary[tuple[Entry, ...], Acl] = WeakValueDictionary()
"""Every list that a key has: many keys, few lists."""


def shared(entries: tuple[Entry, ...]) -> Acl | None:
    """The one object for these entries; None when they are the open list."""
    if entries == OPEN_ENTRIES:
        return None
    found = _lists.get(entries)
    if found is None:
        found = _lists[entries] = Acl(entries)
    return found


def entries_of(acl: Acl | None) -> tuple[Entry, ...]:
    return OPEN_ENTRIES if acl is None else acl.entries


def parse(value: object) -> Acl | None:
    """A list out of a command: nil, or [[permissions, scheme, name], ...]. Raises BadArguments for another shape."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value:
        raise BadArguments("an ACL must be a list of [permissions, scheme, name]")
    return shared(tuple([_entry(entry) for entry in value]))


def parse_ids(value: object) -> Ids:
    """Identities out of a command: [[scheme, name], ...]. Raises BadArguments for another shape."""
    if isinstance(value, list | tuple) and all(_is_id(identity) for identity in value):
        return tuple([(scheme, name) for scheme, name in value])
    raise BadArguments("identities must be a list of [scheme, name]")


def check_size(value: object) -> None:
    """Raise TooLarge or BadArguments for a list that no client may send."""
    parse(value)
    if isinstance(value, list | tuple):
        if len(value) > ACL_ENTRIES_MAX:
            raise TooLarge(f"an ACL of {len(value)} entries, limit {ACL_ENTRIES_MAX}")
        for _, scheme, name in value:
            if len(scheme.encode()) + len(name.encode()) > ACL_ID_BYTES_MAX:
                raise TooLarge(f"an identity of more than {ACL_ID_BYTES_MAX} bytes in an ACL")


def allows(acl: Acl | None, permission: int, ids: Ids) -> bool:
    """Whether somebody with these identities has the permission (of several, one is enough)."""
    if acl is None or SUPER in ids:
        return True
    for permissions, scheme, name in acl.entries:
        if permissions & permission:
            if scheme == "world" and name == "anyone":
                return True
            if any(scheme == mine and _matches(scheme, name, who) for mine, who in ids):
                return True
    return False


def fix(entries: tuple[Entry, ...], ids: Ids) -> tuple[Entry, ...]:
    """What to propose for a client's list: without repetitions, and with the client's own identities for `auth`.

    Raises InvalidAcl for a list that is empty, or names what is no identity.
    """
    if not entries:
        raise InvalidAcl("an ACL needs an entry")
    fixed: list[Entry] = []
    for permissions, scheme, name in dict.fromkeys(entries):
        if scheme == "auth":
            mine = [(permissions, who[0], who[1]) for who in ids if who[0] in _AUTHENTICATED]
            if not mine:
                raise InvalidAcl("the scheme auth stands for the identities of a client, and this one has none")
            fixed.extend(mine)
        elif _is_valid(scheme, name):
            fixed.append((permissions, scheme, name))
        else:
            # Not all of the name: it may be a password that was not made a digest.
            raise InvalidAcl(f"{scheme[:20]}:{name.split(':', 1)[0][:100]} is nobody")
    return tuple(fixed)


def redacted(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The list as somebody may see it who has not ADMIN: without what could be tried against passwords."""
    return tuple(
        [
            (permissions, scheme, name.split(":", 1)[0] + ":x" if scheme == "digest" else name)
            for permissions, scheme, name in entries
        ]
    )


def _entry(value: object) -> Entry:
    if isinstance(value, list | tuple) and len(value) == 3:
        permissions, scheme, name = value
        if type(permissions) is int and 0 <= permissions <= ALL and type(scheme) is str and type(name) is str:
            return permissions, scheme, name
    raise BadArguments("an ACL must be a list of [permissions, scheme, name]")


def _is_id(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(part) is str for part in value)


def _matches(scheme: str, name: str, who: str) -> bool:
    """Whether the identity `who` is meant by `name`, both of one scheme."""
    if scheme != "ip":
        return who == name
    network = _network(name)
    address = _network(who)
    if network is None or address is None or network[1] != address[1]:
        return False
    number, width, bits = network
    return number >> (width - bits) == address[0] >> (width - bits)


@lru_cache(_ADDRESSES_KEPT)
def _network(text: str) -> tuple[int, int, int] | None:
    """The number of "address" or "address/bits", its width and those bits."""
    address, slash, bits = text.partition("/")
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return None
    width = parsed.max_prefixlen
    if not slash:
        return int(parsed), width, width
    if not (bits.isascii() and bits.isdigit() and len(bits) <= 3 and int(bits) <= width):
        return None
    return int(parsed), width, int(bits)


def _is_valid(scheme: str, name: str) -> bool:
    if scheme == "world":
        return name == "anyone"
    if scheme == "ip":
        return _network(name) is not None
    if scheme == "digest":
        # As ZooKeeper counts: nothing behind the last colon is no part, and nobody looks at what the parts are.
        return len(name.rstrip(":").split(":")) == 2
    return scheme in ("x509", "sasl") and name != ""
