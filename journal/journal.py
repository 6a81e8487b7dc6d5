"""A user's own state machine, replicated: what a service embeds.

    async with Journal(JournalConfig(...), machine=Counter()) as journal:
        total = await journal.update(b"+1")
        total = await journal.query(b"")

Composition root: builds every edge, starts in order, stops in the reverse order; and makes coroutines of what
`desk.py` does by callbacks. Each member of the cluster runs one, in an asyncio event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from journal.addresses import show_address
from journal.clock import wall_milliseconds
from journal.config import JournalConfig, first_configuration
from journal.desk import Desk, Wake
from journal.errors import (
    CommandRefused,
    IndexOverflow,
    JournalError,
    JournalStopped,
    StorageError,
    Unavailable,
    UpdateUncertain,
)
from journal.events import Event, EventStream
from journal.exactly_once import Results
from journal.history import MACHINE, History
from journal.levels import Consistency, Response
from journal.peers.tcp import TcpNetwork
from journal.peers.tls import PeerTls
from journal.replica import Replica
from journal.statemachine import StateMachine
from journal.storage.disk import FileDisk
from journal.storage.store import INCARNATION_BYTES, Identity, Store
from journal.storage.worker import ThreadWorker
from journal.updates import UPDATES_MAX, Tell, Update
from journal.values import NodeId

logger = logging.getLogger("journal")

DEADLINE_SECONDS = 10.0
"""How long a call waits unless it is told otherwise."""
HAND_OVER_SECONDS = 1.0
"""How long a stopping leader waits for another one."""
REQUEST_BYTES = 64
COMMAND_BYTES = 5
"""What a request, and each command in it, takes in a record beside the commands' own bytes."""

Outcome = bytes | None | CommandRefused
"""What came of one command of several."""


class Journal:
    """One member of a cluster that replicates `machine`, in the running asyncio event loop."""

    def __init__(
        self,
        config: JournalConfig,
        machine: StateMachine,
        *,
        machine_factory: Callable[[], StateMachine] | None = None,
        peer_socket: socket.socket | None = None,
    ) -> None:
        """Raises ConfigError for a configuration that cannot work; nothing is opened yet.

        `machine` is as it was made: what it holds is what the cluster begins with. `machine_factory` makes further
        ones for questions about the past; without it the machine's class is called without arguments.
        `peer_socket`, bound already, takes the place of the configured peer address.
        """
        config.check()
        self.config = config
        self._machine = machine
        self._factory = machine_factory or type(machine)
        self._peer_socket = peer_socket
        self._disk: FileDisk | None = None
        self._workers: tuple[ThreadWorker, ...] = ()
        self._network: TcpNetwork | None = None
        self._replica: Replica | None = None
        self._history: History | None = None
        self._desk: Desk | None = None
        """Set while the journal runs."""
        self._room = asyncio.Semaphore(UPDATES_MAX)
        self._seen = 0
        """The greatest index this journal has told. No sequential query is answered from an older state."""
        self._failure: asyncio.Future[None] | None = None
        self._stopping = False

    # Running.

    async def start(self) -> None:
        """Recover and join the others. Raises CredentialsRefused, StorageError, OSError or PeerRefused, each
        naming what cannot be used; whatever was opened by then is closed again. A journal is started once."""
        assert self._failure is None, "a journal is started once"
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        try:
            desk = self._build(loop)
            assert self._network is not None and self._replica is not None
            await self._network.start(self._replica)
            self._replica.start()
            desk.start()
            self._desk = desk
        except BaseException:
            await self._close()
            raise

    def _build(self, loop: asyncio.AbstractEventLoop) -> Desk:
        config, me = self.config, NodeId(self.config.me)
        self._disk = FileDisk(config.data_dir, sync=config.fsync)
        identity = Identity(config.cluster, me)
        incarnation = secrets.token_bytes(INCARNATION_BYTES)
        store = Store.open(self._disk, identity, config.limits, first_configuration(config), incarnation)
        if set(store.configuration.members) != set(config.peers):
            raise StorageError(
                f"the data directory belongs to a cluster of {', '.join(store.configuration.members)}; "
                f"the configuration names {', '.join(config.peers)}"
            )
        sync, background = ThreadWorker(loop, "journal-sync"), ThreadWorker(loop, "journal-background")
        self._workers = (sync, background)
        peers = {NodeId(name): address for name, address in config.peers.items() if name != config.me}
        self._network = TcpNetwork(
            me,
            config.cluster,
            config.peer_bind,
            peers,
            config.limits,
            advertise=show_address(config.peers[config.me]),
            sock=self._peer_socket,
            tls=PeerTls.given(config.peer_tls_certificate, config.peer_tls_key, config.peer_tls_ca),
        )
        desk = Desk(
            self._machine,
            config.limits,
            loop,
            secrets.token_bytes,
            on_room=self._room.release,
            on_failure=self._on_failed,
        )
        self._replica = replica = Replica(
            me,
            store,
            {MACHINE: desk.machine},
            desk,
            scheduler=loop,
            network=self._network,
            sync_worker=sync,
            background_worker=background,
            chance=random.Random(secrets.randbits(64)).random,  # noqa: S311 - spreads election timeouts, guards nothing
            wall=wall_milliseconds,
            limits=config.limits,
            timing=config.timing,
        )
        replica.core.pull_from([NodeId(name) for name in config.pull_from])
        desk.bind(replica)
        self._history = History(store, self._factory)
        return desk

    async def stop(self) -> None:
        """Hand leadership over, answer whoever still waits, close everything. Ends within two seconds."""
        if self._stopping or self._failure is None:
            return
        self._stopping = True
        if self._desk is not None and self._desk.replica.hand_over():
            following: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._desk.when_following(_waker(following))
            try:
                async with asyncio.timeout(HAND_OVER_SECONDS):
                    await following
            except (TimeoutError, JournalStopped):
                logger.warning("%s: nobody took over within %.1f s", self.config.me, HAND_OVER_SECONDS)
        await self._close()

    async def _close(self) -> None:
        """Close whatever was opened, in reverse order. The disk is closed whatever happens before it."""
        desk, self._desk = self._desk, None
        try:
            if desk is not None:
                desk.stop()
            if self._replica is not None:
                self._replica.stop()
            if self._network is not None:
                await self._network.close()
            for worker in self._workers:
                worker.close()
            if self._history is not None:
                self._history.close()
            self._machine.close()
        finally:
            if self._disk is not None:
                self._disk.close()

    def _on_failed(self, error: BaseException) -> None:
        logger.critical("%s stops: %s", self.config.me, error)
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # who does not ask for it is told by every other call

    async def failed(self) -> None:
        """Wait until the journal stops by itself, and raise why: a failed disk, an exception of the machine."""
        assert self._failure is not None, "the journal is not started"
        await asyncio.shield(self._failure)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Updating.

    async def update(
        self, command: bytes, *, response: Response | str = Response.REPLICATION, deadline: float = DEADLINE_SECONDS
    ) -> bytes | None:
        """Apply one command; returns the machine's answer when `response` waits for it, otherwise None.

        Raises CommandRefused when the machine refuses it; Unavailable or Busy when nothing happened;
        UpdateUncertain when that cannot be known after `deadline` seconds. May be called on any member.
        """
        outcome = (await self._update((command,), Response(response), deadline) or (None,))[0]
        if isinstance(outcome, str):
            raise CommandRefused(outcome)
        return outcome

    async def update_many(
        self,
        commands: Sequence[bytes],
        *,
        response: Response | str = Response.REPLICATION,
        deadline: float = DEADLINE_SECONDS,
    ) -> list[Outcome]:
        """Apply several commands at consecutive indices, with no other command and no answer between them.

        Returns what came of each, in order, when `response` waits for it, otherwise an empty list. A command that
        was refused does not undo the others: its CommandRefused stands in its place. Raises like `update`.
        """
        if not commands:
            return []
        outcomes = await self._update(tuple(commands), Response(response), deadline)
        return [CommandRefused(outcome) if isinstance(outcome, str) else outcome for outcome in outcomes]

    async def _update(self, commands: tuple[bytes, ...], response: Response, deadline: float) -> Results:
        self._check_size(commands)
        self._running()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Results] = loop.create_future()

        def tell(index: int, results: Results, error: JournalError | None) -> None:
            if answered.done():
                return
            if error is not None:
                answered.set_exception(error)
            else:
                self._seen = max(self._seen, index)
                answered.set_result(results)

        until = loop.time() + deadline
        update = await self._hand_in(commands, response, tell, deadline)
        if response is Response.ONE_WAY:
            update.tell = None
            return ()
        # One timer on the future is all that a deadline costs here: `asyncio.timeout` is a fifth of a small update.
        timer = loop.call_at(until, _too_late, answered)
        try:
            return await self._answer(update, answered, deadline)
        finally:
            timer.cancel()

    async def _hand_in(self, commands: tuple[bytes, ...], response: Response, tell: Tell, deadline: float) -> Update:
        """Send an update on its way as soon as there is room for it."""
        if self._room.locked():
            try:
                async with asyncio.timeout(deadline):
                    await self._room.acquire()
            except TimeoutError:
                raise Unavailable(f"{UPDATES_MAX} updates are on their way, and none came to an end in time") from None
        else:
            await self._room.acquire()
        try:
            return self._running().update(commands, response, tell)
        except BaseException:
            self._room.release()
            raise

    async def _answer(self, update: Update, answered: asyncio.Future[Results], deadline: float) -> Results:
        desk = self._running()
        try:
            return await answered
        except TimeoutError:
            if desk.updates.abandon(update):
                raise Unavailable(f"no majority could be reached within {deadline:g} s") from None
            raise UpdateUncertain(f"no answer within {deadline:g} s; the update may have been applied") from None
        except asyncio.CancelledError:
            desk.updates.abandon(update)
            raise

    def _check_size(self, commands: tuple[bytes, ...]) -> None:
        for command in commands:
            if type(command) is not bytes:
                raise TypeError(f"a command must be bytes, not {type(command).__name__}")
        size = sum(map(len, commands)) + len(commands) * COMMAND_BYTES + REQUEST_BYTES
        if size > self.config.limits.record_bytes_max:
            raise ValueError(f"commands of {size} bytes are more than limits.record_bytes_max allows for one update")

    # Asking.

    async def query(
        self,
        question: bytes = b"",
        *,
        consistency: Consistency | str = Consistency.STRICT,
        at: int | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> bytes | None:
        """The machine's answer, from a state as fresh as `consistency` says, or from the state at index `at`.

        Raises Unavailable when no such state was there before `deadline` seconds had passed. With `at`, raises
        IndexOverflow when this node had not got there by then, IndexUnderflow when it can no longer be told, and
        Busy when too many such questions wait. May be called on any member.
        """
        level = Consistency(consistency)
        if at is not None:
            return await self._query_at(at, question, deadline)
        if level is Consistency.STRICT:
            await self._round(deadline)
        elif level is Consistency.SEQUENTIAL and self._running().replica.applied < self._seen:
            try:
                await self._wait_applied(self._seen, deadline)
            except TimeoutError:
                raise Unavailable(f"this node did not get to index {self._seen} within {deadline:g} s") from None
        return self._running().machine.machine.query(question)

    async def applied_index(self, *, deadline: float = DEADLINE_SECONDS) -> int:
        """An index whose state holds every update answered so far, on any node, as the leader vouches for.

        The first of two steps: `query(question, at=index)` on any member is then as good as a strict query there.
        Raises Unavailable.
        """
        await self._round(deadline)
        index = self._running().replica.applied
        self._seen = max(self._seen, index)
        return index

    async def _round(self, deadline: float) -> None:
        """Wait for a read round that starts from now on."""
        desk = self._running()
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        wake = _waker(confirmed)
        desk.join_round(wake)
        try:
            async with asyncio.timeout(deadline):
                await confirmed
        except TimeoutError:
            raise Unavailable(f"no leader vouched for the state within {deadline:g} s") from None
        finally:
            desk.leave_round(wake)

    async def _query_at(self, index: int, question: bytes, deadline: float) -> bytes | None:
        if index < 0:
            raise ValueError(f"an index is not negative, as {index} is")
        desk = self._running()
        assert self._history is not None
        until = asyncio.get_running_loop().time() + deadline
        if index > desk.replica.applied:
            try:
                await self._wait_applied(index, deadline)
            except TimeoutError:
                applied = desk.replica.applied
                raise IndexOverflow(f"this node is at index {applied}, and not yet at {index}") from None
        if index == self._running().replica.applied:
            return desk.machine.machine.query(question)
        try:
            async with asyncio.timeout_at(until):
                return await self._history.query(index, question)
        except TimeoutError:
            raise Unavailable(f"the state at index {index} could not be made within {deadline:g} s") from None

    async def _wait_applied(self, index: int, deadline: float) -> None:
        """Wait until this node is at `index`. Raises TimeoutError."""
        desk = self._running()
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        number = desk.when_applied(index, _waker(there))
        try:
            async with asyncio.timeout(deadline):
                await there
        finally:
            if there.cancelled():
                desk.give_up(number)

    # Listening.

    def events(self) -> EventStream:
        """All events from now on, to be read with `async for`. Raises Busy when too many listen."""
        return self._running().stream()

    def watch(self, callback: Callable[[Event], object]) -> None:
        """Call `callback` with each event from now on, in the journal's loop. Raises Busy when too many listen."""
        self._running().watch(callback)

    def unwatch(self, callback: Callable[[Event], object]) -> None:
        """Call `callback` no more."""
        if self._desk is not None:
            self._desk.unwatch(callback)

    def status(self) -> dict[str, Any]:
        """This node's view of itself and the cluster; see docs/reference/journal.md."""
        desk = self._running()
        replica = desk.replica
        core, store = replica.core, replica.store
        return {
            "node": self.config.me,
            "cluster": self.config.cluster,
            "role": core.role.value,
            "leader": core.leader,
            "term": core.term,
            "voters": list(core.configuration.voters),
            "observers": list(core.configuration.observers),
            "last_index": core.last_index,
            "durable_index": core.durable,
            "commit_index": core.commit,
            "applied_index": replica.applied,
            "snapshot_indices": sorted(meta.position.index for meta in store.snapshots.metas()),
            "log_first_index": store.start.index + 1,
            "updates_pending": len(desk.updates),
            "origins": len(desk.machine.origins),
        }

    def _running(self) -> Desk:
        failure = self._failure
        if failure is not None and failure.done() and failure.exception() is not None:
            raise JournalStopped(f"the journal has failed: {failure.exception()}") from failure.exception()
        if self._desk is None or self._stopping:
            raise JournalStopped("the journal is not running")
        return self._desk


def _too_late(future: asyncio.Future[Results]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _waker(future: asyncio.Future[None]) -> Wake:
    """What sets `future`, unless whoever waited for it has gone."""

    def wake(error: JournalError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    return wake
