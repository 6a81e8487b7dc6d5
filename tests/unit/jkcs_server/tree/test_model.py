"""The tree machine against the stupid model: whatever comes, both say the same and are the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.messages import CHECK, CLOSE, CREATE, DELETE, GUARD, MULTI, SEQUENCE, SET, SET_ACL
from jkcs_server.tree.acl import entries_of
from jkcs_server.tree.commands import EXPIRE, IDENTIFIED, MOVE, OPEN, REAP
from jkcs_server.tree.machine import TreeMachine
from tests.support.model_tree import ModelTree
from tests.unit.jkcs_server.tree.harness import STAMP, TERM, Log, Notebook, events_in, random_history


class Pair:
    """The same log on both sides."""

    def __init__(self) -> None:
        self.log = Log()
        self.model = ModelTree()

    def apply(self, command: tuple[Any, ...], term: int = TERM) -> None:
        """Apply one command to both and compare all that they tell."""
        index = self.log.next_index
        stamp = STAMP + index
        notes = self.log.apply(command, term=term, stamp=stamp)
        # As the log gives it: lists have become tuples.
        again = msgpack.unpackb(msgpack.packb(command), use_list=False)
        answer = self.model.apply(index, stamp, again, term)
        assert events_in(notes) == [(int(kind), path) for kind, path in self.model.events], command
        outcomes = [(note[2], note[4]) for note in notes if note[0] == "outcome"]
        if answer is None or command[0] == OPEN:
            assert outcomes == [], command
            return
        [(code, result)] = outcomes
        assert code == answer[0], (command, result, answer)
        if code == OK:
            assert result == answer[1], command
        elif command[0] == MULTI:
            assert result.partition(":")[0] == answer[1].partition(":")[0], command

    def compare(self) -> None:
        """Compare the whole state."""
        tree, sessions, model = self.log.machine.tree, self.log.machine.sessions, self.model
        assert set(tree.nodes) == set(model.keys)
        for path, node in tree.nodes.items():
            assert (node.data, node.stat()) == model.get(path), path
            assert node.child_names() == model.children(path), path
            assert node.sequence == model.keys[path].next_number, path
            assert entries_of(node.acl) == tuple(map(tuple, model.keys[path].acl)), path
            assert (path in tree.containers, path in tree.ttls) == (node.ttl < 0, node.ttl > 0), path
        assert len(tree.containers) + len(tree.ttls) == sum(node.ttl != 0 for node in tree.nodes.values())
        assert [session.id for session in sessions.values()] == list(model.sessions)
        for session in sessions.values():
            other = model.sessions[session.id]
            assert (session.password, session.timeout_ms) == (other.password, other.timeout_ms)
            assert session.serial == other.serial
            first = session.serial - len(session.replies) + 1
            assert list(range(first, session.serial + 1)) == sorted(other.replies), session.id
            assert sorted(tree.ephemerals.get(session.id, ())) == model.owned_by(session.id)
        assert self.log.machine.digest() == self.log.machine.digest_anew(), "kept up to date with every change"
        # E1: who owns a key is alive.
        assert set(tree.ephemerals) <= set(model.sessions)


names = st.sampled_from(["a", "b", "n-", "ü", "."])
key_paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)) | st.just("/")
create_paths = key_paths | key_paths.map(lambda path: path + "/")
data = st.binary(max_size=3)
versions = st.integers(-1, 2)
permissions = st.sampled_from([31, 1, 2, 4, 8, 16, 27])
people = st.sampled_from([("world", "anyone"), ("digest", "me:x"), ("ip", "10.0.0.1")])
acls = st.none() | st.lists(
    st.tuples(permissions, people).map(lambda entry: (entry[0], *entry[1])), min_size=1, max_size=2
)
ids = st.sampled_from([(), (("ip", "10.0.0.1"),), (("digest", "me:x"),), (("super", ""),)])
limits = st.sampled_from([b"count=1,bytes=2", b"count=-1,bytes=-1;byteHardLimit=3;countHardLimit=2", b"nonsense"])
quotas = st.sampled_from(
    ["/zookeeper/quota/a/zookeeper_", "/zookeeper/quota/a/b/zookeeper_", "/zookeeper/quota/zookeeper_"]
)
steps = (
    st.tuples(st.just(CREATE), create_paths, data, st.integers(0, 7))
    | st.tuples(st.just(CREATE), create_paths, data, st.sampled_from([4, 5, 6]))
    | st.tuples(st.just(SET), key_paths, data, versions)
    | st.tuples(st.sampled_from([DELETE, CHECK]), key_paths, versions)
    | st.tuples(st.just(GUARD), key_paths, st.integers(0, 30))
    | st.tuples(st.sampled_from([SET, CREATE, 99]), st.just("/a"))
    | st.tuples(st.just(CREATE), create_paths, data, st.integers(0, 63), acls, st.sampled_from([0, 0, 1, 5, 900]))
    | st.tuples(st.just(SET_ACL), key_paths, acls, versions)
    | st.tuples(st.just(SEQUENCE), key_paths, st.integers(-1, 12))
    | st.tuples(st.just(CREATE), quotas.map(lambda path: path + "limits"), limits, st.just(4))
    | st.tuples(st.just(CREATE), quotas.map(lambda path: path + "stats"), data, st.just(4))
    | st.tuples(st.just(SET), quotas.map(lambda path: path + "limits"), limits, st.just(-1))
    | st.tuples(st.just(SET), quotas.map(lambda path: path + "stats"), data, st.just(-1))
    | st.tuples(st.just(DELETE), quotas.map(lambda path: path + "limits"), st.just(-1))
)


class TreeAgainstModel(RuleBasedStateMachine):
    """Sessions write, repeat themselves and end; snapshots are taken slowly and put back."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.chunks: Iterator[bytes] | None = None
        self.written: list[bytes] = []
        self.digest = 0

    @initialize(target=sessions)
    def open_first(self) -> int:
        return self._open()

    @rule(target=sessions)
    def open(self) -> int:
        return self._open()

    @rule(session=sessions, step=steps, unknown=st.integers(0, 3))
    def write(self, session: int, step: tuple[Any, ...], unknown: int) -> None:
        self._next(session, unknown, step[0], *step[1:])

    @rule(session=sessions, several=st.lists(steps, max_size=5), unknown=st.integers(0, 3))
    def multi(self, session: int, several: list[Any], unknown: int) -> None:
        self._next(session, unknown, MULTI, several)

    @rule(session=sessions, back=st.integers(-2, 4), step=steps)
    def write_out_of_order(self, session: int, back: int, step: tuple[Any, ...]) -> None:
        serial = self.pair.log.serials[session] - back
        if back != -1 and serial > 0:
            self.pair.apply((step[0], session, serial, 0, *step[1:]))

    @rule(session=sessions, step=steps, who=ids)
    def write_as(self, session: int, step: tuple[Any, ...], who: Any) -> None:
        self._next(session, 0, step[0] + IDENTIFIED, *step[1:], who)

    @rule(session=sessions)
    def move(self, session: int) -> None:
        self.pair.apply((MOVE, session, 0, 0, b"nonce"))
        if session in self.pair.model.sessions:
            self.pair.log.serials[session] = self.pair.model.sessions[session].serial

    @rule(path=key_paths, back=st.integers(0, 5), term=st.sampled_from([TERM, TERM, TERM + 1]))
    def reap(self, path: str, back: int, term: int) -> None:
        key = self.pair.model.keys.get(path)
        self.pair.apply((REAP, 0, 0, 0, path, key.czxid if key is not None and back else back, term))

    @rule(session=sessions)
    def close(self, session: int) -> None:
        self._next(session, 1, CLOSE)

    @rule(session=sessions, term=st.sampled_from([TERM, TERM, TERM + 1]))
    def expire(self, session: int, term: int) -> None:
        self.pair.apply((EXPIRE, session, 0, 0, term))

    @precondition(lambda self: self.chunks is None)
    @rule()
    def begin_snapshot(self) -> None:
        machine = self.pair.log.machine
        self.digest = machine.digest()
        self.chunks = machine.snapshot()
        self.written = []

    @precondition(lambda self: self.chunks is not None)
    @rule()
    def write_a_chunk(self) -> None:
        assert self.chunks is not None
        chunk = next(self.chunks, None)
        if chunk is not None:
            self.written.append(chunk)
            return
        self.chunks = None
        twin = TreeMachine(Notebook())
        twin.restore(self.written)
        assert twin.digest() == self.digest

    @rule()
    def restart(self) -> None:
        """Whatever snapshot is under way is lost; the state comes back from a whole one."""
        self.chunks = None
        machine = self.pair.log.machine
        machine.restore(list(machine.snapshot()))

    @invariant()
    def same(self) -> None:
        self.pair.compare()

    def _open(self) -> int:
        index = self.pair.log.next_index
        self.pair.apply((OPEN, 0, 0, 0, index.to_bytes(16, "big"), 5000, (("ip", "10.0.0.1"),)))
        self.pair.log.serials[index] = 0
        return index

    def _next(self, session: int, unknown: int, op: int, *arguments: Any) -> None:
        serials = self.pair.log.serials
        serials[session] += 1
        acked = max(0, serials[session] - 1 - unknown)
        self.pair.apply((op, session, serials[session], acked, *arguments))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of a few keys takes several chunks."""
    monkeypatch.setattr("jkcs_server.tree.image.CHUNK_BYTES", 50)


def test_tree_is_what_the_model_is() -> None:
    """The model is too simple to be wrong in the same way."""
    run_state_machine_as_test(TreeAgainstModel, settings=settings(max_examples=120, stateful_step_count=50))


@pytest.mark.parametrize("seed", range(6))
def test_long_histories_agree(seed: int) -> None:
    """Longer than what is drawn step by step: sessions come and go, counters grow."""
    pair = Pair()
    for number, command in enumerate(random_history(100 + seed, 400)):
        pair.apply(command)
        if number % 20 == 0:
            pair.compare()
    pair.compare()
