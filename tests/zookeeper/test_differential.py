"""The differential test in small, with Hypothesis choosing the steps, and its own parts on made-up answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from kazoo.protocol.serialization import Create, Exists
from kazoo.security import make_acl

from tests.zookeeper.answers import Owner, Stat, Zxid, answer
from tests.zookeeper.deliberate import deliberate
from tests.zookeeper.differential import Judge
from tests.zookeeper.draw import draw_step
from tests.zookeeper.frames import differences
from tests.zookeeper.operations import Operation, placed, request
from tests.zookeeper.pair import Difference, Ranks, Step
from tests.zookeeper.servers import Jkcs, RealZooKeeper, Servers, real_zookeeper_missing
from tests.zookeeper.session import Reply

EXAMPLES, STEPS = 6, 25


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Servers, Servers]]:
    if missing := real_zookeeper_missing():
        pytest.skip(f"compares with a real ZooKeeper: {missing}")
    home = Path(tmp_path_factory.mktemp("servers"))
    with RealZooKeeper(home / "real") as real, Jkcs(home / "ours") as ours:
        yield real, ours


@pytest.fixture(scope="module")
def court(servers: tuple[Servers, Servers]) -> Judge:
    real, ours = servers
    return Judge(real.addresses[0], ours.addresses[0], "h")


def test_a_node_does_what_a_real_zookeeper_does(court: Judge) -> None:
    """Hypothesis chooses the steps, and shrinks what differs. The long run is `make judges`."""

    class Both(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._run = court.new_run()
            assert self._run.begin() is None

        @rule(random=st.randoms(use_true_random=False))
        def step(self, random: Random) -> None:
            difference = None if self._run.parted else self._run.take(draw_step(random))
            assert difference is None, str(difference)

        def teardown(self) -> None:
            self._run.end()

    run_state_machine_as_test(
        Both, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, print_blob=True)
    )


def test_malformed_requests_are_refused_as_zookeeper_refuses_them(servers: tuple[Servers, Servers]) -> None:
    """What only broken or hostile clients send; what follows it on the connection shows whether it lives."""
    real, ours = servers
    assert differences(real.addresses[0], ours.addresses[0]) == []


def test_ranks_take_any_numbers_in_the_same_order() -> None:
    """Two servers number their changes differently; the order and the sameness must agree."""
    ranks = Ranks()
    assert ranks.agree(10, 3)
    assert ranks.agree(20, 9)
    assert ranks.agree(15, 4)
    assert ranks.agree(10, 3)
    assert not ranks.agree(10, 4), "the same change has another number"
    assert not ranks.agree(12, 3), "two changes have one number"
    assert not ranks.agree(30, 8), "the order is another"
    assert not ranks.agree(5, 5), "the order is another"
    assert ranks.agree(5, 1)


def test_paths_of_a_run_stand_below_its_root() -> None:
    """Runs must not disturb each other, or shrinking would find what is not there."""
    assert placed("~/a", "/r7") == "/r7/a"
    assert placed("/zookeeper/quota/@/a", "/r7") == "/zookeeper/quota/r7/a"
    assert placed("/zookeeper", "/r7") == "/zookeeper"


def test_a_request_is_framed_as_zookeeper_wants_it() -> None:
    """As kazoo writes the same."""
    head = b"\x00\x00\x00\x11" + b"\x00\x00\x00\x05" + b"\x00\x00\x00\x03"
    assert request(Operation("exists", "~/a", watch=True), 5, "/r", []) == head + Exists("/r/a", print).serialize()
    create = Operation("create", "~/a", b"v", flags=3)
    acl = [make_acl("world", "anyone", all=True)]
    assert request(create, 5, "/r", [])[12:] == Create("/r/a", b"v", acl, 3).serialize()


def test_an_answer_with_bytes_left_over_shows_them() -> None:
    """A server that sends too much differs from one that does not."""
    assert answer(Operation("create"), 0, b"\x00\x00\x00\x02/a") == ("/a",)
    assert answer(Operation("create"), 0, b"\x00\x00\x00\x02/a!") == ("/a", b"!")
    assert answer(Operation("delete"), 0, b"") == ()
    with pytest.raises(ValueError, match="too early"):
        answer(Operation("create"), 0, b"\x00\x00\x00\x09/a")


def test_a_stat_leaves_out_the_times() -> None:
    body = b"".join(number.to_bytes(8, "big") for number in (1, 2, 3, 4))
    body += b"".join(number.to_bytes(4, "big") for number in (5, 6, 7)) + (8).to_bytes(8, "big")
    body += b"".join(number.to_bytes(4, "big") for number in (9, 10)) + (11).to_bytes(8, "big")
    assert answer(Operation("exists"), 0, body) == (Stat(Zxid(1), Zxid(2), 5, 6, 7, Owner(8), 9, 10, Zxid(11)),)


def test_only_named_differences_are_deliberate() -> None:
    """Each has its reason in `deliberate.py`."""
    check = (Operation("checkWatches"),)
    assert deliberate((), None, b"")
    assert deliberate(check, 0, -121)
    assert not deliberate((), 0, -121)
    assert not deliberate(check, -121, 0)
    assert not deliberate((), b"", None)
    illegal, legal = (Operation("create", "~/a/."),), (Operation("create", "~/a/é"),)
    assert deliberate(illegal, -101, -8)
    assert deliberate((Operation("multi", parts=illegal),), -8, -114)
    assert not deliberate(legal, -101, -8)
    assert not deliberate(illegal, -8, 0)
    full, fine = Reply(0, 0, (("error", 0, 0), ("error", -125, -125))), Reply(0, 0, (("delete", 0), ("delete", 0)))
    assert deliberate((), fine, full)
    assert not deliberate((), full, fine)
    assert not deliberate((), full, full)


class _Made(Judge):
    """A judge of made-up servers, which differ when somebody deletes after somebody created."""

    def __init__(self) -> None:
        self.asked = 0

    def first_difference(self, steps: object) -> Difference | None:
        assert isinstance(steps, list)
        self.asked += 1
        created = False
        for step in steps:
            for operation in step.operations:
                created = created or operation.kind == "create"
                if created and operation.kind == "delete":
                    return Difference(step, "seen", 0, 1)
        return None


def test_a_difference_is_shrunk_to_what_it_needs() -> None:
    """Of sixty operations the two that matter are left."""
    noise = tuple(Operation("exists") for _ in range(4))
    steps = [Step(0, noise) for _ in range(12)]
    steps[3] = Step(1, (*noise, Operation("create"), *noise))
    steps[9] = Step(2, (Operation("delete"), *noise))
    judge = _Made()
    found = judge.first_difference(steps)
    assert found is not None
    few, difference = judge.shrunk(steps, found)
    assert few == [Step(1, (Operation("create"),)), Step(2, (Operation("delete"),))]
    assert difference.step == few[-1]


def test_a_seed_draws_the_same_steps_again() -> None:
    """Otherwise a seed that failed could not be looked at."""
    one, two = Random(7), Random(7)
    assert [draw_step(one) for _ in range(200)] == [draw_step(two) for _ in range(200)]
