"""kazoo's recipes, unmodified, against one node: each, with a rival that must wait for its turn.

JKCS_JUDGED=zookeeper runs the same against a real ZooKeeper.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, LockTimeout
from kazoo.protocol.states import WatchedEvent
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease
from kazoo.recipe.lock import ReadLock, WriteLock

from tests.zookeeper.kazoo_clients import PATIENCE, Clients, eventually, expire, in_background, kazoo_clients
from tests.zookeeper.servers import Servers, judged


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with judged(Path(tmp_path_factory.mktemp("servers"))) as servers:
        yield servers


@pytest.fixture
def clients(servers: Servers) -> Iterator[Clients]:
    with kazoo_clients(servers) as clients:
        yield clients


@pytest.fixture
def one(clients: Clients) -> KazooClient:
    return clients.new()


@pytest.fixture
def two(clients: Clients) -> KazooClient:
    return clients.new()


def in_line(client: KazooClient, path: str, count: int) -> None:
    """Wait until so many keys stand below a path: the way to know that a rival waits."""
    eventually(lambda: client.exists(path) and len(client.get_children(path)) == count, f"{count} keys below {path}")


def test_lock_goes_from_one_to_the_next(one: KazooClient, two: KazooClient) -> None:
    first, second = one.Lock("/lock", "first"), two.Lock("/lock", "second")
    assert first.acquire()
    assert not second.acquire(blocking=False)
    with pytest.raises(LockTimeout):
        second.acquire(timeout=0.05)
    waiting = in_background(second.acquire)
    in_line(one, "/lock", 2)
    assert first.contenders() == ["first", "second"]
    assert not waiting.done()
    first.release()
    assert waiting.result(PATIENCE)
    assert second.contenders() == ["second"]
    second.release()


def test_lock_of_an_expired_session_goes_to_the_next(clients: Clients, one: KazooClient, two: KazooClient) -> None:
    first, second = one.Lock("/lock"), two.Lock("/lock")
    assert first.acquire()
    waiting = in_background(second.acquire)
    in_line(two, "/lock", 2)
    expire(clients, one)
    assert waiting.result(PATIENCE)
    second.release()


def test_waiting_for_a_lock_can_be_cancelled(one: KazooClient, two: KazooClient) -> None:
    first, second = one.Lock("/lock"), two.Lock("/lock")
    with first:
        waiting = in_background(second.acquire)
        in_line(one, "/lock", 2)
        second.cancel()
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE)
        in_line(one, "/lock", 1)


def test_many_threads_hold_a_lock_one_at_a_time(one: KazooClient, two: KazooClient) -> None:
    inside, worst = 0, 0

    def work(client: KazooClient) -> None:
        nonlocal inside, worst
        for _ in range(5):
            with client.Lock("/lock"):
                inside += 1
                worst = max(worst, inside)
                inside -= 1

    for done in [in_background(work, client) for client in (one, two, one, two)]:
        done.result(PATIENCE)
    assert worst == 1


def test_readers_share_and_a_writer_is_alone(one: KazooClient, two: KazooClient) -> None:
    readers = [one.ReadLock("/rw", "reader 1"), two.ReadLock("/rw", "reader 2")]
    writer = two.WriteLock("/rw", "writer")
    assert isinstance(readers[0], ReadLock)
    assert isinstance(writer, WriteLock)
    assert readers[0].acquire()
    assert readers[1].acquire()
    assert not writer.acquire(blocking=False)
    waiting = in_background(writer.acquire)
    in_line(one, "/rw", 3)
    late = one.ReadLock("/rw", "reader 3")
    assert not late.acquire(blocking=False), "a reader behind a waiting writer waits"
    readers[0].release()
    readers[1].release()
    assert waiting.result(PATIENCE)
    assert not late.acquire(blocking=False)
    writer.release()
    assert late.acquire()
    late.release()


def test_semaphore_lets_so_many_in(one: KazooClient, two: KazooClient) -> None:
    first, second, third = (client.Semaphore("/semaphore", str(client), max_leases=2) for client in (one, two, one))
    assert first.acquire()
    assert second.acquire()
    assert len(first.lease_holders()) == 2
    assert not third.acquire(blocking=False)
    waiting = in_background(third.acquire)
    first.release()
    assert waiting.result(PATIENCE)
    second.release()
    third.release()


def test_election_has_one_leader_at_a_time(one: KazooClient, two: KazooClient) -> None:
    leading: Queue[str] = Queue()
    resign = threading.Event()

    def lead(name: str) -> None:
        leading.put(name)
        if name == "first":
            assert resign.wait(PATIENCE)

    first = in_background(one.Election("/election", "first").run, lead, "first")
    assert leading.get(timeout=PATIENCE) == "first"
    second_election = two.Election("/election", "second")
    second = in_background(second_election.run, lead, "second")
    eventually(lambda: second_election.contenders() == ["first", "second"], "both stand")
    assert leading.empty()
    resign.set()
    assert leading.get(timeout=PATIENCE) == "second"
    first.result(PATIENCE)
    second.result(PATIENCE)


def test_barrier_holds_until_it_is_removed(one: KazooClient, two: KazooClient) -> None:
    barrier = one.Barrier("/barrier")
    barrier.create()
    assert not two.Barrier("/barrier").wait(timeout=0.05)
    waiting = in_background(two.Barrier("/barrier").wait, PATIENCE)
    assert barrier.remove()
    assert waiting.result(PATIENCE)
    assert not barrier.remove()


def test_double_barrier_is_entered_and_left_together(one: KazooClient, two: KazooClient) -> None:
    first, second = one.DoubleBarrier("/double", 2), two.DoubleBarrier("/double", 2)
    entering = in_background(first.enter)
    in_line(two, "/double", 1)
    assert not entering.done()
    second.enter()
    entering.result(PATIENCE)
    assert first.participating
    leaving = in_background(first.leave)
    second.leave()
    leaving.result(PATIENCE)
    assert one.get_children("/double") == []


def test_counter_adds_up_what_two_add(one: KazooClient, two: KazooClient) -> None:
    def add(client: KazooClient) -> None:
        counter = client.Counter("/counter")
        for _ in range(20):
            counter += 2
            counter -= 1

    for done in [in_background(add, client) for client in (one, two)]:
        done.result(PATIENCE)
    assert one.Counter("/counter").value == 40
    shared = two.Counter("/float", default=1.5)
    shared += 0.25
    assert (shared.value, shared.pre_value, shared.post_value) == (1.75, 1.5, 1.75)
    curators = one.Counter("/curators", support_curator=True)
    curators += 7
    assert two.get("/curators")[0] == b"\x00\x00\x00\x07"


@pytest.mark.parametrize("kind", ["Party", "ShallowParty"])
def test_party_knows_its_members(clients: Clients, one: KazooClient, two: KazooClient, kind: str) -> None:
    first, second = getattr(one, kind)("/party", "first"), getattr(two, kind)("/party", "second")
    first.join()
    second.join()
    assert sorted(first) == ["first", "second"]
    assert len(second) == 2
    second.leave()
    assert list(first) == ["first"]
    expire(clients, one)
    assert len(second) == 0


def test_queue_is_first_in_first_out_within_a_priority(one: KazooClient, two: KazooClient) -> None:
    queue = one.Queue("/queue")
    for value, priority in ((b"b", 100), (b"c", 100), (b"a", 10)):
        queue.put(value, priority)
    other = two.Queue("/queue")
    assert len(other) == 3
    assert [other.get(), queue.get(), other.get(), queue.get()] == [b"a", b"b", b"c", None]


def test_locking_queue_gives_each_entry_to_one(clients: Clients, one: KazooClient, two: KazooClient) -> None:
    producer = one.LockingQueue("/locking")
    producer.put(b"late", priority=200)
    producer.put_all([b"x", b"y"], priority=100)
    taker, other = one.LockingQueue("/locking"), two.LockingQueue("/locking")
    assert taker.get(timeout=PATIENCE) == b"x"
    assert taker.holds_lock()
    assert other.get(timeout=PATIENCE) == b"y"
    assert taker.consume()
    assert other.release()
    assert taker.get(timeout=PATIENCE) == b"y"
    assert taker.consume()
    assert other.get(timeout=PATIENCE) == b"late"
    assert other.consume()
    waiting = in_background(taker.get, PATIENCE)
    other.put(b"new")
    assert waiting.result(PATIENCE) == b"new"
    assert taker.consume()


def test_set_is_partitioned_anew_when_a_member_comes_or_goes(one: KazooClient, two: KazooClient) -> None:
    items = ("a", "b", "c", "d")
    stop = threading.Event()
    held: dict[str, list[str]] = {}

    def work(client: KazooClient, name: str, mine: threading.Event) -> None:
        partitioner = client.SetPartitioner("/parts", items, identifier=name, time_boundary=0.05)
        while not stop.is_set() and not mine.is_set():
            assert not partitioner.failed
            if partitioner.release:
                held.pop(name, None)
                partitioner.release_set()
            elif partitioner.acquired:
                held[name] = sorted(partitioner)
                stop.wait(0.01)
            elif partitioner.allocating:
                partitioner.wait_for_acquire(timeout=1)
        held.pop(name, None)
        partitioner.finish()

    first_leaves, second_leaves = threading.Event(), threading.Event()
    first = in_background(work, one, "first", first_leaves)
    try:
        eventually(lambda: held.get("first") == list(items), "the first has all")
        second = in_background(work, two, "second", second_leaves)
        eventually(
            lambda: {name: len(parts) for name, parts in held.copy().items()} == {"first": 2, "second": 2},
            "each has two",
        )
        assert sorted(held["first"] + held["second"]) == list(items)
        first_leaves.set()
        eventually(lambda: held.copy() == {"second": list(items)}, "the second has all")
    finally:
        stop.set()
    first.result(PATIENCE)
    second.result(PATIENCE)


def test_children_watch_tells_every_change(one: KazooClient, two: KazooClient) -> None:
    seen: Queue[list[str]] = Queue()
    one.create("/parent")

    @one.ChildrenWatch("/parent")
    def on_children(children: list[str]) -> bool | None:
        seen.put(sorted(children))
        return False if len(children) == 2 else None

    assert seen.get(timeout=PATIENCE) == []
    two.create("/parent/a")
    assert seen.get(timeout=PATIENCE) == ["a"]
    two.create("/parent/b")
    assert seen.get(timeout=PATIENCE) == ["a", "b"]
    two.create("/parent/c")
    one.sync("/")
    assert seen.empty(), "it asked to hear no more"


def test_children_watch_is_set_again_after_a_new_session(clients: Clients, one: KazooClient, two: KazooClient) -> None:
    seen: Queue[tuple[list[str], str | None]] = Queue()
    one.create("/parent")

    @one.ChildrenWatch("/parent", send_event=True)
    def on_children(children: list[str], event: WatchedEvent | None) -> None:
        seen.put((children, event and event.type))

    assert seen.get(timeout=PATIENCE) == ([], None)
    expire(clients, one)
    two.create("/parent/a")
    last: list[str] = []
    while last != ["a"]:
        last, _ = seen.get(timeout=PATIENCE)


def test_data_watch_follows_a_key_through_its_life(one: KazooClient, two: KazooClient) -> None:
    seen: Queue[tuple[bytes | None, int | None]] = Queue()

    @one.DataWatch("/key")
    def on_data(data: bytes | None, stat: Any, event: WatchedEvent | None) -> None:
        seen.put((data, stat and stat.version))

    steps: list[tuple[Callable[[], object], tuple[bytes | None, int | None]]] = [
        (lambda: None, (None, None)),
        (lambda: two.create("/key", b"0"), (b"0", 0)),
        (lambda: two.set("/key", b"1"), (b"1", 1)),
        (lambda: two.delete("/key"), (None, None)),
        (lambda: two.create("/key", b"2"), (b"2", 0)),
    ]
    for act, expected in steps:
        act()
        assert seen.get(timeout=PATIENCE) == expected


def test_lease_is_held_by_one_until_it_is_over(one: KazooClient, two: KazooClient) -> None:
    now = datetime.datetime.fromisoformat("2030-01-01")
    hour = datetime.timedelta(hours=1)

    def lease(client: KazooClient, name: str, at: datetime.datetime) -> bool:
        return bool(NonBlockingLease(client, "/lease", hour, identifier=name, utcnow=lambda: at))

    assert lease(one, "first", now)
    assert not lease(two, "second", now)
    assert lease(one, "first", now + hour / 2), "the holder renews"
    assert not lease(two, "second", now + hour)
    assert lease(two, "second", now + 2 * hour)


def test_as_many_leases_as_wanted_are_held(one: KazooClient, two: KazooClient) -> None:
    hour = datetime.timedelta(hours=1)
    held = [bool(MultiNonBlockingLease(one, 2, "/leases", hour, identifier=name)) for name in "abc"]
    assert held == [True, True, False]


def test_tree_cache_shows_the_tree_as_it_changes(one: KazooClient, two: KazooClient) -> None:
    events: Queue[TreeEvent] = Queue()
    two.create("/tree/old", b"old", makepath=True)
    cache = TreeCache(one, "/tree")
    cache.listen(events.put)
    cache.start()
    try:
        eventually(lambda: cache.get_data("/tree/old"), "the cache knows what was there")
        two.create("/tree/new/er", b"new", makepath=True)
        eventually(lambda: cache.get_data("/tree/new/er"), "the cache knows what came")
        assert cache.get_data("/tree/new/er").data == b"new"
        two.set("/tree/old", b"changed")
        eventually(lambda: cache.get_data("/tree/old").data == b"changed", "the cache knows what changed")
        two.delete("/tree/new", recursive=True)
        eventually(lambda: cache.get_children("/tree") == frozenset({"old"}), "the cache knows what went")
    finally:
        cache.close()
    kinds = {event.event_type for event in events.queue}
    assert {TreeEvent.NODE_ADDED, TreeEvent.NODE_UPDATED, TreeEvent.NODE_REMOVED, TreeEvent.INITIALIZED} <= kinds
