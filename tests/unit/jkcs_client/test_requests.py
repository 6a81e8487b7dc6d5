"""Serials without a gap, requests sent again in order."""

from __future__ import annotations

from jkcs_client.protocol.errors import OK, OutcomeUnknown, SessionExpired
from jkcs_client.protocol.messages import ADMIN, GET, PING, SET
from jkcs_client.requests import Request, RequestTable


def write(table: RequestTable) -> Request:
    request = Request(SET, ("/a", b"", -1))
    table.submit(request)
    return request


def read(table: RequestTable) -> Request:
    request = Request(GET, ("/a", 0))
    table.submit(request)
    return request


def send(table: RequestTable) -> list[int]:
    """Send everything; the numbers given."""
    numbers = []
    while (request := table.next_to_send()) is not None:
        numbers.append(table.send(request, now=1.0))
    return numbers


def test_writes_are_numbered_up_and_reads_down() -> None:
    """The server tells them apart by the sign, and applies writes in the order of their serials."""
    table = RequestTable()
    write(table), read(table), write(table), read(table)
    assert send(table) == [1, -1, 2, -2]


def test_a_write_given_up_before_it_was_sent_leaves_no_gap() -> None:
    """The server would wait for the missing serial for ever."""
    table = RequestTable()
    first, second, third = write(table), write(table), write(table)
    assert table.abandon(second)
    assert send(table) == [1, 2]
    assert (first.serial, second.serial, third.serial) == (1, 0, 2)


def test_a_write_given_up_after_it_was_sent_is_kept_until_it_is_answered() -> None:
    """It may have been lost on the way, and then only sending it again closes the gap."""
    table = RequestTable()
    request = write(table)
    send(table)
    assert not table.abandon(request)
    assert table.on_connection_lost() == ([], [])
    assert send(table) == [1]
    table.settle(1, OK, 7, [])
    assert len(table) == 0


def test_a_write_given_up_between_two_connections_is_kept_too() -> None:
    """It was sent on the first; whether it arrived, only the second can tell."""
    table = RequestTable()
    request = write(table)
    send(table)
    table.on_connection_lost()
    assert not table.abandon(request)
    assert send(table) == [1]


def test_everything_unanswered_is_sent_again_in_its_old_order_before_the_rest() -> None:
    """Writes with their serial, reads with new numbers."""
    table = RequestTable()
    requests = [write(table), read(table), write(table)]
    send(table)
    later = write(table)
    table.settle(1, OK, 7, [])
    table.on_connection_lost()
    assert send(table) == [-1, 2, 3]
    assert [request.sends for request in requests] == [1, 2, 2]
    assert later.serial == 3


def test_a_read_nobody_waits_for_is_not_sent_again() -> None:
    """And it is handed back, so that its place is free."""
    table = RequestTable()
    request = read(table)
    send(table)
    assert not table.abandon(request)
    assert table.on_connection_lost() == ([request], [])
    assert send(table) == []


def test_an_admin_request_is_never_sent_a_second_time() -> None:
    """Another server would do it again, or answer for itself: the caller is told that nobody knows."""
    table = RequestTable()
    request, waiting = Request(ADMIN, ("transfer_leadership", {})), Request(ADMIN, ("configuration", {}))
    table.submit(request)
    send(table)
    table.submit(waiting)
    assert table.on_connection_lost() == ([], [request])
    assert (request.settled, request.code) == (True, OutcomeUnknown.code)
    assert send(table) == [-1] and not waiting.settled


def test_a_read_can_be_given_up_while_it_waits_to_be_sent_again() -> None:
    """Then it is simply gone."""
    table = RequestTable()
    request = read(table)
    send(table)
    table.on_connection_lost()
    assert table.abandon(request)
    assert len(table) == 0


def test_pings_die_with_their_connection() -> None:
    """A later connection must not be credited with the answer to an earlier one's ping."""
    table = RequestTable()
    table.send(Request(PING), now=1.0)
    assert table.on_connection_lost() == ([], [])
    assert send(table) == []


def test_acked_stops_at_the_first_write_without_an_answer() -> None:
    """The server forgets the replies up to there; one that is still missing could never be had again."""
    table = RequestTable()
    for _ in range(3):
        write(table)
    assert table.acked == 0
    send(table)
    table.settle(2, OK, 7, [])
    assert table.acked == 0
    table.on_connection_lost()
    assert table.acked == 0
    send(table)
    table.settle(1, OK, 6, [])
    assert table.acked == 2
    table.settle(3, OK, 8, [])
    assert table.acked == 3


def test_the_end_leaves_sent_writes_in_doubt_and_nothing_else() -> None:
    """A write that was never sent did not happen, and its caller may know it."""
    table = RequestTable()
    sent, asked = write(table), read(table)
    send(table)
    table.on_connection_lost()
    queued = write(table)
    settled = table.settle_all(SessionExpired.code, 9, "over")
    assert settled == [sent, asked, queued]
    assert [request.code for request in settled] == [OutcomeUnknown.code, SessionExpired.code, SessionExpired.code]
    assert len(table) == 0
