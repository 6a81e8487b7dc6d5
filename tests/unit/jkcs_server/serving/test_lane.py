"""The order of one connection's answers, as a table of stories."""

from __future__ import annotations

from typing import Any

from jkcs_server.serving.lane import Lane


class RecordingFront:
    """Writes down what the lane asks for."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def answer(self, request: Any) -> None:
        self.log.append(f"answer {request[0]}")

    def propose(self, request: Any) -> None:
        self.log.append(f"propose {request[0]}")


def lane() -> tuple[Lane, list[str]]:
    front = RecordingFront()
    return Lane(front), front.log


def finish(of: Lane, serial: int, log: list[str], confirmed: int = 0) -> None:
    assert of.outcome(serial)
    log.append(f"outcome {serial}")
    of.drain(confirmed)


def test_writes_are_proposed_without_waiting_for_each_other() -> None:
    """Pipelining: a window of writes costs one round, not one each."""
    subject, log = lane()
    for serial in (1, 2, 3):
        subject.write(serial, [f"w{serial}"])
    assert log == ["propose w1", "propose w2", "propose w3"]


def test_a_local_read_between_two_writes_is_answered_between_their_outcomes() -> None:
    """ZooKeeper's FIFO order: the read must see the first write and not the second."""
    subject, log = lane()
    subject.write(1, ["w1"])
    subject.local_read(["r"])
    subject.write(2, ["w2"])
    finish(subject, 1, log)
    finish(subject, 2, log)
    assert log == ["propose w1", "propose w2", "outcome 1", "answer r", "outcome 2"]


def test_a_read_waits_for_its_own_round_and_not_only_for_any() -> None:
    """A round that started before the read came proves nothing about it."""
    subject, log = lane()
    subject.round_read(2, ["r"])
    subject.drain(1)
    assert log == [] and subject.waits_for_round
    subject.drain(2)
    assert log == ["answer r"] and not subject.waits_for_round


def test_a_write_behind_an_unconfirmed_read_is_held_back() -> None:
    """Otherwise the read would be answered from a state that already holds the write that came after it."""
    subject, log = lane()
    subject.round_read(1, ["r"])
    subject.write(1, ["w1"])
    subject.write(2, ["w2"])
    assert log == []
    subject.drain(1)
    assert log == ["answer r", "propose w1", "propose w2"]


def test_held_writes_are_released_only_up_to_the_next_unconfirmed_read() -> None:
    subject, log = lane()
    subject.round_read(1, ["r1"])
    subject.write(1, ["w1"])
    subject.round_read(2, ["r2"])
    subject.write(2, ["w2"])
    subject.drain(1)
    assert log == ["answer r1", "propose w1"]
    finish(subject, 1, log, confirmed=1)
    assert log[2:] == ["outcome 1"]
    subject.drain(2)
    assert log[3:] == ["answer r2", "propose w2"]


def test_a_confirmed_read_behind_a_write_is_answered_after_that_write() -> None:
    """Read your writes, also when the round is faster than the log."""
    subject, log = lane()
    subject.write(1, ["w1"])
    subject.round_read(1, ["r"])
    subject.drain(1)
    assert log == ["propose w1"]
    finish(subject, 1, log, confirmed=1)
    assert log == ["propose w1", "outcome 1", "answer r"]


def test_an_outcome_that_was_answered_before_is_ignored() -> None:
    """A write that was proposed twice comes out of the log twice; the client gets one answer."""
    subject, _ = lane()
    subject.write(1, ["w1"])
    subject.write(2, ["w2"])
    assert subject.outcome(1)
    assert not subject.outcome(1)
    assert subject.outcome(2)
    assert not subject.outcome(2)
    assert len(subject) == 0


def test_only_proposed_writes_are_offered_for_proposing_again() -> None:
    """A held write was never sent: proposing it now would break the order it is held for."""
    subject, _ = lane()
    subject.write(1, ["w1"])
    subject.round_read(1, ["r"])
    subject.write(2, ["w2"])
    assert subject.unanswered_writes() == [["w1"]]


def test_a_task_holds_back_the_answers_behind_it_until_it_is_finished() -> None:
    """Two that are alike are two: which is finished is told by identity."""
    subject, log = lane()
    first, second = ["task"], ["task"]
    subject.task(first)
    subject.task(second)
    subject.local_read(["r1"])
    subject.write(1, ["w1"])
    subject.finish(second)
    subject.drain(0)
    assert log == ["propose w1"] and subject.unanswered_writes() == [["w1"]]
    subject.finish(first)
    subject.drain(0)
    assert log == ["propose w1", "answer task", "answer task", "answer r1"]
