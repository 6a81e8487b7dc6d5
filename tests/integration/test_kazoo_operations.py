"""kazoo, unmodified, against one node: each operation, with what it answers and how it fails.

JKCS_JUDGED=zookeeper runs the same against a real ZooKeeper.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType, KazooState, WatchedEvent
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, READ_ACL_UNSAFE, make_acl, make_digest_acl

from tests.zookeeper.kazoo_clients import PATIENCE, Clients, States, eventually, expire, kazoo_clients
from tests.zookeeper.operations import Operation
from tests.zookeeper.servers import Servers, judged
from tests.zookeeper.session import Session


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with judged(Path(tmp_path_factory.mktemp("servers"))) as servers:
        yield servers


@pytest.fixture
def clients(servers: Servers) -> Iterator[Clients]:
    with kazoo_clients(servers) as clients:
        yield clients


@pytest.fixture
def client(clients: Clients) -> KazooClient:
    return clients.new()


class Watch:
    """Remembers the events it was called with."""

    def __init__(self) -> None:
        self._events: Queue[WatchedEvent] = Queue()

    def __call__(self, event: WatchedEvent) -> None:
        self._events.put(event)

    def next(self) -> tuple[str, str]:
        event = self._events.get(timeout=PATIENCE)
        return event.type, event.path

    @property
    def quiet(self) -> bool:
        return self._events.empty()


def test_a_key_is_created_read_changed_and_deleted(client: KazooClient) -> None:
    assert client.create("/key", b"one") == "/key"
    data, stat = client.get("/key")
    assert (data, stat.version, stat.cversion, stat.aversion, stat.numChildren) == (b"one", 0, 0, 0, 0)
    assert stat.dataLength == 3
    assert stat.czxid == stat.mzxid == stat.pzxid
    assert stat.ctime == stat.mtime > 1_600_000_000_000
    changed = client.set("/key", b"")
    assert changed.version == 1
    assert changed.mzxid > changed.czxid == stat.czxid
    assert client.get("/key")[0] == b""
    assert client.exists("/key") == changed
    client.delete("/key")
    assert client.exists("/key") is None


def test_create_with_data_in_the_answer_and_with_its_parents(client: KazooClient) -> None:
    path, stat = client.create("/deep/er/key", b"v", makepath=True, include_data=True)
    assert path == "/deep/er/key"
    assert stat == client.exists(path)
    client.ensure_path("/deep/er/and/deeper")
    assert sorted(client.get_children("/deep/er")) == ["and", "key"]
    client.delete("/deep", recursive=True)
    assert client.exists("/deep") is None


def test_sequences_count_every_creation(client: KazooClient) -> None:
    client.create("/queue")
    assert client.create("/queue/item-", sequence=True) == "/queue/item-0000000000"
    client.create("/queue/plain")
    client.delete("/queue/plain")
    assert client.create("/queue/item-", sequence=True) == "/queue/item-0000000002"
    assert client.create("/queue/", sequence=True, ephemeral=True) == "/queue/0000000003"


def test_each_error_has_its_name(client: KazooClient) -> None:
    client.create("/parent/child", makepath=True)
    client.create("/ephemeral", ephemeral=True)
    with pytest.raises(NodeExistsError):
        client.create("/parent")
    with pytest.raises(NoNodeError):
        client.create("/missing/child")
    with pytest.raises(NoChildrenForEphemeralsError):
        client.create("/ephemeral/child")
    with pytest.raises(NotEmptyError):
        client.delete("/parent")
    for operation in (client.get, client.get_children, client.get_acls, client.delete):
        with pytest.raises(NoNodeError):
            operation("/missing")
    with pytest.raises(NoNodeError):
        client.set("/missing", b"")
    with pytest.raises(BadVersionError):
        client.set("/parent", b"", version=7)
    with pytest.raises(BadVersionError):
        client.delete("/parent/child", version=7)
    with pytest.raises(BadVersionError):
        client.set_acls("/parent", READ_ACL_UNSAFE, version=7)
    with pytest.raises(InvalidACLError):
        client.create("/invalid", acl=[make_acl("nonsense", "x", all=True)])


def test_keys_of_the_system_are_not_deleted(servers: Servers) -> None:
    client = KazooClient(hosts="{}:{}".format(*servers.addresses[0]))
    client.start(timeout=PATIENCE)
    try:
        assert "zookeeper" in client.get_children("/")
        with pytest.raises(BadArgumentsError):
            client.delete("/zookeeper/quota")
    finally:
        client.stop()
        client.close()


def test_children_come_with_the_stat_of_their_parent(client: KazooClient) -> None:
    client.create("/parent")
    for name in ("b", "a", "é"):
        client.create(f"/parent/{name}")
    children, stat = client.get_children("/parent", include_data=True)
    assert sorted(children) == ["a", "b", "é"]
    assert (stat.numChildren, stat.cversion) == (3, 3)


def test_asynchronous_calls_are_answered_in_order(client: KazooClient) -> None:
    """kazoo sends without waiting: a thousand requests on their way at once."""
    client.create("/many")
    creations = [client.create_async(f"/many/{number}", b"v") for number in range(1000)]
    reading = client.get_children_async("/many")
    assert [each.get(timeout=PATIENCE) for each in creations] == [f"/many/{number}" for number in range(1000)]
    assert len(reading.get(timeout=PATIENCE)) == 1000
    sets = [client.set_async("/many", str(number).encode()) for number in range(100)]
    assert [each.get(timeout=PATIENCE).version for each in sets] == list(range(1, 101))
    assert client.get("/many")[0] == b"99"


def test_sync_names_its_path(client: KazooClient) -> None:
    client.create("/key")
    assert client.sync("/key").endswith("/key")


def test_a_large_value_goes_through(client: KazooClient) -> None:
    value = bytes(range(256)) * 3900
    client.create("/large", value)
    assert client.get("/large")[0] == value


def test_a_watch_fires_once_for_what_it_watches(clients: Clients) -> None:
    one, two = clients.new(), clients.new()
    data, exists, children = Watch(), Watch(), Watch()
    two.create("/key")
    assert one.exists("/new", watch=exists) is None
    one.get("/key", watch=data)
    one.get_children("/key", watch=children)
    two.create("/new")
    assert exists.next() == (EventType.CREATED, "/new")
    two.set("/key", b"1")
    two.set("/key", b"2")
    assert data.next() == (EventType.CHANGED, "/key")
    two.create("/key/child")
    two.delete("/key/child")
    assert children.next() == (EventType.CHILD, "/key")
    one.get("/key", watch=data)
    one.get_children("/key", watch=children)
    two.delete("/key")
    assert data.next() == (EventType.DELETED, "/key")
    assert children.next() == (EventType.DELETED, "/key")
    one.sync("/")
    assert data.quiet
    assert exists.quiet
    assert children.quiet


def test_a_transaction_is_all_or_nothing(client: KazooClient) -> None:
    client.create("/key", b"0")
    transaction = client.transaction()
    transaction.create("/a", b"1")
    transaction.create("/a/b", sequence=True)
    transaction.set_data("/key", b"1", version=0)
    transaction.check("/key", 1)
    transaction.delete("/key", version=1)
    results = transaction.commit()
    assert results[:2] == ["/a", "/a/b0000000000"]
    assert results[2].version == 1
    assert results[3:] == [True, True]
    transaction = client.transaction()
    transaction.delete("/a/b0000000000")
    transaction.check("/a", 5)
    transaction.create("/c")
    results = transaction.commit()
    assert [type(each) for each in results] == [RolledBackError, BadVersionError, RuntimeInconsistency]
    assert client.exists("/a/b0000000000") is not None
    assert client.exists("/c") is None


def test_acls_are_kept_versioned_and_enforced(clients: Clients) -> None:
    owner, other = clients.new(), clients.new()
    digest = make_digest_acl("user", "secret", all=True)
    owner.add_auth("digest", "user:secret")
    owner.create("/mine", b"v", acl=CREATOR_ALL_ACL)
    acls, stat = owner.get_acls("/mine")
    assert (acls, stat.aversion) == ([digest], 0)
    for attempt in (
        lambda: other.get("/mine"),
        lambda: other.get_children("/mine"),
        lambda: other.set("/mine", b""),
        lambda: other.create("/mine/child"),
        lambda: other.get_acls("/mine"),
        lambda: other.set_acls("/mine", READ_ACL_UNSAFE),
    ):
        with pytest.raises(NoAuthError):
            attempt()
    assert other.exists("/mine") is not None
    stat = owner.set_acls("/mine", [digest, *READ_ACL_UNSAFE], version=0)
    assert stat.aversion == 1
    assert other.get("/mine")[0] == b"v"
    assert other.get_acls("/mine")[0][0].id.id == "user:x", "a digest is shown to those with ADMIN alone"
    with pytest.raises(NoAuthError):
        other.set("/mine", b"")
    other.add_auth("digest", "user:secret")
    other.set("/mine", b"w")
    assert owner.get("/mine")[0] == b"w"


def test_auth_data_given_at_the_start_counts_and_so_after_a_new_session(clients: Clients) -> None:
    digest = make_digest_acl("user", "secret", all=True)
    client = clients.new(auth_data=[("digest", "user:secret")], default_acl=[digest])
    client.create("/mine", b"v")
    assert client.get_acls("/mine")[0] == [digest]
    expire(clients, client)
    assert client.get("/mine")[0] == b"v"


def test_an_ip_acl_lets_this_machine_in(client: KazooClient) -> None:
    client.create("/here", acl=[make_acl("ip", "127.0.0.1", all=True)])
    client.create("/net", acl=[make_acl("ip", "127.0.0.0/8", all=True)])
    client.create("/elsewhere", acl=[make_acl("ip", "10.1.2.3", all=True)])
    assert client.get("/here")[0] == b""
    assert client.get("/net")[0] == b""
    with pytest.raises(NoAuthError):
        client.get("/elsewhere")


def test_chroots_see_their_own_tree_alone(clients: Clients) -> None:
    outer = clients.new()
    outer.create("/inner")
    inner = clients.new()
    inner.chroot = f"{clients.root}/inner"
    watch = Watch()
    outer.exists("/inner/key", watch=watch)
    inner.create("/key", b"v")
    assert watch.next() == (EventType.CREATED, "/inner/key")
    assert outer.get("/inner/key")[0] == b"v"
    assert inner.get_children("/") == ["key"]
    assert inner.exists("/inner") is None


def test_ephemerals_go_with_their_session(clients: Clients) -> None:
    watcher, owner = clients.new(), clients.new()
    owner.create("/one", ephemeral=True)
    owner.create("/two", ephemeral=True)
    gone = Watch()
    stat = watcher.exists("/one", watch=gone)
    assert stat is not None
    assert stat.ephemeralOwner == owner.client_id[0]
    owner.stop()
    assert gone.next() == (EventType.DELETED, "/one")
    assert watcher.exists("/two") is None


def test_the_session_of_a_silent_client_expires(clients: Clients) -> None:
    """A connection that is cut without a goodbye: its ephemerals stay for the session's timeout, then go."""
    watcher = clients.new()
    silent = Session(clients.servers.addresses[0], 1_000)
    silent.connect()
    silent.exchange([Operation("create", "~/eph", flags=1)], clients.root)
    silent.disconnect()
    gone = Watch()
    assert watcher.exists("/eph", watch=gone) is not None
    assert gone.next() == (EventType.DELETED, "/eph")
    assert silent.connect()[0] == "refused"


def test_a_session_comes_back_over_a_new_connection(clients: Clients) -> None:
    """kazoo loses its connection: the same session goes on, and its recipes watch again."""
    client, other = clients.new(), clients.new()
    client.create("/eph", ephemeral=True)
    other.create("/key", b"0")
    seen: Queue[bytes] = Queue()

    @client.DataWatch("/key")
    def on_data(data: bytes, stat: object) -> None:
        seen.put(data)

    assert seen.get(timeout=PATIENCE) == b"0"
    session = client.client_id
    states = States(client)
    client._connection._socket.shutdown(2)
    states.wait_for(KazooState.SUSPENDED)
    states.wait_for(KazooState.CONNECTED)
    assert client.client_id == session
    assert other.exists("/eph") is not None
    other.set("/key", b"1")
    assert seen.get(timeout=PATIENCE) == b"1"


def test_an_expired_client_gets_a_new_session_and_lost_its_keys(clients: Clients) -> None:
    client, other = clients.new(), clients.new()
    client.create("/eph", ephemeral=True)
    expire(clients, client)
    assert other.exists("/eph") is None
    client.create("/eph", ephemeral=True)


def test_a_session_with_a_wrong_password_is_refused(clients: Clients) -> None:
    client = clients.new()
    number, _ = client.client_id
    impostor = Session(clients.servers.addresses[0])
    impostor.id = number
    assert impostor.connect(password=b"wrong...........")[0] == "refused"
    client.create("/alive")


def test_retries_are_kazoos_own_affair(client: KazooClient) -> None:
    retry = KazooRetry(max_tries=3, delay=0.01, ignore_expire=False)
    assert retry(client.create, "/retried") == "/retried"
    assert client.retry(client.get, "/retried")[0] == b""
    with pytest.raises(NodeExistsError):
        client.retry(client.create, "/retried")


def test_four_letter_words_speak_to_kazoo(client: KazooClient) -> None:
    assert client.command(b"ruok") == "imok"
    assert client.server_version() >= (3, 6)
    assert "zk_znode_count" in client.command(b"mntr")
    assert "Mode: " in client.command(b"srvr")
    assert "Mode: " in client.command(b"stat")
    assert "clientPort" in client.command(b"conf")
    assert client.command(b"isro") == "rw"


def test_the_configuration_is_read_and_not_changed_by_just_anybody(servers: Servers) -> None:
    client = KazooClient(hosts="{}:{}".format(*servers.addresses[0]))
    client.start(timeout=PATIENCE)
    try:
        client.get("/zookeeper/config")
        with pytest.raises((ReconfigDisabledError, NoAuthError, KazooException)) as refused:
            client.reconfig(joining="server.9=127.0.0.1:1:2;3", leaving=None, new_members=None)
        assert isinstance(refused.value, (ReconfigDisabledError, NoAuthError))
        assert client.connected
    finally:
        client.stop()
        client.close()


def test_a_client_that_is_stopped_and_started_again_works(client: KazooClient) -> None:
    client.create("/before")
    client.stop()
    client.start(timeout=PATIENCE)
    assert client.exists("/before") is not None
    client.restart()
    assert client.exists("/before") is not None


def test_read_only_is_granted_to_those_who_ask(clients: Clients) -> None:
    """A client that would be content with a read-only server writes at one that is not."""
    client = clients.new(read_only=True)
    client.create("/key")
    eventually(lambda: client.client_state == "CONNECTED", "the client is connected, not read-only")
