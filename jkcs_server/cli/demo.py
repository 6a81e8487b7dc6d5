"""`jkcs demo`: the promises of the project, shown on real processes, each with its figure.

Tells the story act by act; what the writers do is in `demo_load.py`, the contenders for the lock are in
`demo_worker.py`, what the audience sees is in `story.py`.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from jkcs_client import connect
from jkcs_client.protocol.errors import JkcsError
from jkcs_server.cli.demo_load import Load, count_lost
from jkcs_server.cli.demo_worker import Contender
from jkcs_server.cli.exits import FAILED, INTERRUPTED
from jkcs_server.cli.probe import ProbeFailed
from jkcs_server.cli.processes import LocalCluster, LocalNode, ProcessFailed
from jkcs_server.cli.render import duration_text
from jkcs_server.cli.story import Story
from jkcs_server.config import show_address

ELECTION_LIMIT = 10.0
"""Seconds from the start of the processes, Python's own start included, to a leader all of them follow."""
GAP_LIMIT = 1.0
STOP_LIMIT = 2.0
CATCH_UP_LIMIT = 10.0
SESSION_TIMEOUT = 2.0
"""Of the contenders: how long a dead one may keep the lock."""
LOCK_SLACK = 2.0
"""What the lock may take beyond the session timeout to reach the next contender."""
LOAD_SECONDS = 2.0
"""How long the writers write before the leader is killed, and again after there is a new one ..."""
LOAD_WRITES = 200
"""... and how many writes must be acknowledged in that time at least."""
PATIENCE = 20.0
"""Seconds to wait for what is not timed by a claim of its own."""
COUNT_INTERVAL = 0.2
LOCK_PATH = "/locks/nightly"
KEYS = {
    "/config/db": b"host=10.0.0.5 pool=20",
    "/services/api/10.0.0.1:8080": b"up",
    "/services/api/10.0.0.2:8080": b"up",
    "/services/web/10.0.0.1:80": b"up",
}
T = TypeVar("T")


@click.command()
@click.option("--keep", is_flag=True, help="Keep data and logs. After a failure they are always kept.")
@click.option("--json", "as_json", is_flag=True, help="The claims as one JSON document; the story on standard error.")
def demo(keep: bool, as_json: bool) -> None:
    """Start three servers, let them suffer, and check that they keep their promises.

    An election, a key tree, a lock that moves on from a killed process, kill -9 of the leader under load, a
    restart and an orderly stop: all on real processes in a temporary directory, in less than a minute.

    Exit codes: 0 every claim held, 1 one did not.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    directory = Path(tempfile.mkdtemp(prefix="jkcs-demo-"))
    story = Story(as_json)
    kept = True
    try:
        cluster = LocalCluster(directory)
        try:
            asyncio.run(Demo(story, cluster).run())
        finally:
            cluster.stop()
        kept = keep or not story.held
    except (KeyboardInterrupt, SystemExit) as end:  # Ctrl-C, or SIGTERM by the handler above
        kept = keep
        click.echo("interrupted", err=True)
        sys.exit(end.code if isinstance(end, SystemExit) else INTERRUPTED)
    finally:
        if not kept:
            shutil.rmtree(directory, ignore_errors=True)
    story.conclude(str(directory) if kept else None)
    sys.exit(0 if story.held else FAILED)


class Demo:
    """The acts, in order; each ends with its claims."""

    def __init__(self, story: Story, cluster: LocalCluster) -> None:
        self._story = story
        self._cluster = cluster

    async def run(self) -> None:
        """Play all acts. What keeps an act from going on becomes a claim that did not hold, and ends the play."""
        for act in (self.election, self.key_tree, self.lock, self.leader_killed, self.orderly_stop):
            try:
                await act()
            except (JkcsError, ProcessFailed, ProbeFailed, TimeoutError, OSError) as error:
                what = (act.__doc__ or "").partition(".")[0]
                self._story.claim(what, f"broke off: {error or type(error).__name__}", held=False)
                return

    async def election(self) -> None:
        """Three servers elect a leader."""
        cluster, story = self._cluster, self._story
        story.act("Three servers, real processes, fsync on")
        began = time.monotonic()
        cluster.start()
        for node in cluster.nodes.values():
            story.say(f"{node.name} started: pid {node.pid}, clients on {show_address(node.client_address)}")
        leader = await _blocking(cluster.wait_for_leader)
        seconds = time.monotonic() - began
        term = cluster.status(leader)["term"]
        story.say(f"{leader} leads in term {term}, the others follow")
        story.claim(
            f"a leader is elected within {ELECTION_LIMIT:g} s of the start",
            duration_text(seconds),
            seconds <= ELECTION_LIMIT,
            seconds=seconds,
        )

    async def key_tree(self) -> None:
        """A key tree is written at one server and read at another."""
        story = self._story
        first, *_, last = self._cluster.nodes.values()
        story.act("A key tree")
        async with connect(_url(first)) as client:
            for path, value in KEYS.items():
                await client.create(path, value, parents=True)
                story.say(f"at {first.name}: create {path} {value.decode()!r}")
        async with connect(_url(last)) as client:
            found = {path: (await client.get(path))[0] for path in KEYS}
        right = sum(found[path] == value for path, value in KEYS.items())
        story.claim(
            f"what is written at {first.name} is read at {last.name}",
            f"{right} of {len(KEYS)} keys",
            found == KEYS,
            keys=right,
        )

    async def lock(self) -> None:
        """A lock moves on from a killed process."""
        story = self._story
        story.act("A lock, wanted by two processes")
        contenders: list[Contender] = []
        try:
            await self._lock_moves(contenders)
        finally:
            for contender in contenders:
                contender.end()

    async def _lock_moves(self, contenders: list[Contender]) -> None:
        story = self._story
        tokens: list[int] = []
        for name in ("alice", "bob"):
            contender = Contender(self._cluster.url, LOCK_PATH, name, SESSION_TIMEOUT)
            contenders.append(contender)
            await _blocking(contender.wait_for, "waiting", PATIENCE)
            if not tokens:
                tokens.append((await _blocking(contender.wait_for, "held", PATIENCE))["token"])
                story.say(f"{name} (pid {contender.pid}) holds {LOCK_PATH} with token {tokens[0]}")
        alice, bob = contenders
        story.say(f"{bob.name} (pid {bob.pid}) waits")
        alice.kill()
        killed = time.monotonic()
        story.say(f"kill -9 of {alice.name}; its session lasts {SESSION_TIMEOUT:g} s from its last ping")
        tokens.append((await _blocking(bob.wait_for, "held", PATIENCE))["token"])
        seconds = time.monotonic() - killed
        story.claim(
            "the lock moves to the next process, with a higher token",
            f"{tokens[0]} -> {tokens[1]} after {seconds:.1f} s",
            tokens[1] > tokens[0] and seconds <= SESSION_TIMEOUT + LOCK_SLACK,
            tokens=tokens,
            seconds=seconds,
        )

    async def leader_killed(self) -> None:
        """The leader is killed under load, and nothing is lost."""
        story, cluster = self._story, self._cluster
        story.act("kill -9 of the leader, under load")
        load = Load(cluster.url)
        counting = asyncio.create_task(_count(story, load))
        try:
            await load.start()
            await self._write_for_a_while(load)
            killed = await _blocking(cluster.wait_for_leader)
            at_kill = len(load.acknowledged)
            cluster.kill(killed)
            story.say(f"kill -9 of {killed}, the leader, after {at_kill} acknowledged writes")
            leader = await _blocking(cluster.wait_for_leader)
            story.say(f"{leader} leads in term {cluster.status(leader)['term']}")
            await self._write_for_a_while(load)
            await load.stop()
        finally:
            load.cancel()
            counting.cancel()
        gap = load.longest_gap
        story.say(f"{len(load.acknowledged)} writes acknowledged in all, {load.unknown} of unknown outcome")
        story.say(f"no single write waited longer than {load.longest_wait * 1000:.0f} ms")
        story.claim(
            f"the longest time without an acknowledged write is under {GAP_LIMIT:g} s",
            f"{gap * 1000:.0f} ms",
            gap < GAP_LIMIT,
            seconds=gap,
            slowest_write_seconds=load.longest_wait,
        )
        await self._restart(killed)
        await self._verify(load, cluster.nodes[killed])

    @staticmethod
    async def _write_for_a_while(load: Load) -> None:
        goal = len(load.acknowledged) + LOAD_WRITES
        await asyncio.sleep(LOAD_SECONDS)
        await load.wait_for(goal, PATIENCE)

    async def _restart(self, name: str) -> None:
        cluster, story = self._cluster, self._story
        leader = await _blocking(cluster.wait_for_leader)
        goal = cluster.status(leader)["commit_index"]
        began = time.monotonic()
        cluster.restart(name)
        story.say(f"{name} is started again, as pid {cluster.nodes[name].pid}")
        await _blocking(cluster.wait_serving, name)
        await _blocking(cluster.wait_for_index, name, goal)
        seconds = time.monotonic() - began
        story.claim(
            f"the restarted server catches up within {CATCH_UP_LIMIT:g} s",
            f"index {goal} after {duration_text(seconds)}",
            seconds <= CATCH_UP_LIMIT,
            seconds=seconds,
            index=goal,
        )

    async def _verify(self, load: Load, restarted: LocalNode) -> None:
        story, expected = self._story, load.acknowledged

        def progress(done: int) -> None:
            story.count(f"{done} of {len(expected)} read")

        lost = await count_lost(self._cluster.url, expected, "linearizable", progress)
        story.claim(
            "no acknowledged write is lost",
            f"{len(expected)} acknowledged, {lost} lost",
            not lost,
            lost=lost,
            acknowledged=len(expected),
        )
        lost = await count_lost(_url(restarted), expected, "local", progress)
        story.claim(
            f"the restarted {restarted.name} has them all on its own disk",
            f"{len(expected)} read there, {lost} missing",
            not lost,
            lost=lost,
        )

    async def orderly_stop(self) -> None:
        """A server that is told to stop hands leadership over."""
        cluster, story = self._cluster, self._story
        story.act("An orderly stop")
        leader = await _blocking(cluster.wait_for_leader)
        story.say(f"SIGTERM to {leader}, the leader")
        seconds = await _blocking(cluster.kill, leader, signal.SIGTERM)
        code = cluster.nodes[leader].exit_code
        following = await _blocking(cluster.wait_for_leader)
        story.say(f"{following} leads")
        story.claim(
            f"SIGTERM ends a server within {STOP_LIMIT:g} s",
            f"{duration_text(seconds)}, exit code {code}; {following} leads",
            seconds <= STOP_LIMIT and code == 0,
            seconds=seconds,
            exit_code=code,
        )


async def _blocking(call: Callable[..., T], *arguments: Any) -> T:
    """Wait for a call that blocks, while the event loop goes on."""
    return await asyncio.to_thread(call, *arguments)


async def _count(story: Story, load: Load) -> None:
    while True:
        story.count(f"{len(load.acknowledged)} writes acknowledged")
        await asyncio.sleep(COUNT_INTERVAL)


def _url(node: LocalNode) -> str:
    return f"jkcs://{show_address(node.client_address)}"
