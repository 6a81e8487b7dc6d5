"""What is done to the servers, one thing after another, while the clients work.

Each nemesis does its harm, holds it for a while, and makes it good again; afterwards the cluster must find a leader.
Which one comes next, whom it hits and for how long is drawn from the run's seed. Uses `cluster.py`; judges only what a
node says when it starts or ends. Called by `run.py`.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from jkcs_server.cli.processes import ProcessFailed
from journal.storage.segment import is_segment_name
from journal.storage.snapshots import is_snapshot_name
from tests.chaos.cluster import SERVE_TIMEOUT, ChaosCluster
from tests.chaos.worker import Worker
from tests.simulation.trace import Violation

NAMES_THE_DAMAGE = re.compile(r"log-\d+|snap-\d+|\bindex \d+|\bmeta\b|\bmark\b")
NAMES_THE_DISK = re.compile(r"no space|disk|space left", re.IGNORECASE)


@dataclass(slots=True)
class Stage:
    """What a nemesis may lay its hands on."""

    cluster: ChaosCluster
    random: Random
    workers: Sequence[Worker] = ()
    kills: int = 0
    """Processes killed with signal 9 so far."""
    refusals: list[str] = field(default_factory=list)
    """What nodes said that would not start from a damaged file."""

    def hold(self, least: float, most: float) -> None:
        """Let the harm last."""
        time.sleep(self.random.uniform(least, most))

    def any_node(self) -> str:
        return self.random.choice(sorted(self.cluster.nodes))

    def preferably_leader(self, chance: float = 0.65) -> str:
        """The leader, most of the time."""
        return self.leader() if self.random.random() < chance else self.any_node()

    def leader(self) -> str:
        return self.cluster.leader() or self.any_node()

    def kill(self, *names: str) -> None:
        """All at the same moment, as far as that goes."""
        for name in names:
            process = self.cluster.nodes[name].process
            assert process is not None, name
            self.cluster.nodes[name].wanted = False
            process.send_signal(signal.SIGKILL)
        for name in names:
            self.cluster.kill(name)
            self.kills += 1

    def start(self, *names: str) -> None:
        """Start nodes that must start: their files were not touched."""
        for name in names:
            self.cluster.restart(name)
        for name in names:
            words = self.cluster.wait_started(name)
            if words:
                raise Violation("RESTART", f"{name} does not come back: {words}")

    def settle(self) -> None:
        """All nodes answer and follow one leader, or the cluster is stuck."""
        try:
            self.cluster.wait_for_leader(SERVE_TIMEOUT)
        except ProcessFailed as error:
            raise Violation("LIVENESS", f"after everything was healed: {error}") from None


@dataclass(frozen=True, slots=True)
class Nemesis:
    """One kind of harm."""

    name: str
    weight: int
    strike: Callable[[Stage], str]
    """Does it, undoes it, and says what it was."""
    needs_small_disk: bool = False

    def why_not(self, cluster: ChaosCluster) -> str:
        """Why it cannot be done here; "" when it can."""
        if self.needs_small_disk and not cluster.small_disks:
            return "it needs root, to mount a memory file system of a fixed size"
        return ""


def kill(stage: Stage) -> str:
    victim = stage.preferably_leader()
    stage.kill(victim)
    stage.hold(0.1, 2.0)
    stage.start(victim)
    return victim


def kill_all(stage: Stage) -> str:
    names = sorted(stage.cluster.nodes)
    stage.kill(*names)
    stage.hold(0.0, 0.5)
    stage.start(*names)
    return "all"


def restart(stage: Stage) -> str:
    """SIGTERM: it hands over and ends in good order."""
    victim = stage.preferably_leader()
    stage.cluster.kill(victim, signal.SIGTERM)
    code = stage.cluster.nodes[victim].exit_code
    if code != 0:
        raise Violation("STOP", f"{victim} ended with {code} of SIGTERM: {stage.cluster.nodes[victim].last_words()}")
    stage.hold(0.0, 1.0)
    stage.start(victim)
    return victim


def pause(stage: Stage) -> str:
    victim = stage.preferably_leader(0.8)
    stage.cluster.pause(victim)
    if stage.random.random() < 0.5:
        # Just long enough for a new leader, and too short for the clients to leave: their reads are still in the
        # sockets of the old one, which must not answer them from what it knew.
        stage.hold(0.7, 1.3)
    else:
        stage.hold(0.2, 3.0)
    stage.cluster.resume(victim)
    return victim


def pause_clients(stage: Stage) -> str:
    """Long enough that sessions expire while their holders stand still, with locks in hand."""
    if not stage.workers:
        return "nobody"
    victim = stage.random.choice(stage.workers)
    victim.process.send_signal(signal.SIGSTOP)
    stage.hold(2.0, 5.0)
    victim.process.send_signal(signal.SIGCONT)
    return victim.name


def halves(stage: Stage) -> str:
    names = sorted(stage.cluster.nodes)
    stage.random.shuffle(names)
    side = sorted(names[: len(names) // 2])
    return _partition(stage, side)


def leader_alone(stage: Stage) -> str:
    return _partition(stage, [stage.leader()])


def _partition(stage: Stage, side: Sequence[str]) -> str:
    stage.cluster.isolate(side)
    stage.hold(0.5, 3.0)
    stage.cluster.heal_links()
    return " ".join(side)


def one_way(stage: Stage) -> str:
    """A node that is heard but does not hear, or the other way round; of one other or of all."""
    victim = stage.preferably_leader()
    others = [name for name in sorted(stage.cluster.nodes) if name != victim]
    if stage.random.random() < 0.5:
        others = [stage.random.choice(others)]
    if stage.random.random() < 0.5:
        senders, receivers = [victim], others
    else:
        senders, receivers = others, [victim]
    stage.cluster.cut(senders, receivers)
    stage.hold(0.5, 3.0)
    stage.cluster.heal_links()
    return f"{' '.join(senders)} not heard by {' '.join(receivers)}"


def slow_link(stage: Stage) -> str:
    pairs = stage.random.sample(sorted(stage.cluster.links), stage.random.randrange(1, len(stage.cluster.nodes) + 1))
    for pair in pairs:
        stage.cluster.do(stage.cluster.links[pair], "slow", stage.random.uniform(0.02, 0.4))
    stage.hold(1.0, 4.0)
    stage.cluster.heal_links()
    return ", ".join(f"{sender} to {receiver}" for sender, receiver in pairs)


def torn_frame(stage: Stage) -> str:
    """Connections that end in the middle of a frame, several times in a row."""
    cuts = stage.random.randrange(4, 12)
    for _ in range(cuts):
        link = stage.cluster.links[stage.random.choice(sorted(stage.cluster.links))]
        stage.cluster.do(link, "tear", stage.random.randrange(200))
        stage.hold(0.05, 0.3)
    stage.cluster.heal_links()
    return f"{cuts} times"


def client_cut(stage: Stage) -> str:
    """Clients lose some or all servers, by silence or by a reset."""
    names = sorted(stage.cluster.nodes)
    victims = stage.random.sample(names, stage.random.randrange(1, len(names) + 1))
    what = stage.random.choice(("cut", "reset"))
    for name in sorted(victims):
        stage.cluster.do(stage.cluster.client_links[name], what)
    stage.hold(0.3, 3.0)
    stage.cluster.heal_links()
    return f"{what} {' '.join(sorted(victims))}"


def full_disk(stage: Stage) -> str:
    """No room on one node's disk for a while. It may end, saying why, or stay; with room again it must be back."""
    cluster = stage.cluster
    victim = stage.random.choice(cluster.small_disks)
    node = cluster.nodes[victim]
    node.wanted = False
    cluster.fill_disk(victim)
    deadline = time.monotonic() + stage.random.uniform(2.0, 5.0)
    while node.running and time.monotonic() < deadline:
        time.sleep(0.05)
    cluster.empty_disk(victim)
    # It may have failed in this moment, and be about to end.
    stage.hold(0.5, 1.0)
    ended = bool(cluster.wait_started(victim))
    if ended and not NAMES_THE_DISK.search(cluster.said(victim)):
        raise Violation("FULL DISK", f"{victim} ended and does not say why: {cluster.said(victim)}")
    if ended:
        stage.start(victim)
    node.wanted = True
    return f"{victim}, which {'ended and came back' if ended else 'stayed'}"


def flip_log(stage: Stage) -> str:
    return _flip(stage, is_segment_name)


def flip_snapshot(stage: Stage) -> str:
    return _flip(stage, is_snapshot_name)


def _flip(stage: Stage, wanted: Callable[[str], bool]) -> str:
    """One bit of one file of a stopped node. It starts and is right, or refuses and names the damage.

    After a refusal the byte is put back, as from a copy, and it must start. It is never wiped.
    """
    cluster = stage.cluster
    victim = stage.preferably_leader(0.3)
    stage.kill(victim)
    damage = Damage.choose(stage.random, cluster.nodes[victim].data_dir, wanted)
    if damage is None:
        stage.start(victim)
        return f"{victim}, which has no such file yet"
    damage.inflict()
    cluster.restart(victim)
    words = cluster.wait_started(victim)
    if words:
        if not NAMES_THE_DAMAGE.search(words):
            raise Violation("DAMAGE", f"{victim} refuses {damage} without naming it: {words}")
        stage.refusals.append(f"{victim} with {damage}: {words}")
        damage.repair()
        stage.start(victim)
    return f"{victim}, {damage}, which it {'refused until it was put back' if words else 'started with'}"


@dataclass(frozen=True, slots=True)
class Damage:
    """A flipped bit."""

    path: Path
    offset: int
    bit: int

    def __str__(self) -> str:
        return f"bit {self.bit} of byte {self.offset} of {self.path.name} flipped"

    @classmethod
    def choose(cls, random: Random, directory: Path, wanted: Callable[[str], bool]) -> Damage | None:
        """Somewhere in the part of a file that was written; None when there is no such file."""
        files = sorted(path for path in directory.iterdir() if wanted(path.name))
        if not files:
            return None
        path = random.choice(files)
        used = len(path.read_bytes().rstrip(b"\0"))
        return cls(path, random.randrange(max(1, used)), random.randrange(8))

    def inflict(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ 1 << self.bit]))

    repair = inflict
    """The same bit once more."""


NEMESES: tuple[Nemesis, ...] = (
    Nemesis("kill", 6, kill),
    Nemesis("kill-all", 2, kill_all),
    Nemesis("restart", 3, restart),
    Nemesis("pause", 4, pause),
    Nemesis("pause-clients", 1, pause_clients),
    Nemesis("halves", 2, halves),
    Nemesis("leader-alone", 3, leader_alone),
    Nemesis("one-way", 3, one_way),
    Nemesis("slow-link", 2, slow_link),
    Nemesis("torn-frame", 2, torn_frame),
    Nemesis("client-cut", 2, client_cut),
    Nemesis("full-disk", 2, full_disk, needs_small_disk=True),
    Nemesis("flip-log", 2, flip_log),
    Nemesis("flip-snapshot", 2, flip_snapshot),
)
BY_NAME = {nemesis.name: nemesis for nemesis in NEMESES}


def sequence(random: Random, nemeses: Iterable[Nemesis]) -> Iterator[Nemesis]:
    """Each of them once in a random order, then for ever by their weights."""
    deck = list(nemeses)
    assert deck
    first = list(deck)
    random.shuffle(first)
    yield from first
    while True:
        yield random.choices(deck, [nemesis.weight for nemesis in deck])[0]
