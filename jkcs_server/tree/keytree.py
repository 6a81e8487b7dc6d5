"""The hierarchy of keys: what each operation does to it, by ZooKeeper's rules.

Knows nothing of serials, clients, entries or bytes on disk. Time comes in as `stamp`, order as `index`.
Called by `apply` to change it, by `image` to save and load it, and by the serving side to read it.

One flat dictionary leads from a path to its node. Nodes are changed in place, except where somebody
still needs them as they were: a snapshot under way, or a transaction that may fail. A change of data moves
`mzxid` to its index, a change of the list of children `pzxid`; as long as that number is not above the
index to be kept, the node may be as it was then, and is replaced by a copy. So a node is copied twice at
the most, and nobody has to note which were.

The tree keeps a sum over all its nodes, of which the machine makes its digest: each change takes a node's old
share out and puts the new one in. A share is the node's numbers, each times an odd constant of its own, times
the weight of its path; so one number that differs always shows in the sum, taken modulo 2**64.
"""

from __future__ import annotations

from crc32c import crc32c

from jkcs_client.protocol.errors import (
    BadPath,
    BadVersion,
    Fenced,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
)
from jkcs_client.protocol.messages import ANY_VERSION, CreateFlag, EventKind
from jkcs_server.tree import paths

# Plain integers: to combine members of an enum costs more than to create a key.
EPHEMERAL = int(CreateFlag.EPHEMERAL)
SEQUENTIAL = int(CreateFlag.SEQUENTIAL)
PARENTS = int(CreateFlag.PARENTS)
FLAGS_MAX = EPHEMERAL | SEQUENTIAL | PARENTS

CREATED = int(EventKind.CREATED)
CHANGED = int(EventKind.CHANGED)
DELETED = int(EventKind.DELETED)

Stat = tuple[int, int, int, int, int, int, int, int, int, int]
"""In the order of `messages.STAT_FIELDS`."""

_NEVER = -1

# Odd, without a pattern, and below 2**60, where Python multiplies faster. They are part of what replicas must
# do alike.
_CZXID = 0x8C3F0A1D5B7E293
_MZXID = 0x6E9D2B4F81C7A35
_PZXID = 0xB51E7C09A3D8F67
_CTIME = 0x3A86F5D2E1947CB
_MTIME = 0xD70B93E64C2A581
_VERSION = 0x59E4A8C7F03D1B9
_CVERSION = 0xF2617D3B98E04C5
_OWNER = 0x47CB0E95D6A3F1D
_SEQUENCE = 0xA9D83F62B7510EB
_DATA = 0x1BF5C6E07D92A43
_NEW_INDEX = _CZXID + _MZXID + _PZXID
_NEW_STAMP = _CTIME + _MTIME


class Node:
    """One key. Readers may keep its `data`, never the node: it may be replaced by the next command."""

    __slots__ = (
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
        """Changes of `children`: each creation and each deletion counts."""
        self.owner = owner
        """The session an ephemeral key belongs to, else 0. Invariant: an owner excludes children."""
        self.children: set[str] | None = None
        """Paths (not names: they are shared with the tree's dictionary); None before the first child."""
        self.sequence = 0
        """Number of the next sequential child. ZooKeeper takes it from the count of all creations under
        the key, ours counts the sequential ones alone; what both promise is that it never falls."""

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
        twin.path = self.path
        twin.weight = self.weight
        return twin

    def share(self) -> int:
        """What the node is in the tree's sum."""
        return self.weight * (
            _CZXID * self.czxid
            + _MZXID * self.mzxid
            + _PZXID * self.pzxid
            + _CTIME * self.ctime
            + _MTIME * self.mtime
            + _VERSION * self.version
            + _CVERSION * self.cversion
            + _OWNER * self.owner
            + _SEQUENCE * self.sequence
            + _DATA * crc32c(self.data)
        )


class KeyTree:
    """All keys. Operations raise a DefiniteError and then have changed nothing."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {paths.ROOT: Node(b"", 0, 0, 0)}
        """Invariants: the root is there; the parent of each key is there and lists it; a parent comes
        before its children in the order of this dictionary, which is the same on all replicas.
        Replaced as a whole by `replace`: ask the tree for it each time."""
        self.ephemerals: dict[int, set[str]] = {}
        """Paths of the keys that each session owns. Invariant: a session without one has no set."""
        self.changes: list[tuple[int, str]] = []
        """Kind and path of what happened, for whoever drives the tree to take and clear."""
        self.sum = 0
        """Of the shares of all nodes. Not reduced: it grows by a bit with each doubling of the changes."""
        self._kept_to = _NEVER
        """Nodes that have not been changed since this index are replaced, not changed."""
        self._undo: list[tuple[str, Node | None]] | None = None
        """During a transaction: what each path led to before the step that changed it."""
        self._kept_to_before = _NEVER
        """During a transaction: where `_kept_to` returns to."""
        self._sum_before = 0
        """During a transaction: where `sum` returns to when it is rolled back."""
        _place(self.nodes[paths.ROOT], paths.ROOT)

    # Reading

    def find(self, path: str) -> Node | None:
        return self.nodes.get(path)

    def __len__(self) -> int:
        """Number of keys, the root among them."""
        return len(self.nodes)

    # Changing

    def create(self, path: str, data: bytes, flags: int, session_id: int, index: int, stamp: int) -> tuple[str, Node]:
        """Create a key; returns its path, with its number when it is sequential."""
        nodes = self.nodes
        cut = path.rfind("/")
        # A parent that is in the tree has a legal path, so only the name is left to be looked at; but
        # "x" and "//x" would seem to have the root as their parent.
        if cut < 0 or cut == 1:
            paths.check_form(path + "0" if flags & SEQUENTIAL else path)
        parent_path = path[:cut] if cut > 0 else paths.ROOT
        parent = nodes.get(parent_path)
        number = 0
        if flags & SEQUENTIAL:
            prefix = path
            number = parent.sequence if parent is not None else 0
            path = f"{prefix}{number:0{paths.SEQUENCE_DIGITS}}"
            # Somebody may have taken the name by hand. To fail would be to fail for ever.
            while path in nodes:
                number += 1
                path = f"{prefix}{number:0{paths.SEQUENCE_DIGITS}}"
        if not paths.is_plain_name(path[cut + 1 :]):
            paths.check_form(path)
        if parent is None:
            paths.check_form(path)
            if not flags & PARENTS:
                raise NoNode(parent_path)
            parent = self._create_ancestors(path, index, stamp)
        elif path in nodes:
            raise NodeExists(path)
        elif parent.owner:
            raise NoChildrenForEphemerals(parent_path)
        node = Node(data, index, stamp, session_id if flags & EPHEMERAL else 0)
        parent = self._add(path, node, parent_path, parent, index)
        if flags & SEQUENTIAL:
            self.sum += parent.weight * _SEQUENCE * (number + 1 - parent.sequence)
            parent.sequence = number + 1
        return path, node

    def set(self, path: str, data: bytes, version: int, index: int, stamp: int) -> Node:
        node = self.check(path, version)
        if node.mzxid <= self._kept_to:
            node = self._replace_by_copy(path, node)
        self.sum += node.weight * (
            _MZXID * (index - node.mzxid)
            + _MTIME * (stamp - node.mtime)
            + _VERSION
            + _DATA * (crc32c(data) - crc32c(node.data))
        )
        node.data = data
        node.mzxid = index
        node.mtime = stamp
        node.version += 1
        self.changes.append((CHANGED, path))
        return node

    def delete(self, path: str, version: int, index: int) -> None:
        if path == paths.ROOT:
            raise BadPath("the root cannot be deleted")
        node = self.check(path, version)
        if node.children:
            raise NotEmpty(path)
        self._remove(path, node, index)

    def check(self, path: str, version: int) -> Node:
        """The node at `path`, if it has that version."""
        node = self.nodes.get(path)
        if node is None:
            paths.check_form(path)
            raise NoNode(path)
        if version != node.version and version != ANY_VERSION:
            raise BadVersion(path)
        return node

    def guard(self, path: str, czxid: int) -> None:
        """Raise Fenced unless the key exists and was created at that index."""
        node = self.nodes.get(path)
        if node is None:
            paths.check_form(path)
        if node is None or node.czxid != czxid:
            raise Fenced(path)

    def delete_owned(self, session_id: int, index: int) -> None:
        """Delete all keys of a session that ends, in the order of their paths (they have no children)."""
        for path in sorted(self.ephemerals.get(session_id, ())):
            self._remove(path, self.nodes[path], index)

    def go_back_to(self, other: KeyTree, index: int, stamp: int) -> None:
        """Make keys and data those of `other`, by deleting, creating and setting what is different, at `index`.

        So no number goes back: a key that comes back is a new one, with a new token; a key whose data goes back has
        one version more; a sequence goes on. Ephemeral keys of `other` stay away: who owned them gave them up, or
        may have. Those that there are stay, where the keys above them do and nothing else takes their place.
        """
        assert self._undo is None and not self.changes, (index, self.changes)
        nodes, wanted = self.nodes, {path: node for path, node in other.nodes.items() if not node.owner}
        unwanted = [
            node
            for path, node in nodes.items()
            if (path in wanted if node.owner else path not in wanted)
            or (node.owner and paths.parent_of(path) not in wanted)
        ]
        # A parent comes before its children in the dictionary: backwards, they go first.
        for node in reversed(unwanted):
            self._remove(node.path, nodes[node.path], index)
        for path, model in wanted.items():
            if path not in nodes:
                parent_path = paths.parent_of(path)
                self._add(path, Node(model.data, index, stamp, 0), parent_path, nodes[parent_path], index)
            elif nodes[path].data != model.data:
                self.set(path, model.data, ANY_VERSION, index, stamp)
            node = nodes[path]
            if node.sequence < model.sequence:
                if self._kept_to != _NEVER:
                    # Neither of its two indices tells that a sequence has changed since.
                    node = self._replace_by_copy(path, node)
                self.sum += node.weight * _SEQUENCE * (model.sequence - node.sequence)
                node.sequence = model.sequence

    # Transactions

    def begin(self, index: int) -> None:
        """From here to `commit` or `roll_back` changes can be taken back. `index` is that of all of them."""
        assert self._undo is None and not self.changes, (index, self.changes)
        self._undo = []
        self._sum_before = self.sum
        self._kept_to_before, self._kept_to = self._kept_to, index - 1

    def commit(self) -> None:
        self._undo = None
        self._kept_to = self._kept_to_before

    def roll_back(self) -> None:
        """Make the tree what it was at `begin`."""
        undo = self._undo
        assert undo is not None
        self.commit()
        self.sum = self._sum_before
        self.changes.clear()
        # A parent is replaced after its child is noted, so in reverse it is the old parent, with the
        # set of children that it shares with its copies, that takes the child back or loses it.
        for path, before in reversed(undo):
            now = self.nodes.get(path)
            if before is not None and now is not None:
                self.nodes[path] = before
            elif before is not None:
                self._link(path, before, self.nodes[paths.parent_of(path)])
            else:
                assert now is not None, path
                self._unlink(path, now, self.nodes[paths.parent_of(path)])

    # Snapshots

    def keep(self, index: int) -> None:
        """Leave all nodes as they are at `index`, the last one applied, in the hands of a snapshot."""
        assert self._undo is None, index
        self._kept_to = index

    def release(self) -> None:
        """No snapshot needs old nodes any more."""
        self._kept_to = _NEVER

    def load(self, path: str, node: Node) -> None:
        """Put a saved node in its place, the root first. Raises ValueError when there is no place for it."""
        _place(node, path)
        if path == paths.ROOT and len(self.nodes) == 1:
            self.nodes[path] = node
            self.sum = node.share()
            return
        cut = path.rfind("/")
        parent = self.nodes.get(path[:cut] or paths.ROOT)
        if cut < 0 or parent is None or parent.owner or path in self.nodes:
            raise ValueError(f"no place for a key at {path!r}")
        self._link(path, node, parent)
        self.sum += node.share()

    def replace(self, other: KeyTree) -> None:
        """Become what `other` is, and let nothing of the old remain."""
        assert self._undo is None
        self.nodes = other.nodes
        self.ephemerals = other.ephemerals
        self.sum = other.sum
        self.changes.clear()
        self._kept_to = _NEVER

    def sum_anew(self) -> int:
        """What `sum` must be, from all nodes. For tests: it takes its time."""
        return sum(node.share() for node in self.nodes.values())

    # Inside

    def _create_ancestors(self, path: str, index: int, stamp: int) -> Node:
        """Create what is missing above a legal path, top first; returns the parent."""
        above = paths.ancestors_of(path)
        first = next(place for place, ancestor in enumerate(above) if ancestor not in self.nodes)
        parent_path = above[first - 1]
        parent = self.nodes[parent_path]
        if parent.owner:
            raise NoChildrenForEphemerals(parent_path)
        for ancestor in above[first:]:
            node = Node(b"", index, stamp, 0)
            self._add(ancestor, node, parent_path, parent, index)
            parent_path, parent = ancestor, node
        return parent

    def _add(self, path: str, node: Node, parent_path: str, parent: Node, index: int) -> Node:
        """Link a new node; returns its parent as it now is."""
        if self._undo is not None:
            self._undo.append((path, None))
        if parent.pzxid <= self._kept_to:
            parent = self._replace_by_copy(parent_path, parent)
        self._link(path, node, parent)
        node.path = path
        node.weight = weight = crc32c(path.encode()) << 1 | 1
        self.sum += weight * (
            _NEW_INDEX * index + _NEW_STAMP * node.ctime + _OWNER * node.owner + _DATA * crc32c(node.data)
        ) + parent.weight * (_CVERSION + _PZXID * (index - parent.pzxid))
        parent.cversion += 1
        parent.pzxid = index
        self.changes.append((CREATED, path))
        return parent

    def _remove(self, path: str, node: Node, index: int) -> None:
        if self._undo is not None:
            self._undo.append((path, node))
        parent_path = paths.parent_of(path)
        parent = self.nodes[parent_path]
        if parent.pzxid <= self._kept_to:
            parent = self._replace_by_copy(parent_path, parent)
        self._unlink(path, node, parent)
        self.sum += parent.weight * (_CVERSION + _PZXID * (index - parent.pzxid)) - node.share()
        parent.cversion += 1
        parent.pzxid = index
        self.changes.append((DELETED, path))

    def _replace_by_copy(self, path: str, node: Node) -> Node:
        if self._undo is not None:
            self._undo.append((path, node))
        twin = self.nodes[path] = node.copy()
        return twin

    def _link(self, path: str, node: Node, parent: Node) -> None:
        self.nodes[path] = node
        if parent.children is None:
            parent.children = {path}
        else:
            parent.children.add(path)
        if node.owner:
            owned = self.ephemerals.get(node.owner)
            if owned is None:
                self.ephemerals[node.owner] = {path}
            else:
                owned.add(path)

    def _unlink(self, path: str, node: Node, parent: Node) -> None:
        del self.nodes[path]
        if parent.children is not None:
            parent.children.discard(path)
        if node.owner:
            owned = self.ephemerals[node.owner]
            owned.discard(path)
            if not owned:
                del self.ephemerals[node.owner]


def _place(node: Node, path: str) -> None:
    node.path = path
    node.weight = crc32c(path.encode()) << 1 | 1
