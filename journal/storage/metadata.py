"""What a node must not forget besides its log: who it is, its term and vote, and how far it acknowledged.

`meta` holds two copies of the first two. They are written one after the other, each synced before the next
is touched, so that one of them is whole at every moment (R8). Nobody restores them from peers: a node that
has lost them has to come back as a new member.

`mark` holds the index of the last entry acknowledged. Knows nothing of the log itself. Called by `store.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
from crc32c import crc32c

from journal.errors import StorageError
from journal.storage.disk import Disk
from journal.values import Configuration, HardState, Index, NodeId, Term

META_NAME = "meta"
META_TEMPORARY = "meta.new"
MARK_NAME = "mark"
VERSION = 2
MAGIC = b"JKCSMETA"
SLOT_BYTES = 16384
INCARNATION_BYTES = 8

_SLOT = struct.Struct("<8sII")  # magic, version, length; then the fields, then a CRC-32C over all of it
_CRC = struct.Struct("<I")
_MARK = struct.Struct("<QQ")
MARK_BYTES = _MARK.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose data directory this is."""

    cluster: str
    node: NodeId


class Metadata:
    """The two slots of `meta`. The methods block; they run on the sync worker's thread."""

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        incarnation: bytes,
        hard_state: HardState,
        configuration: Configuration,
        met: Mapping[NodeId, bytes],
        fenced: Index,
        sequence: int,
    ) -> None:
        self._disk = disk
        self.identity = identity
        self.incarnation = incarnation
        """Made with the data directory and never changed: a node that lost its disk comes back with another one."""
        self.hard_state = hard_state
        self.configuration = configuration
        """At the start of the log, where no snapshot says otherwise."""
        self.met = met
        """The incarnation in which each other node was met first. Replaced, not changed."""
        self.fenced = fenced
        """Where this node's state was found to differ from a quorum's; 0 while all is well."""
        self._sequence = sequence
        """Rises with every save. Invariant: both slots on disk carry it, but for the time of a save."""

    @staticmethod
    def create(
        disk: Disk,
        identity: Identity,
        incarnation: bytes,
        configuration: Configuration,
        hard_state: HardState | None = None,
    ) -> Metadata:
        """Write `meta` for the first time, last of all files: whoever finds it finds a complete directory."""
        metadata = Metadata(disk, identity, incarnation, hard_state or HardState(), configuration, {}, Index(0), 1)
        slot = metadata._slot()
        disk.create(META_TEMPORARY, 2 * SLOT_BYTES)
        disk.write(META_TEMPORARY, 0, [slot])
        disk.write(META_TEMPORARY, SLOT_BYTES, [slot])
        disk.sync(META_TEMPORARY)
        disk.rename(META_TEMPORARY, META_NAME)
        disk.sync_names()
        return metadata

    @staticmethod
    def load(disk: Disk) -> Metadata:
        """Read the newer of the two slots; `repair` must follow. Raises StorageError when both are bad."""
        slots = [_read_slot(disk.read(META_NAME, at, SLOT_BYTES)) for at in (0, SLOT_BYTES)]
        good = [fields for fields in slots if fields is not None]
        if not good:
            raise StorageError(
                f"{META_NAME}: both copies of the node's term and vote are damaged; "
                "it may only come back with an empty data directory and under a new name"
            )
        sequence, cluster, node, incarnation, term, vote, members, met, fenced = max(good, key=lambda fields: fields[0])
        return Metadata(
            disk,
            Identity(cluster, NodeId(node)),
            incarnation,
            HardState(Term(term), None if vote is None else NodeId(vote)),
            Configuration.from_fields(members),
            {NodeId(name): known for name, known in met},
            Index(fenced),
            sequence,
        )

    def repair(self) -> None:
        """Bring both slots to the same state, durably.

        A slot may be stale or torn after a crash, or be only in the page cache. Were it left so, the next
        save could tear the one good slot that is left.
        """
        self._write()

    def save(self, hard_state: HardState, configuration: Configuration) -> None:
        """Durable on return. Raises DiskFailed."""
        assert hard_state.term >= self.hard_state.term, (hard_state, self.hard_state)
        self.hard_state = hard_state
        self.configuration = configuration
        self._sequence += 1
        self._write()

    def meet(self, node: NodeId, incarnation: bytes) -> None:
        """Remember in which incarnation a node was met. Durable on return."""
        self.met = {**self.met, node: incarnation}
        self._sequence += 1
        self._write()

    def fence(self, index: Index) -> None:
        """Remember that this node's state must not be used any more, or with 0 that it may. Durable on return."""
        self.fenced = index
        self._sequence += 1
        self._write()

    def _write(self) -> None:
        slot = self._slot()
        for at in (0, SLOT_BYTES):
            self._disk.write(META_NAME, at, [slot])
            self._disk.sync(META_NAME)

    def _slot(self) -> bytes:
        state = self.hard_state
        fields = msgpack.packb(
            [
                self._sequence,
                self.identity.cluster,
                self.identity.node,
                self.incarnation,
                state.term,
                state.vote,
                self.configuration.fields,
                sorted(self.met.items()),
                self.fenced,
            ]
        )
        slot: bytes = _SLOT.pack(MAGIC, VERSION, len(fields)) + fields
        slot += _CRC.pack(crc32c(slot))
        assert len(slot) <= SLOT_BYTES, len(slot)
        return slot.ljust(SLOT_BYTES, b"\0")


def _read_slot(data: bytes) -> list[Any] | None:
    """The fields of a slot, None when it is damaged. Raises StorageError for a version from the future."""
    if len(data) < _SLOT.size:
        return None
    magic, version, length = _SLOT.unpack_from(data)
    end = _SLOT.size + length
    if magic != MAGIC or end + _CRC.size > len(data) or _CRC.unpack_from(data, end)[0] != crc32c(data[:end]):
        return None
    if version != VERSION:
        raise StorageError(f"{META_NAME}: format version {version}, this program knows version {VERSION}")
    fields: list[Any] = msgpack.unpackb(data[_SLOT.size : end])
    return fields


class Mark:
    """How far this node has acknowledged: the file `mark`.

    It is written after each save, when the entries are durable, and not synced itself: it costs no wait. So
    it survives the death of the process, and tells then that a damaged tail was acknowledged and is not a
    torn write. A power cut may leave an older mark: then damage to the entries behind it that looks like a
    torn write is taken for one. It never promises too much: it rises only behind the log, and before the log
    is cut it is lowered durably.

    No crash makes it unreadable: it lies within one sector. One that is damaged or gone therefore says that
    other files may be, too, and that nobody knows how far the log went.
    """

    def __init__(self, disk: Disk, index: Index, term: Term, lost: bool = False) -> None:
        self._disk = disk
        self.index = index
        self.term = term
        """Of the entry at `index`. Both are 0 where nothing is promised."""
        self.lost = lost
        """The file is damaged or gone. Ends with `repair`."""

    @staticmethod
    def create(disk: Disk) -> Mark:
        mark = Mark(disk, Index(0), Term(0))
        mark._create()
        return mark

    @staticmethod
    def load(disk: Disk) -> Mark:
        """Read the mark, as far as there is one; `repair` must follow."""
        if MARK_NAME in disk.names():
            data = disk.read(MARK_NAME, 0, MARK_BYTES)
            if len(data) == MARK_BYTES and _CRC.unpack_from(data, _MARK.size)[0] == crc32c(data[: _MARK.size]):
                index, term = _MARK.unpack_from(data)
                return Mark(disk, Index(index), Term(term))
        return Mark(disk, Index(0), Term(0), lost=True)

    def assume(self, index: Index, term: Term) -> None:
        """In place of a lost mark, promise this. `repair` must follow."""
        assert self.lost, (self.index, index)
        self.index = index
        self.term = term

    def repair(self) -> None:
        """See to it that the file exists and holds what was loaded or assumed, durably.

        A mark that was lowered may be in the page cache only: were the higher one to come back after the
        log was cut, it would promise what is gone.
        """
        if self.lost:
            self._create()
            self.lost = False
        else:
            self._disk.sync(MARK_NAME)

    def _create(self) -> None:
        self._disk.create(MARK_NAME, MARK_BYTES)
        self._disk.write(MARK_NAME, 0, [self._data()])
        self._disk.sync(MARK_NAME)
        self._disk.sync_names()

    def _data(self) -> bytes:
        data = _MARK.pack(self.index, self.term)
        return data + _CRC.pack(crc32c(data))

    def set(self, index: Index, term: Term) -> None:
        """The log up to here is durable and is about to be acknowledged."""
        self.index = index
        self.term = term
        self._disk.poke(MARK_NAME, 0, self._data())

    def lower(self, index: Index, term: Term) -> None:
        """The log is about to be cut to end here; no mark beyond it may outlive it. Durable on return."""
        if self.index > index:
            self.set(index, term)
            self._disk.sync(MARK_NAME)
