"""The hierarchy of keys: what each operation does to it, by ZooKeeper's rules.

Knows nothing of serials, clients, entries or bytes on disk. Time comes in as `stamp`, order as `index`.
Called by `apply` to change it, by `image` to save and load it, and by the serving side to read it.

One flat dictionary leads from a path to its node. Nodes are changed in place, except where somebody still needs them
as they were: a snapshot under way, or a transaction that may fail. A change of data moves `mzxid` to its index, a
change of the list of children `pzxid`; as long as that number is not above the index to be kept, the node may be as
it was then, and is replaced by a copy. So a node is copied twice at the most, and nobody has to note which were.
"""

from __future__ import annotations

from crc32c import crc32c

from jkcs_client.protocol.errors import (
    BadArguments,
    BadPath,
    Fenced,
    NoAuth,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
)
from jkcs_client.protocol.messages import ANY_VERSION, CONTAINER_TTL, CreateFlag, EventKind
from jkcs_server.tree import acl as acls
from jkcs_server.tree import paths, quotas, sequences
from jkcs_server.tree.acl import Acl, Ids
from jkcs_server.tree.node import (
    CVERSION,
    DATA,
    MTIME,
    MZXID,
    NEW_CHILD,
    NEW_INDEX,
    NEW_STAMP,
    OWNER,
    PZXID,
    SEQUENCE,
    VERSION,
    Node,
    check_version,
)

# Plain integers: to combine members of an enum costs more than to create a key.
EPHEMERAL = int(CreateFlag.EPHEMERAL)
SEQUENTIAL = int(CreateFlag.SEQUENTIAL)
PARENTS = int(CreateFlag.PARENTS)
CONTAINER = int(CreateFlag.CONTAINER)
TTL = int(CreateFlag.TTL)
INT32 = int(CreateFlag.INT32)
FLAGS_MAX = EPHEMERAL | SEQUENTIAL | PARENTS | CONTAINER | TTL | INT32

CREATED = int(EventKind.CREATED)
CHANGED = int(EventKind.CHANGED)
DELETED = int(EventKind.DELETED)

CONFIG = "/zookeeper/config"
QUOTA = "/zookeeper/quota"
SYSTEM = {
    # Path, count of changes of the children, of the list, and the list: as a new ZooKeeper has them.
    paths.ROOT: (-1, 0, acls.OPEN_ENTRIES),
    "/zookeeper": (-2, 0, acls.OPEN_ENTRIES),
    CONFIG: (0, -1, ((acls.READ, "world", "anyone"),)),
    QUOTA: (0, 0, acls.OPEN_ENTRIES),
}
"""The keys that there are from the beginning and for ever."""

Change = tuple[int, str, Acl | None, Acl | None]
"""Kind and path of what happened to a key, its list and that of its parent at that moment. The parent's is None
where its list of children has not changed."""

_NEVER = -1
_CREATE = acls.CREATE
_WRITE = acls.WRITE
_DELETE = acls.DELETE
_READ = acls.READ
_ADMIN = acls.ADMIN


class KeyTree:
    """All keys. Operations raise a DefiniteError and then have changed nothing."""

    def __init__(self, *, bare: bool = False) -> None:
        """A new tree; a bare one has not even a root and is for `load`."""
        self.nodes: dict[str, Node] = {}
        """Invariants: the keys of SYSTEM are there; the parent of each key is there and lists it; a parent comes
        before its children in the order of this dictionary, which is the same on all replicas.
        Replaced as a whole by `replace`: ask the tree for it each time."""
        self.ephemerals: dict[int, set[str]] = {}
        """Paths of the keys that each session owns. Invariant: a session without one has no set."""
        self.containers: dict[str, None] = {}
        """Paths of all containers, in no order that replicas share."""
        self.ttls: dict[str, None] = {}
        """Paths of all keys that go when nobody sets them, likewise."""
        self.quotas: dict[str, quotas.Quota] = {}
        """Quotas by the path they are on. Each is what the keys below make of it."""
        self.changes: list[Change] = []
        """What happened, for whoever drives the tree to take and clear."""
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
        self._quotas_before: dict[str, quotas.Quota] = {}
        """During a transaction: likewise for `quotas`."""
        if not bare:
            for path, (cversion, aversion, entries) in SYSTEM.items():
                node = Node(b"", 0, 0, 0)
                node.cversion = cversion
                node.aversion = aversion
                node.acl = acls.shared(entries)
                self.load(path, node)

    # Reading

    def find(self, path: str) -> Node | None:
        return self.nodes.get(path)

    def __len__(self) -> int:
        """Number of keys, the root among them."""
        return len(self.nodes)

    # Changing

    def create(
        self,
        path: str,
        data: bytes,
        flags: int,
        session_id: int,
        index: int,
        stamp: int,
        ids: Ids = (),
        acl: Acl | None = None,
        ttl: int = 0,
    ) -> tuple[str, Node]:
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
            number, path = sequences.next_path(nodes, path, parent, flags & INT32 != 0)
        # A name that is legal at a glance. isprintable() alone would depend on the Unicode tables of this Python
        # (RELIABILITY 46).
        name = path[cut + 1 :]
        if not (name.isascii() and name.isprintable() and name) or name[0] == ".":
            paths.check_form(path)
        if parent is None:
            paths.check_form(path)
            if not flags & PARENTS:
                raise NoNode(parent_path)
            parent = self._create_ancestors(path, len(data), index, stamp, ids, acl)
        elif parent.acl is not None and not acls.allows(parent.acl, _CREATE, ids):
            raise NoAuth(path)
        elif path in nodes:
            raise NodeExists(path)
        elif parent.owner:
            raise NoChildrenForEphemerals(parent_path)
        elif self.quotas:
            quotas.charge(self, path, 1, len(data))
        node = Node(data, index, stamp, session_id if flags & EPHEMERAL else 0)
        if acl is not None or flags >= CONTAINER:
            node.acl = acl
            node.ttl = CONTAINER_TTL if flags & CONTAINER else ttl
        parent = self.add(path, node, parent_path, parent, index)
        if flags & SEQUENTIAL and number >= parent.sequence:
            self.skip(parent, number + 1 - parent.sequence)
        return path, nodes[path] if self.quotas else node

    def set(self, path: str, data: bytes, version: int, index: int, stamp: int, ids: Ids = ()) -> Node:
        node = self.nodes.get(path)
        if node is None:
            raise self._no_node(path)
        if node.acl is not None and not acls.allows(node.acl, _WRITE, ids):
            raise NoAuth(path)
        if self.quotas:
            quotas.charge(self, path, 0, len(data) - len(node.data))
        if version != node.version and version != ANY_VERSION:
            check_version(path, version, node.version)
        return self.put(path, node, data, index, stamp)

    def set_acl(self, path: str, acl: Acl | None, aversion: int, index: int, ids: Ids = ()) -> Node:
        """Give a key another list. Nobody is told: who may see what comes next is asked when it comes."""
        node = self.nodes.get(path)
        if node is None:
            raise self._no_node(path)
        if node.acl is not None and not acls.allows(node.acl, _ADMIN, ids):
            raise NoAuth(path)
        if aversion != node.aversion and aversion != ANY_VERSION:
            check_version(path, aversion, node.aversion)
        node = self.keep_unmarked(path, node)
        self.sum -= node.weight * node.rare()
        node.acl = acl
        node.aversion += 1
        self.sum += node.weight * node.rare()
        return node

    def raise_sequence(self, path: str, number: int, ids: Ids = ()) -> Node:
        """Let the next sequential child of a key have at least this number. Never lowers it; tells nobody."""
        node = self.nodes.get(path)
        if node is None:
            raise self._no_node(path)
        if node.acl is not None and not acls.allows(node.acl, _ADMIN, ids):
            raise NoAuth(path)
        if number > node.sequence:
            node = self.keep_unmarked(path, node)
            self.skip(node, number - node.sequence)
        return node

    def delete(self, path: str, version: int, index: int, ids: Ids = ()) -> None:
        if path in SYSTEM:
            if path == paths.ROOT:
                raise BadPath("the root cannot be deleted")
            raise BadArguments(f"{path} cannot be deleted")
        node = self.nodes.get(path)
        if node is None:
            # It may be no path at all.
            paths.check_form(path)
        parent_path = paths.parent_of(path)
        parent = self.nodes.get(parent_path)
        if parent is not None and parent.acl is not None and not acls.allows(parent.acl, _DELETE, ids):
            raise NoAuth(path)
        if node is None:
            raise NoNode(path)
        if version != node.version and version != ANY_VERSION:
            check_version(path, version, node.version)
        if node.children:
            raise NotEmpty(path)
        self.remove(path, node, index)

    def check(self, path: str, version: int, ids: Ids = ()) -> Node:
        """The node at `path`, if it has that version."""
        node = self.nodes.get(path)
        if node is None:
            raise self._no_node(path)
        if node.acl is not None and not acls.allows(node.acl, _READ, ids):
            raise NoAuth(path)
        if version != node.version and version != ANY_VERSION:
            check_version(path, version, node.version)
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
            self.remove(path, self.nodes[path], index)

    def configure(self, data: bytes, index: int, stamp: int) -> None:
        """Write down who the members are, where their clients look for it."""
        self.put(CONFIG, self.nodes[CONFIG], data, index, stamp)

    def reap(self, path: str, czxid: int, stamp: int, index: int) -> None:
        """Delete a container or a key that nobody set for its time, if it still is what it was and without children."""
        node = self.nodes.get(path)
        if node is not None and node.czxid == czxid and node.has_lived(stamp):
            self.remove(path, node, index)

    def overwrite(self, path: str, data: bytes) -> None:
        """Change a key's data without a trace: for what the tree itself counts."""
        node = self.keep_unmarked(path, self.nodes[path])
        self.sum += node.weight * DATA * (crc32c(data) - crc32c(node.data))
        node.data = data

    # Transactions

    def begin(self, index: int) -> None:
        """From here to `commit` or `roll_back` changes can be taken back. `index` is that of all of them."""
        assert self._undo is None and not self.changes, (index, self.changes)
        self._undo = []
        self._sum_before = self.sum
        self._quotas_before = self.quotas.copy()
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
        self.quotas = self._quotas_before
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

    # For the modules beside this one

    def skip(self, node: Node, numbers: int) -> None:
        """Leave out so many numbers of sequential children, as if those had been created and deleted again."""
        self.sum += node.weight * (SEQUENCE + 2 * CVERSION) * numbers
        node.sequence, node.cversion = node.sequence + numbers, node.cversion + 2 * numbers

    def lifetimes(self, ttl: int) -> dict[str, None]:
        """Where keys with this lifetime are listed."""
        return self.containers if ttl == CONTAINER_TTL else self.ttls

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
        node.place(path)
        if path == paths.ROOT and not self.nodes:
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
        self.containers = other.containers
        self.ttls = other.ttls
        self.quotas = other.quotas
        self.sum = other.sum
        self.changes.clear()
        self._kept_to = _NEVER

    def sum_anew(self) -> int:
        """What `sum` must be, from all nodes. For tests: it takes its time."""
        return sum(node.share() for node in self.nodes.values())

    # Inside

    def _no_node(self, path: str) -> Exception:
        """What to raise for a key that is not there."""
        paths.check_form(path)
        return NoNode(path)

    def _create_ancestors(self, path: str, size: int, index: int, stamp: int, ids: Ids, acl: Acl | None) -> Node:
        """Create what is missing above a legal path, top first, if there is room for a key of that size too."""
        above = paths.ancestors_of(path)
        first = next(place for place, ancestor in enumerate(above) if ancestor not in self.nodes)
        parent_path = above[first - 1]
        parent = self.nodes[parent_path]
        if not acls.allows(parent.acl, _CREATE, ids):
            raise NoAuth(path)
        if parent.owner:
            raise NoChildrenForEphemerals(parent_path)
        if self.quotas:
            quotas.charge(self, path, 1, size, above[first:])
        for ancestor in above[first:]:
            node = Node(b"", index, stamp, 0)
            node.acl = acl
            self.add(ancestor, node, parent_path, parent, index)
            parent_path, parent = ancestor, node
        return parent

    def add(self, path: str, node: Node, parent_path: str, parent: Node, index: int) -> Node:
        """Link a new node; returns its parent as it now is."""
        if self._undo is not None:
            self._undo.append((path, None))
        if parent.pzxid <= self._kept_to:
            parent = self._replace_by_copy(parent_path, parent)
        # As `_link` does it, without the call.
        self.nodes[path] = node
        if parent.children is None:
            parent.children = {path}
        else:
            parent.children.add(path)
        if node.owner or node.ttl:
            self._list(path, node)
        node.path = path
        node.weight = weight = crc32c(path.encode()) << 1 | 1
        self.sum += weight * (
            NEW_INDEX * index + NEW_STAMP * node.ctime + OWNER * node.owner + DATA * crc32c(node.data)
        ) + parent.weight * (NEW_CHILD + PZXID * (index - parent.pzxid))
        if node.acl is not None or node.ttl:
            self.sum += weight * node.rare()
        parent.cversion += 1
        parent.sequence += 1
        parent.pzxid = index
        self.changes.append((CREATED, path, node.acl, parent.acl))
        if self.quotas or path[1] == "z":
            quotas.on_change(self, path, 1, len(node.data))
        return parent

    def put(self, path: str, node: Node, data: bytes, index: int, stamp: int) -> Node:
        if node.mzxid <= self._kept_to:
            node = self._replace_by_copy(path, node)
        before = node.data
        self.sum += node.weight * (
            MZXID * (index - node.mzxid)
            + MTIME * (stamp - node.mtime)
            + VERSION
            + DATA * (crc32c(data) - crc32c(before))
        )
        node.data = data
        node.mzxid = index
        node.mtime = stamp
        node.version += 1
        self.changes.append((CHANGED, path, node.acl, None))
        if self.quotas:
            quotas.on_change(self, path, 0, len(data) - len(before))
            return self.nodes[path]
        return node

    def remove(self, path: str, node: Node, index: int) -> None:
        if self._undo is not None:
            self._undo.append((path, node))
        parent_path = paths.parent_of(path)
        parent = self.nodes[parent_path]
        if parent.pzxid <= self._kept_to:
            parent = self._replace_by_copy(parent_path, parent)
        self._unlink(path, node, parent)
        self.sum += parent.weight * (CVERSION + PZXID * (index - parent.pzxid)) - node.share()
        parent.cversion += 1
        parent.pzxid = index
        self.changes.append((DELETED, path, node.acl, parent.acl))
        if self.quotas:
            quotas.on_change(self, path, -1, -len(node.data))

    def keep_unmarked(self, path: str, node: Node) -> Node:
        """The node to change where neither of its two indices will tell that it has changed."""
        return node if self._kept_to == _NEVER else self._replace_by_copy(path, node)

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
        if node.owner or node.ttl:
            self._list(path, node)

    def _list(self, path: str, node: Node) -> None:
        """Note who a key goes with."""
        if node.owner:
            owned = self.ephemerals.get(node.owner)
            if owned is None:
                self.ephemerals[node.owner] = {path}
            else:
                owned.add(path)
        if node.ttl:
            self.lifetimes(node.ttl)[path] = None

    def _unlink(self, path: str, node: Node, parent: Node) -> None:
        del self.nodes[path]
        if parent.children is not None:
            parent.children.discard(path)
        if node.owner:
            owned = self.ephemerals[node.owner]
            owned.discard(path)
            if not owned:
                del self.ephemerals[node.owner]
        if node.ttl:
            del self.lifetimes(node.ttl)[path]
