"""Real servers with a proxy on every way between them, and on every way of the clients to them.

A `LocalCluster` whose nodes know each other by the proxies' addresses: one `Link` for each ordered pair. Says what
can be done to nodes, links and disks; when it is done is decided in `nemeses.py`. Blocking, for the main thread;
the links live in the background loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jkcs_server.cli.probe import ProbeFailed, ask_each, leader_of
from jkcs_server.cli.processes import LocalCluster, LocalNode, ProcessFailed
from jkcs_server.config import Address, show_address
from tests.chaos.background import Background
from tests.chaos.links import Link

SERVE_TIMEOUT = 30.0
"""Seconds until a node that was started must answer, and until a healed cluster must have a leader."""
STATUS_TIMEOUT = 1.0
POLL_INTERVAL = 0.02
SAID_LINES = 6
"""A node that fails says why, and then that it ends."""
SMALL_DISK_BYTES = 24 << 20
BALLOON = "balloon"
_BALLOON_PIECE = bytes(64 * 1024)

SMALL_LIMITS = {
    "JKCS_LIMITS_RECORD_BYTES_MAX": str(128 << 10),
    "JKCS_LIMITS_APPEND_BYTES_MAX": str(64 << 10),
    "JKCS_LIMITS_SEGMENT_BYTES": str(256 << 10),
    "JKCS_LIMITS_LOG_MEMORY_BYTES_MAX": str(64 << 10),
    "JKCS_LIMITS_SNAPSHOT_ENTRIES": "3000",
    "JKCS_LIMITS_SNAPSHOT_CHUNK_BYTES": str(16 << 10),
}
"""So small that a minute goes through many segments and snapshots, and a node that was away needs one."""


class ChaosCluster(LocalCluster):
    """See the module. `small_disks` names nodes whose data lies on a memory file system of a fixed size."""

    def __init__(
        self,
        directory: Path,
        nodes: int,
        background: Background,
        *,
        small_disks: Collection[str] = (),
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, nodes, environment=environment, arguments=arguments)
        self._background = background
        self._mounted: list[Path] = []
        self.paused: set[str] = set()
        self.links: dict[tuple[str, str], Link] = {}
        """By sender and receiver."""
        self.client_links: dict[str, Link] = {}
        self._addresses: dict[Link, Address] = {}
        for name in self.nodes:
            if name in small_disks:
                self._mount(self.nodes[name])
        for receiver in self.nodes.values():
            self.client_links[receiver.name] = Link(f"clients>{receiver.name}", receiver.client_address)
            for sender in self.nodes:
                if sender != receiver.name:
                    link = Link(f"{sender}>{receiver.name}", receiver.peer_address)
                    self.links[sender, receiver.name] = link
        for link in self._all_links():
            self._addresses[link] = background.call(link.start())

    def _all_links(self) -> list[Link]:
        return [*self.links.values(), *self.client_links.values()]

    def _mount(self, node: LocalNode) -> None:
        disk = self.directory / f"{node.name}-disk"
        disk.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "jkcs-chaos", str(disk)]
        subprocess.run(command, check=True, capture_output=True)
        self._mounted.append(disk)
        node.data_dir = disk / "data"

    def peers_of(self, node: LocalNode) -> Mapping[str, Address]:
        found = {}
        for each in self.nodes.values():
            found[each.name] = each.peer_address if each is node else self._addresses[self.links[node.name, each.name]]
        return found

    @property
    def client_url(self) -> str:
        """For clients that may be cut off; `url` goes past the proxies."""
        return "jkcs://" + ",".join(show_address(self._addresses[link]) for link in self.client_links.values())

    def url_of(self, name: str) -> str:
        """Of one node alone, past the proxies."""
        return "jkcs://" + show_address(self.nodes[name].client_address)

    def stop(self, timeout: float = 5.0) -> None:
        for name in sorted(self.paused):
            self.resume(name)
        super().stop(timeout)
        for link in self._all_links():
            self._background.call(link.close())

    def unmount(self, keep: bool) -> None:
        """Let go of the small disks; `keep` copies what is on them to the ordinary one first."""
        for disk in self._mounted:
            if keep:
                shutil.copytree(disk / "data", self.directory / disk.name.removesuffix("-disk"), dirs_exist_ok=True)
            subprocess.run(["umount", str(disk)], check=False, capture_output=True)
        self._mounted.clear()

    # Nodes.

    def leader(self) -> str | None:
        """Who says that it leads, in the highest term; paused nodes are not asked."""
        return leader_of(self.heard().values())

    def heard(self) -> dict[str, dict[str, Any]]:
        """The statuses of the nodes that answer; a paused one would only be waited for."""
        asked = {node.client_address: node.name for node in self.nodes.values() if node.name not in self.paused}
        answers = ask_each(asked, timeout=STATUS_TIMEOUT)
        return {asked[at]: answer for at, answer in answers.items() if not isinstance(answer, ProbeFailed)}

    def pause(self, name: str) -> None:
        os.kill(self.nodes[name].pid, signal.SIGSTOP)
        self.paused.add(name)

    def resume(self, name: str) -> None:
        self.paused.discard(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.nodes[name].pid, signal.SIGCONT)

    def wait_started(self, name: str) -> str:
        """Wait until a node that was just started answers, or has ended: "" or its last words."""
        node = self.nodes[name]
        deadline = time.monotonic() + SERVE_TIMEOUT
        while time.monotonic() < deadline:
            if not node.running:
                node.wanted = False
                return node.last_words()
            if self._try_status(name) is not None:
                return ""
            time.sleep(POLL_INTERVAL)
        raise ProcessFailed(f"{name} neither serves nor ends within {SERVE_TIMEOUT:g} s of its start")

    def said(self, name: str, lines: int = SAID_LINES) -> str:
        """The last lines of a node's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.nodes[name].log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    # Links.

    def do(self, link: Link, what: str, *arguments: float) -> None:
        """Call a method of a link in the loop it lives in."""

        async def there() -> None:
            getattr(link, what)(*arguments)

        self._background.call(there())

    def cut(self, senders: Collection[str], receivers: Collection[str]) -> None:
        """What the ones say to the others does not arrive any more."""
        for (sender, receiver), link in self.links.items():
            if sender in senders and receiver in receivers:
                self.do(link, "cut")

    def isolate(self, side: Collection[str]) -> None:
        """Cut both directions between `side` and the rest."""
        rest = [name for name in self.nodes if name not in side]
        self.cut(side, rest)
        self.cut(rest, side)

    def heal_links(self) -> None:
        for link in self._all_links():
            self.do(link, "heal")

    # Disks.

    @property
    def small_disks(self) -> list[str]:
        return [disk.name.removesuffix("-disk") for disk in self._mounted]

    def fill_disk(self, name: str) -> int:
        """Leave no room on a small disk. How many bytes it took."""
        taken = 0
        with contextlib.suppress(OSError), (self._disk_of(name) / BALLOON).open("ab", buffering=0) as balloon:
            while True:
                written = balloon.write(_BALLOON_PIECE)
                taken += written
                if not written:
                    raise OSError(errno.ENOSPC, "full")
        return taken

    def empty_disk(self, name: str) -> None:
        (self._disk_of(name) / BALLOON).unlink(missing_ok=True)

    def _disk_of(self, name: str) -> Path:
        return self.directory / f"{name}-disk"
