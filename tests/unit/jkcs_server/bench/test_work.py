"""Numbered keys: path and value follow from the number, so answers can be checked without a memory."""

from __future__ import annotations

from jkcs_server.bench.work import Kind, Work


def test_cyclic_work_begins_where_it_is_told_and_comes_round() -> None:
    """Connections begin at different keys, so that they do not all write the same one."""
    work = Work(Kind.SET, "/f", 10, first=8, cycle=10)
    assert [work.key(number) for number in range(4)] == [8, 9, 0, 1]
    assert Work(Kind.CREATE, "/f", 10, first=8).key(4) == 12


def test_values_have_their_size_and_differ() -> None:
    """A read that returns another key's value must be noticed."""
    work = Work(Kind.SET, "/f", 100)
    assert {len(work.value(key)) for key in (0, 7, 10**9)} == {100}
    assert work.value(1) != work.value(11)
    assert Work(Kind.SET, "/f", 2).value(12345) == b"12"
    assert Work(Kind.SET, "/f", 0).value(3) == b""


def test_paths_lie_in_their_folder() -> None:
    """The folder may be the root."""
    assert Work(Kind.SET, "/f/g", 1).path(3) == "/f/g/k3"
    assert Work(Kind.SET, "", 1, stem="bench-").path(0) == "/bench-0"


def test_a_key_that_the_server_numbers_is_asked_for_without_its_number() -> None:
    """Its name is known all the same: in a folder of its own the numbers begin with zero."""
    work = Work(Kind.CREATE_SEQUENTIAL, "/f", 1, digits=10)
    assert (work.asked(3), work.path(3)) == ("/f/k", "/f/k0000000003")
    assert Work(Kind.CREATE, "/f", 1).asked(3) == "/f/k3"
