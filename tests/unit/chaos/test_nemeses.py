"""How harm is chosen, and what counts as a clear refusal."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

from journal.storage.segment import is_segment_name
from tests.chaos.nemeses import NAMES_THE_DAMAGE, NEMESES, Damage, sequence


def test_every_nemesis_comes_once_before_any_comes_twice() -> None:
    """A short run must have seen them all."""
    first = list(islice(sequence(Random(5), NEMESES), len(NEMESES)))
    assert sorted(nemesis.name for nemesis in first) == sorted(nemesis.name for nemesis in NEMESES)


def test_a_seed_decides_the_order() -> None:
    """A failure can be looked for again."""

    def names(seed: int) -> list[str]:
        return [nemesis.name for nemesis in islice(sequence(Random(seed), NEMESES), 60)]

    assert names(5) == names(5)
    assert names(5) != names(6)


def test_damage_hits_what_was_written_and_can_be_undone(tmp_path: Path) -> None:
    """A bit in the zeros that a segment reserves would prove little."""
    segment = tmp_path / f"log-{1:020d}"
    content = b"written" + bytes(10_000)
    segment.write_bytes(content)
    (tmp_path / "meta").write_bytes(b"x")
    for seed in range(20):
        damage = Damage.choose(Random(seed), tmp_path, is_segment_name)
        assert damage is not None and damage.path == segment
        damage.inflict()
        changed = segment.read_bytes()
        assert sum(a != b for a, b in zip(changed, content, strict=True)) == 1
        assert changed[7:] == content[7:]
        damage.repair()
        assert segment.read_bytes() == content


def test_a_refusal_must_name_a_file_or_an_index() -> None:
    """Else the operator does not know what to bring back."""
    for words in ("log-00000000000000000001: record header at byte 3228", "the entry at index 12 is damaged"):
        assert NAMES_THE_DAMAGE.search(words)
    for words in ("it is broken", "KeyError: 7", "struct.error: unpack requires 4 bytes"):
        assert not NAMES_THE_DAMAGE.search(words)
