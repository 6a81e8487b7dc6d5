"""The client: `connect` and what it gives.

The façade over `session` and `keys`; joins them and owns the tasks. No rule and no protocol here.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from jkcs_client.address import Address, parse
from jkcs_client.admin import Admin
from jkcs_client.credentials import Credentials, checked
from jkcs_client.dialer import Dialer, dial_tcp
from jkcs_client.fencing import FencedClient, Guard
from jkcs_client.keys import Keys
from jkcs_client.lifecycle import State
from jkcs_client.operations import shaped
from jkcs_client.protocol.errors import BadArguments, JkcsError
from jkcs_client.protocol.messages import AUTH, WHO_AM_I
from jkcs_client.session import Session
from jkcs_client.tls import context_for, securing

SESSION_TIMEOUT = 10.0
REQUEST_TIMEOUT = 10.0

_log = logging.getLogger(__name__)


def connect(
    url: str,
    *,
    session_timeout: float = SESSION_TIMEOUT,
    request_timeout: float = REQUEST_TIMEOUT,
    tls: ssl.SSLContext | bool | None = None,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    auth: Iterable[tuple[str, str | bytes]] = (),
    dialer: Dialer = dial_tcp,
    random: Random | None = None,
) -> Client:
    """A client of the cluster at `jkcs://host:port,host:port/chroot`, to be entered with `async with`.

    Entering opens a session with any of the servers, or raises NotConnected after `request_timeout` seconds,
    naming each server and why; leaving ends the session. Paths are below the chroot, which need not exist yet.
    `session_timeout`: how long the session, and what hangs on it, outlives a client that is not heard of; the
    server may change it. 0: no session, for a client that only reads. `request_timeout`: the deadline of calls
    that name none. `auth`: credentials, as [("digest", "user:password")], to begin with; see `Client.authenticate`.
    `dialer` and `random` replace the way to a server and all chance, for tests.

    TLS is spoken with a URL that begins with `jkcss://`, or when any of these is given: `ca`, a PEM file of whom to
    believe instead of the system's authorities; `certificate` and `key`, what to show to a server that asks; `tls`,
    True or an ssl.SSLContext that has all this. The server's certificate must name the host in the URL.
    """
    if not request_timeout > 0:
        raise BadArguments(f"request_timeout must be positive, not {request_timeout}")
    target = parse(url)
    context = _tls_context(tls, target.tls, ca, certificate, key)
    return Client(
        target.addresses,
        target.chroot,
        session_timeout=session_timeout,
        request_timeout=request_timeout,
        credentials=tuple([checked(scheme, secret) for scheme, secret in auth]),
        dialer=dialer if context is None else securing(dialer, context),
        random=random or Random(),  # noqa: S311 - spreads load, guards no secret
    )


def _tls_context(
    tls: ssl.SSLContext | bool | None, asked_for: bool, *files: str | Path | None
) -> ssl.SSLContext | None:
    """The context to connect with, None without TLS. Raises BadArguments for what contradicts itself."""
    given = any(file is not None for file in files)
    if isinstance(tls, ssl.SSLContext):
        if given:
            raise BadArguments("tls is a context already: load ca, certificate and key into it")
        return tls
    if tls is False and (asked_for or given):
        raise BadArguments(f"tls is False, but {'a file for it is given' if given else 'the URL asks for it'}")
    return context_for(*files) if tls or asked_for or given else None


class Client(Keys):
    """A session with the cluster, and all operations on its keys. For one event loop and one process.

    The connection may change, the session stays; once it is lost every call raises SessionExpired: what hung
    on it is gone, and only the caller can decide what that means. `connect` again for a new one.
    """

    def __init__(
        self,
        addresses: tuple[Address, ...],
        chroot: str,
        *,
        session_timeout: float,
        request_timeout: float,
        credentials: tuple[Credentials, ...] = (),
        dialer: Dialer,
        random: Random,
    ) -> None:
        super().__init__(None, chroot)
        self._credentials = credentials
        """What to begin with."""
        self._make_session = partial(
            Session,
            addresses,
            session_timeout=session_timeout,
            request_timeout=request_timeout,
            dialer=dialer,
            random=random,
        )
        self._tasks: TaskGroup | None = None
        """Ties the background to the caller's block: a mistake in it cancels the block."""
        self._background: TaskGroup | None = None
        """What runs until the client is closed. A cancellation around the caller's block does not stop it: closing must
        still reach the server, and a lock must be watched for as long as its holder's block runs."""
        self._background_scope: anyio.CancelScope | None = None
        """Around all of it."""
        self._names = 0
        """How many unique names were given out."""

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError("a client is entered once; connect again for another session")
        self._opened = session = self._make_session()
        self._background_scope = anyio.CancelScope(shield=True)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            await self._tasks.start(self._run)
            await session.opened()
            for credentials in self._credentials:
                await self._prove(credentials, None)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None and self._background_scope is not None
        try:
            await self._session.close()
        finally:
            self._background_scope.cancel()
            swallowed = await self._leave(kind, error, traceback)
        return swallowed

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Wait for the tasks. Without a mistake of theirs, the caller's exception is none of their business: it
        comes out as it was, in no group."""
        assert self._tasks is not None
        if self._tasks.cancel_scope.cancel_called:
            return await self._tasks.__aexit__(kind, error, traceback)
        await self._tasks.__aexit__(None, None, None)
        return False

    async def _run(self, *, task_status: TaskStatus[None]) -> None:
        assert self._background_scope is not None
        with self._background_scope:
            async with anyio.create_task_group() as tasks:
                self._background = tasks
                tasks.start_soon(self._session.run)
                task_status.started()
                await anyio.sleep_forever()

    # The session.

    @property
    def state(self) -> State:
        """What a caller can expect at present."""
        return self._session.state

    @property
    def session_id(self) -> int:
        """The session's id, 0 for none."""
        return self._session.connection.session_id

    @property
    def lost(self) -> anyio.Event:
        """Set when the session has ended: it expired, or the client was closed."""
        return self._session.lost

    async def authenticate(self, scheme: str, credentials: str | bytes, *, timeout: float | None = None) -> None:
        """Be somebody more to the servers, from the next call on: ("digest", "user:password").

        The client says so again to each server that it comes to, before anything else. Raises AuthFailed.
        """
        await self._prove(checked(scheme, credentials), timeout)

    async def _prove(self, credentials: Credentials, timeout: float | None) -> None:
        self._session.connection.check_room(credentials)
        await self._session.call(AUTH, (credentials.scheme, credentials.secret), timeout)

    async def identities(self, *, timeout: float | None = None) -> list[tuple[str, str]]:
        """Who this client is to the connected server: schemes and names, of a digest the user alone."""
        found = shaped((await self._session.call(WHO_AM_I, (), timeout)).result, 1)[0]
        return [(str(scheme), str(name)) for scheme, name in found]

    def states(self) -> AsyncIterator[State]:
        """The present state, then each that follows, until the client is closed."""
        return self._session.states()

    @property
    def admin(self) -> Admin:
        """Administration of the cluster."""
        return Admin(self._session)

    # For recipes.

    def fenced_by(self, held: Guard) -> FencedClient:
        """A view of this client whose writes fail with Fenced once what is held has been lost."""
        return FencedClient(self._session, self._operations.chroot, held)

    def unique_name(self) -> str:
        """A name that no other session and no other call gives."""
        self._names += 1
        return f"{self.session_id:016x}-{self._names}"

    def start_soon(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Run `function` in the background for as long as the client is open.

        An error of JKCS ends it with a line in the log; any other exception is a mistake, and cancels the block that
        holds the client. Raises ClientClosed or SessionExpired when the session has ended.
        """
        self._session.check()
        assert self._background is not None
        self._background.start_soon(_until_refused, function, arguments)


async def _until_refused(function: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]) -> None:
    try:
        await function(*arguments)
    except JkcsError as error:
        _log.info("%s ended: %s", getattr(function, "__qualname__", function), error)
