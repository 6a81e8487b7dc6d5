"""One key of the tree: its numbers, its value, and what it is in the tree's digest.

Knows nothing of other keys and of rules. Made and changed by `keytree`, saved and loaded by `image`, read by the
serving side.

The tree keeps a sum over all its nodes, of which the machine makes its digest: each change takes a node's old
share out and puts the new one in. A share is the node's numbers, each times an odd constant of its own, times
the weight of its path; so one number that differs always shows in the sum, taken modulo 2**64.
"""

from __future__ import annotations

from crc32c import crc32c

from jkcs_client.protocol.errors import BadVersion
from jkcs_client.protocol.messages import CONTAINER_TTL
from jkcs_server.tree.acl import Acl

Stat = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""In the order of `messages.STAT_FIELDS`."""

# Odd, without a pattern, and below 2**60, where Python multiplies faster. They are part of what replicas must
# do alike.
CZXID = 0x8C3F0A1D5B7E293
MZXID = 0x6E9D2B4F81C7A35
PZXID = 0xB51E7C09A3D8F67
CTIME = 0x3A86F5D2E1947CB
MTIME = 0xD70B93E64C2A581
VERSION = 0x59E4A8C7F03D1B9
CVERSION = 0xF2617D3B98E04C5
OWNER = 0x47CB0E95D6A3F1D
SEQUENCE = 0xA9D83F62B7510EB
DATA = 0x1BF5C6E07D92A43
ACL = 0x94E7B2C5F0D3A61
AVERSION = 0xC60D5F8A1E4B397
TTL = 0x7F18D4E3B96C2A5
NEW_INDEX = CZXID + MZXID + PZXID
NEW_STAMP = CTIME + MTIME
NEW_CHILD = CVERSION + SEQUENCE
"""What a parent's share gets for a child, before its index."""


_INT32_MAX = 2**31 - 1


class Node:
    """One key. Readers may keep its `data`, never the node: it may be replaced by the next command."""

    __slots__ = (
        "acl",
        "aversion",
        "children",
        "ctime",
        "cversion",
        "czxid",
        "data",
        "mtime",
        "mzxid",
        "owner",
        "path",
        "pzxid",
        "sequence",
        "ttl",
        "version",
        "weight",
    )

    path: str
    """Where the node is, shared with the tree's dictionary. This and `weight` are set as it gets its place."""
    weight: int
    """An odd number made of the path."""

    def __init__(self, data: bytes, index: int, stamp: int, owner: int) -> None:
        self.data = data
        self.czxid = index
        """Index of the command that created the key."""
        self.mzxid = index
        """Index of the last change of `data`. Invariant: czxid <= mzxid."""
        self.pzxid = index
        """Index of the last change of `children`. Invariant: czxid <= pzxid."""
        self.ctime = stamp
        self.mtime = stamp
        self.version = 0
        """Changes of `data`."""
        self.cversion = 0
        """Changes of `children`: each creation and each deletion counts, and for a number that no child ever had, both.
        Invariant, but for SYSTEM: cversion + number of children == 2 * sequence; so whoever sees a stat knows that."""
        self.owner = owner
        """The session an ephemeral key belongs to, else 0. Invariant: an owner excludes children."""
        self.children: set[str] | None = None
        """Paths (not names: they are shared with the tree's dictionary); None before the first child."""
        self.sequence = 0
        """Number of the next sequential child: the count of all creations under the key, and more where a name was
        taken or the number was raised. It never falls."""
        self.acl: Acl | None = None
        """Who may do what; None for the open list."""
        self.aversion = 0
        """Changes of `acl`."""
        self.ttl = 0
        """Milliseconds for which the key stays though nobody sets it; CONTAINER_TTL for a container, 0 for others."""

    def stat(self) -> Stat:
        children = self.children
        return (
            self.czxid,
            self.mzxid,
            self.pzxid,
            self.ctime,
            self.mtime,
            self.version,
            self.cversion,
            self.owner,
            len(self.data),
            len(children) if children else 0,
            self.aversion,
            self.ttl,
        )

    def child_names(self) -> list[str]:
        """Sorted, without the path that they have in common."""
        if not self.children:
            return []
        ordered = sorted(self.children)
        start = ordered[0].rindex("/") + 1
        return [path[start:] for path in ordered]

    def copy(self) -> Node:
        """A second node that shares the set of children, which no snapshot looks at."""
        twin = Node(self.data, self.czxid, self.ctime, self.owner)
        twin.mzxid = self.mzxid
        twin.pzxid = self.pzxid
        twin.mtime = self.mtime
        twin.version = self.version
        twin.cversion = self.cversion
        twin.children = self.children
        twin.sequence = self.sequence
        twin.acl = self.acl
        twin.aversion = self.aversion
        twin.ttl = self.ttl
        twin.path = self.path
        twin.weight = self.weight
        return twin

    def share(self) -> int:
        """What the node is in the tree's sum."""
        rare = self.rare() if self.acl is not None or self.aversion or self.ttl else 0
        return self.weight * (
            CZXID * self.czxid
            + MZXID * self.mzxid
            + PZXID * self.pzxid
            + CTIME * self.ctime
            + MTIME * self.mtime
            + VERSION * self.version
            + CVERSION * self.cversion
            + OWNER * self.owner
            + SEQUENCE * self.sequence
            + DATA * crc32c(self.data)
            + rare
        )

    def has_lived(self, stamp: int) -> bool:
        """Whether a container, or a key with a lifetime, should go by `stamp`."""
        if not self.ttl or self.children:
            return False
        return self.sequence > 0 if self.ttl == CONTAINER_TTL else stamp >= self.mtime + self.ttl

    def rare(self) -> int:
        """The part of the share that most nodes have not; before it is times the weight."""
        acl = self.acl
        return AVERSION * self.aversion + TTL * self.ttl + (0 if acl is None else ACL * acl.share)

    def place(self, path: str) -> None:
        """Give the node its path, and what follows from it."""
        self.path = path
        self.weight = crc32c(path.encode()) << 1 | 1


def check_version(path: str, given: int, present: int) -> None:
    """Raise BadVersion, unless the one given is what is left of the present one in 32 bits.

    ZooKeeper's clients see no more of it.
    """
    if not (present > _INT32_MAX and -_INT32_MAX - 1 <= given <= _INT32_MAX and (present - given) % 2**32 == 0):
        raise BadVersion(path)
