"""Clusters under a seeded storm of losses, duplicates, reordering, slow disks, crashes and compaction.

Each run has two phases: the storm, in which only safety is asked for (every effect is checked by
`RaftChecks`), and the calm, in which all nodes must elect a leader, commit and agree. A failing run names
its seed; what it shows belongs into a scenario.
"""

from __future__ import annotations

from random import Random

import pytest

from journal.errors import Busy
from journal.limits import Limits
from journal.raft.messages import ReadReply
from journal.raft.ready import Role
from journal.values import Configuration, Index
from tests.support.raft_cluster import Cluster, Node, node_names

SEEDS_PER_CHUNK = 25
STEPS = 2_000
LIMITS = Limits(
    append_bytes_max=200,
    appends_in_flight_max=3,
    apply_bytes_max=150,
    log_memory_bytes_max=600,
)


class Storm:
    """One run: what may happen, and how often, is drawn from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        size = random.choice((1, 2, 3, 3, 3, 4, 5))
        names = node_names(size)
        learners = names[size - 1 :] if size > 2 and random.random() < 0.2 else ()
        voters = tuple(name for name in names if name not in learners)
        outgoing = names[: size - 1] if size > 3 and random.random() < 0.2 else ()
        self.cluster = Cluster(
            limits=LIMITS,
            chance=random.random,
            configuration=Configuration(voters, tuple(name for name in outgoing if name not in learners), learners),
        )
        self.loss = random.choice((0.0, 0.02, 0.2))
        self.doubles = random.choice((0.0, 0.05, 0.2))
        self.disorder = random.choice((0.0, 0.3, 1.0))
        self.crashes = random.choice((0.0, 0.01, 0.04))
        self.cuts = random.choice((0.0, 0.01))
        self.resets = random.choice((0.0, 0.01))
        self.pauses = random.choice((0.0, 0.005))
        self.snapshots = random.choice((0.0, 0.01, 0.05))
        self.slow_disk = random.choice((0.0, 0.5, 0.9))
        self.proposed = 0
        self.context = 0
        self.asked: dict[int, int] = {}
        """Read context -> what was committed when it was asked for."""

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._step()
        self._calm()

    def _step(self) -> None:
        cluster, random = self.cluster, self.random
        self._maybe_break()
        draw = random.random()
        if cluster.bag and draw < 0.5:
            self._deliver()
        elif draw < 0.75:
            node = self._any_up()
            if node is not None and node.writes and random.random() >= self.slow_disk:
                node.save(random.randint(1, len(node.writes)))
                node.run()
        elif draw < 0.95:
            self._propose_or_read()
        else:
            cluster.advance(random.choice((0.001, 0.01, 0.05, 0.15)))

    def _deliver(self) -> None:
        cluster, random = self.cluster, self.random
        at = random.randrange(len(cluster.bag)) if random.random() < self.disorder else 0
        if cluster.nodes[cluster.bag[at][1]].paused:
            cluster.bag.append(cluster.bag.pop(at))
            return
        draw = random.random()
        if draw < self.loss:
            cluster.bag.pop(at)
        elif draw < self.loss + self.doubles:
            cluster.hand(*cluster.bag[at])
        else:
            cluster.deliver(at)
        if len(cluster.bag) > 200:
            del cluster.bag[: len(cluster.bag) - 200]
        self._check_reads()

    def _maybe_break(self) -> None:
        cluster, random = self.cluster, self.random
        if random.random() < self.crashes:
            node = random.choice(list(cluster.nodes.values()))
            if node.up:
                node.crash(writes_kept=random.randint(0, len(node.writes)))
                for other in cluster.up():
                    if random.random() < 0.7:
                        other.core.peer_lost(node.name, cluster.now)
            else:
                node.start(memory_entries=random.randint(0, len(node.disk.entries)))
                node.reads.clear()
        if random.random() < self.cuts:
            if cluster.cut:
                cluster.heal()
            else:
                names = list(cluster.nodes)
                cluster.cut = {(a, b) for a in names for b in names if random.random() < 0.4}
        if random.random() < self.resets:
            node = self._any_up()
            if node is not None and node.core.leader is not None:
                node.core.peer_lost(node.core.leader, cluster.now)
        if random.random() < self.pauses:
            node = random.choice(list(cluster.nodes.values()))
            node.paused = not node.paused
        if random.random() < self.snapshots:
            node = self._any_up()
            if node is not None:
                node.snapshot(keep=random.randint(0, 2))

    def _propose_or_read(self) -> None:
        cluster, random = self.cluster, self.random
        node = self._any_up()
        if node is None:
            return
        draw = random.random()
        if draw < 0.6:
            self.proposed += 1
            count = random.randint(1, 3)
            try:
                node.core.propose(b"x" * random.randint(0, 90), count, self.proposed, cluster.now)
            except Busy:
                pass
        elif draw < 0.95:
            self.context += 1
            self.asked[self.context] = cluster.checks.commit_mark()
            node.core.read(self.context, cluster.now)
        else:
            node.core.transfer(None, cluster.now)
        node.run()

    def _check_reads(self) -> None:
        """I14: a granted read sees everything that was committed when it was asked for."""
        for node in self.cluster.nodes.values():
            for grant in node.reads:
                assert grant.index >= self.asked[grant.context], (grant, self.asked[grant.context])
            node.reads.clear()

    def _any_up(self) -> Node | None:
        up = self.cluster.up()
        return self.random.choice(up) if up else None

    def _calm(self) -> None:
        cluster = self.cluster
        cluster.heal()
        cluster.bag = [item for item in cluster.bag if isinstance(item[2], ReadReply)]
        for node in cluster.nodes.values():
            node.paused = False
            if not node.up:
                node.start()
        # Twenty election timeouts are the bound that the whole system is held to.
        cluster.wait(20 * cluster.timing.election_timeout)
        (leader,) = cluster.leaders()
        assert leader.core.serving
        assert leader.core.propose(b"last", 1, 0, cluster.now) is not None
        cluster.settle()
        cluster.wait(1.0)
        ends = {(node.core.applied, node.core.commit, node.disk.last.crc) for node in cluster.nodes.values()}
        assert ends == {(leader.core.last_index, leader.core.last_index, leader.disk.last.crc)}, ends
        assert all(node.core.leader == leader.name for node in cluster.nodes.values())
        assert [node.core.role for node in cluster.nodes.values()].count(Role.LEADER) == 1
        assert leader.core.read(10**9, cluster.now, floor=Index(1))
        cluster.settle()
        assert [grant.context for grant in leader.reads][-1:] == [10**9]


@pytest.mark.parametrize("chunk", range(10))
def test_storms_break_no_promise_and_calm_brings_agreement(chunk: int) -> None:
    """I1 to I8 and I14 hold at every effect, and a healed cluster works again within twenty election timeouts."""
    for seed in range(chunk * SEEDS_PER_CHUNK, (chunk + 1) * SEEDS_PER_CHUNK):
        try:
            Storm(seed).run(STEPS)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_storms_reach_what_they_are_meant_to_reach() -> None:
    """A storm in which nothing happens proves nothing: elections, commits, snapshots and reads all occur."""
    elections = commits = restores = reads = 0
    for seed in range(40):
        storm = Storm(seed)
        storm.run(STEPS)
        checks = storm.cluster.checks
        elections += len(checks.leaders)
        commits += len(checks.committed)
        restores += sum(node.restores for node in storm.cluster.nodes.values())
        reads += checks.reads
    assert elections > 60 and commits > 800 and restores > 3 and reads > 800, (elections, commits, restores, reads)
