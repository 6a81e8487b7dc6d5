"""What an operator may do to the data directory of a stopped node when the cluster cannot help itself.

    inspect             what is there, and whether a node would start on it
    read_behind         the entries that no snapshot covers
    force_new_cluster   one survivor becomes a cluster of its own, with all that it has
    rebuild             a damaged or divergent node forgets what it holds, and votes again only when refilled
    restore             an empty directory becomes a member of a new cluster that begins where a backup ends

Each goes on in a higher term than any the cluster can have known, and behind a gap of `INDEX_JUMP` indices: what the
lost part of the cluster acknowledged had indices of its own, and tokens made of indices must never come twice. At each
step a crash leaves a directory that a node refuses, or that is right before or after the step; the same call again ends
what was begun. Knows nothing of what entries and snapshots mean. The caller holds the directory's lock.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from journal.errors import StorageError
from journal.limits import Limits
from journal.record import decode_configuration, encode_configuration, make_entry
from journal.storage.disk import Disk
from journal.storage.metadata import MARK_NAME, META_NAME, Identity, Mark, Metadata
from journal.storage.segment import Segment, is_segment_name
from journal.storage.snapshots import SnapshotStore, is_snapshot_name
from journal.storage.store import Store
from journal.storage.wal import PAGE_BYTES, TEMPORARY, Wal
from journal.values import START, Configuration, Entry, EntryKind, HardState, Index, Position, SnapshotMeta, Term

TERM_JUMP = 1_000_000
"""More elections than the lost members can have held since this node heard of them."""
INDEX_JUMP = 1_000_000_000
"""More writes than a cluster acknowledges in hours at full load. One record may take so many indices."""
INDEX_JUMP_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Findings:
    """What a data directory holds."""

    identity: Identity
    hard_state: HardState
    configuration: Configuration
    last: Position
    """The end of the log, or of the newest snapshot where that is further; `START` where neither can be read."""
    acknowledged: Index
    """As far as this node may have acknowledged entries. Beyond `last.index` where its disk has lost some."""
    snapshots: tuple[SnapshotMeta, ...]
    """Good ones, newest first."""
    damaged: tuple[str, ...] = field(default=())
    """Files of snapshots that are none any more."""
    refusal: str | None = None
    """Why a node would not start on it; None when it would."""
    fenced: Index = field(default=START.index)
    """Where the node's state was found to differ from that of a quorum; 0 where it was not."""


def inspect(disk: Disk, limits: Limits) -> Findings:
    """Look, and change nothing. Raises StorageError when not even whose directory it is can be read."""
    metadata = _load_metadata(disk)
    mark = Mark.load(disk)
    cluster = cluster_digest(metadata.identity.cluster)
    configuration = metadata.configuration
    last, refusal = START, None
    snapshots: SnapshotStore | None = None
    try:
        snapshots = SnapshotStore(disk, cluster, limits)
        newest = _newest(snapshots)
        last = newest
        if snapshots.metas():
            configuration = snapshots.metas()[0].configuration
        wal = Wal.load(disk, cluster, limits, mark.index, newest)
        if wal.start.index > newest.index:
            raise StorageError(f"the log starts at index {wal.start.index + 1} and there is no good snapshot before it")
        if wal.last.index >= newest.index:
            last = wal.last
        for entry in wal.configurations(newest.index):
            configuration = decode_configuration(entry)
        if metadata.fenced:
            refusal = f"its state was found to differ from that of the cluster at index {metadata.fenced}"
    except StorageError as error:
        refusal = str(error)
    acknowledged = max(mark.index, last.index)
    if refusal is not None:
        acknowledged = max(acknowledged, _highest_named(disk, cluster, limits))
    return Findings(
        metadata.identity,
        metadata.hard_state,
        configuration,
        last,
        acknowledged,
        tuple(snapshots.metas()) if snapshots is not None else (),
        tuple(snapshots.damaged) if snapshots is not None else (),
        refusal,
        metadata.fenced,
    )


def force_new_cluster(disk: Disk, limits: Limits, configuration: Configuration, stamp: int) -> Position:
    """Make the node's own log the whole truth, for a cluster of `configuration`; returns where its log ends now.

    `stamp` is the time now, in milliseconds since 1970. What the other members acknowledged and this one never got
    is lost. Raises StorageError, having changed nothing, when a node would not start on the directory.
    """
    configuration.check()
    found = inspect(disk, limits)
    me = found.identity.node
    assert me in configuration.voters, (me, configuration)
    if found.refusal is not None:
        raise StorageError(found.refusal)
    metadata, store = _open_forced(disk, limits)
    term = Term(max(found.hard_state.term, store.last.term) + TERM_JUMP)
    # First the term, still in the old cluster: an entry must never be of a later term than the node's own. The
    # node's vote in it is spent, so that nobody ever leads in the term of these entries.
    # Lost members may come back under their old names, with other directories than this node has met.
    metadata.met = {}
    store.save(HardState(term, me), [])
    gap = _gap(store.last, term, INDEX_JUMP, stamp)
    payload = encode_configuration(configuration)
    members = make_entry(gap.last + 1, term, gap.stamp, EntryKind.CONFIGURATION, payload, gap.crc)
    # One write and one sync: before it this is a member of the old cluster that can do no harm.
    store.save(None, [gap, members])
    return store.last


def read_behind(disk: Disk, limits: Limits, position: Position) -> Iterator[Entry]:
    """The entries of the log behind `position`, the end of its newest snapshot or `START`; changes nothing.

    Raises StorageError when a node would not start on the directory, and CorruptRecord.
    """
    metadata = _load_metadata(disk)
    cluster = cluster_digest(metadata.identity.cluster)
    wal = Wal.load(disk, cluster, limits, Mark.load(disk).index, position)
    if position != START and not _agree(wal, position):
        return  # the log would be restarted behind the snapshot
    while position.index < wal.last.index:
        _, page = wal.read(Index(position.index + 1), PAGE_BYTES)
        yield from page
        newest = page[-1]
        position = Position(newest.last, newest.term, newest.crc, newest.stamp)


def check_rebuild(found: Findings) -> None:
    """Raise StorageError when no other member could refill the node."""
    others = [node for node in found.configuration.members if node != found.identity.node]
    if not others:
        raise StorageError(
            f"node {found.identity.node!r} is the only member of its cluster: nobody could give its data back"
        )


def rebuild(disk: Disk, limits: Limits) -> Findings:
    """Drop log and snapshots, keep who the node is and how it voted; returns what was there.

    All that it may have acknowledged is marked as withheld: it neither votes nor campaigns until its peers have
    given it back. Otherwise a majority could forget what a majority had promised. Raises StorageError, having
    changed nothing, when there is no other member.
    """
    found = inspect(disk, limits)
    check_rebuild(found)
    cluster = cluster_digest(found.identity.cluster)
    metadata = _load_metadata(disk)
    # The log no longer tells who the others are.
    metadata.save(metadata.hard_state, found.configuration)
    # Before anything goes: the mark alone remembers, from here on, what was promised.
    mark = Mark.load(disk)
    term = max(mark.term, found.last.term)
    mark.repair()
    mark.set(found.acknowledged, term)
    disk.sync(MARK_NAME)
    for name in disk.names():
        base = name.partition(".")[0]
        if is_snapshot_name(base) or is_segment_name(name) or name == TEMPORARY:
            disk.remove(name)
    disk.sync_names()
    Wal.create(disk, cluster, limits)
    if found.fenced:
        metadata.fence(START.index)
    return found


def restore(
    disk: Disk,
    limits: Limits,
    identity: Identity,
    incarnation: bytes,
    configuration: Configuration,
    position: Position,
    chunks: Iterable[bytes],
    commands: Sequence[tuple[bytes, int]],
    jump: int = INDEX_JUMP,
    state_digest: int = 0,
) -> Position:
    """Make an empty directory a member of a new cluster that begins with a snapshot taken elsewhere at `position`.

    `incarnation` is that of a new directory, `chunks` is the snapshot's content and `state_digest`
    that of the state in it. `commands` are payloads for machine 0,
    with the number of commands in each, to be applied behind the gap; whoever leads first commits them. Every member
    that is restored with the same arguments comes out equal, to the byte, but for its own metadata. Returns where the
    log ends. Raises StorageError when the directory is not empty, and whatever reading `chunks` raises; the directory
    is then of no use but to be removed.
    """
    configuration.check()
    assert identity.node in configuration.voters, (identity, configuration)
    assert 0 < jump <= INDEX_JUMP_MAX, jump
    if disk.names():
        raise StorageError(f"the data directory is not empty: it has {disk.names()[0]}")
    cluster = cluster_digest(identity.cluster)
    snapshots = SnapshotStore(disk, cluster, limits)
    writer = snapshots.begin(position, configuration, state_digest)
    for chunk in chunks:
        writer.add(chunk)
    writer.finish()
    wal = Wal.create(disk, cluster, limits)
    wal.reset(position)
    wal.append(restored_entries(position, commands, jump))
    mark = Mark.create(disk)
    mark.set(wal.last.index, wal.last.term)
    disk.sync(MARK_NAME)
    Metadata.create(disk, identity, incarnation, configuration, HardState(wal.last.term, identity.node))
    return wal.last


def restored_term(position: Position) -> Term:
    """The term of all entries that `restore` puts behind a snapshot."""
    return Term(position.term + TERM_JUMP)


def restored_entries(position: Position, commands: Sequence[tuple[bytes, int]], jump: int) -> list[Entry]:
    """The gap, and the commands behind it."""
    term = restored_term(position)
    # No clock: the members must come out equal.
    entries = [_gap(position, term, jump, position.stamp)]
    for payload, count in commands:
        before = entries[-1]
        entries.append(
            make_entry(before.last + 1, term, before.stamp, EntryKind.COMMANDS, payload, before.crc, count=count)
        )
    return entries


def _gap(last: Position, term: Term, jump: int, stamp: int) -> Entry:
    """One entry that does nothing and takes `jump` indices."""
    return make_entry(last.index + 1, term, max(stamp, last.stamp), EntryKind.NOOP, b"", last.crc, count=jump)


def _open_forced(disk: Disk, limits: Limits) -> tuple[Metadata, Store]:
    """The store as its node would open it, but that nothing is withheld: nobody is left who could give it back."""
    metadata, mark = _load_metadata(disk), Mark.load(disk)
    cluster = cluster_digest(metadata.identity.cluster)
    snapshots = SnapshotStore(disk, cluster, limits)
    wal = Wal.load(disk, cluster, limits, mark.index, _newest(snapshots))
    metadata.repair()
    mark.repair()
    snapshots.repair()
    wal.repair()
    store = Store(metadata, mark, wal, snapshots, Index(0))
    newest = store.snapshot
    if newest is not None and not _agree(wal, newest.position):
        store.reset(newest)
    return metadata, store


def _agree(wal: Wal, position: Position) -> bool:
    """Whether the log goes through the end of a snapshot."""
    here = wal.position_at(position.index)
    return here is not None and (here.term, here.crc) == (position.term, position.crc)


def _newest(snapshots: SnapshotStore) -> Position:
    metas = snapshots.metas()
    return metas[0].position if metas else START


def _load_metadata(disk: Disk) -> Metadata:
    if META_NAME not in disk.names():
        raise StorageError(f"this is not the data directory of a node: it has no file {META_NAME}")
    return Metadata.load(disk)


def cluster_digest(cluster: str) -> bytes:
    """The cluster's name as the files carry it."""
    return hashlib.blake2b(cluster.encode(), digest_size=8).digest()


def _highest_named(disk: Disk, cluster: bytes, limits: Limits) -> Index:
    """The highest index that any readable header of a damaged log names."""
    highest = 0
    for name in disk.names():
        if is_segment_name(name):
            highest = max(highest, int(name[4:]) - 1)
            with contextlib.suppress(StorageError):
                segment = Segment.load(disk, name, cluster, limits.record_bytes_max)
                highest = max(highest, segment.highest_named())
    return Index(highest)
