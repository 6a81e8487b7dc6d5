"""One client process of a round: runs the actors until its standard input ends, then writes down the rest.

Called as `python -m tests.chaos.worker URL TOP NAME SEED HISTORY PARENT_PID` by `run.py`, which hears from it one line,
`ready`, and its exit code: 0 when every actor came to its end.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from jkcs_server.cli.parent import end_with_parent
from tests.chaos.history import HistoryFile
from tests.chaos.workloads import ACTORS, Scene, WatcherActor

END_TIMEOUT = 40.0
"""Seconds that the actors may take to end what they are at, and the watcher to begin."""


class Worker:
    """The harness's end."""

    def __init__(self, url: str, top: str, name: str, seed: int, directory: Path) -> None:
        self.name = name
        self.history = directory / f"{top.strip('/').replace('/', '-')}-{name}.jsonl"
        self.log = self.history.with_suffix(".log")
        command = [sys.executable, "-m", "tests.chaos.worker", url, top, name, str(seed)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, str(self.history), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> bool:
        """Whether it has begun; False when it ended instead."""
        return self._out.readline() == b"ready\n"

    @property
    def _out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def stop(self) -> None:
        """Tell it to end."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> str:
        """ "" when it came to a good end, else what it said last."""
        try:
            code = self.process.wait(END_TIMEOUT + 30.0)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"worker {self.name} did not end"
        self._out.close()
        return "" if code == 0 else f"worker {self.name} ended with {code}: {self.log.read_text()[-2000:]}"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def work(scene: Scene) -> None:
    """A round from the first call to the last record."""
    watcher = WatcherActor(scene, 0)
    watching = asyncio.create_task(watcher.live())
    tasks = [asyncio.create_task(actor(scene, number).live()) for number, actor in enumerate(ACTORS)]
    try:
        async with asyncio.timeout(END_TIMEOUT):
            await watcher.ready.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await _told_to_end([*tasks, watching])
        scene.stopping = True
        async with asyncio.timeout(END_TIMEOUT):
            await asyncio.gather(*tasks)
        await watcher.finish()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    scene.finish()


async def _told_to_end(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the end of standard input. Raises what ended an actor before its time."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    told = asyncio.create_task(reader.read())
    done, _ = await asyncio.wait((told, *tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def main(arguments: list[str]) -> None:
    """The child's life."""
    url, top, name, seed, history, parent_pid = arguments
    end_with_parent(int(parent_pid))
    with Path(history).open("w") as file:
        asyncio.run(work(Scene(url, top, name, int(seed), HistoryFile(file))))


if __name__ == "__main__":
    main(sys.argv[1:])
