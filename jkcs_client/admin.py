"""Administration of a cluster through a client: `client.admin`.

Questions and changes of the cluster go to its leader, whichever server the client is connected with; what is about one
server is answered by the connected one: name a single server in the URL to choose it. A server takes these calls
from its own machine only, unless its setting `admin_from` says otherwise: then they raise AdminDenied.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import anyio

from jkcs_client.operations import shaped
from jkcs_client.protocol.errors import Busy, NoLeader, OutcomeUnknown, ProtocolError, RequestTimeout
from jkcs_client.protocol.messages import ADMIN
from jkcs_client.session import Session

RETRY_PAUSE = 0.1
"""Seconds before the leader is asked again."""
DOWNLOAD_TRIES = 5
"""A piece of a snapshot is asked for so often before the download is given up."""


class Admin:
    """The calls. `timeout` is in seconds; None is the client's default."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # The cluster, by its leader.

    async def configuration(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Members with their roles and addresses, the preferred leader, and how far a change under way is."""
        return await self._ask("configuration", timeout)

    async def update_voters(
        self, old: Iterable[str], new: Mapping[str, str] | Iterable[str], *, timeout: float | None = None
    ) -> int:
        """Begin to replace the voters `old`, who must be those at present, by `new`; any change in one step.

        `new` maps names to the peers' addresses (HOST:PORT); an empty one, or only a name, will do for a node whose
        address the cluster knows. Returns the index of the change's first entry, at once: `configuration` tells how
        far it is. Raises ChangeRefused.
        """
        addresses = dict(new) if isinstance(new, Mapping) else dict.fromkeys(new, "")
        return await self._begin("update_voters", timeout, old=sorted(old), new=addresses)

    async def convert_role(self, node: str, role: str, address: str = "", *, timeout: float | None = None) -> int:
        """Begin to make a node a `voter`, an `observer`, or `none` at all. Otherwise like `update_voters`."""
        return await self._begin("convert_role", timeout, node=node, role=role, address=address)

    async def set_preferred_leader(self, node: str | None, *, timeout: float | None = None) -> int:
        """Let a voter lead whenever it can; None: whoever does. Returns the index of the entry that says so."""
        return await self._begin("set_preferred_leader", timeout, node=node)

    async def transfer_leadership(self, node: str | None = None, *, timeout: float | None = None) -> str:
        """Ask the leader to hand over to a voter, or to the one that is furthest; returns who was asked.

        Whether it worked is seen in `configuration`: a failed transfer leaves the old leader in office.
        """
        return str((await self._change("transfer_leadership", timeout, node=node))["from"])

    async def take_snapshot(self, *, timeout: float | None = None) -> int:
        """Let every node take a snapshot; the index at which they do. It is there when `snapshots` lists it."""
        return await self._begin("take_snapshot", timeout)

    async def recover_snapshot(self, index: int, *, timeout: float | None = None) -> int:
        """Bring the state of the whole cluster back to a snapshot's; what was written since is undone by an entry
        of its own, whose index is returned. Raises ChangeRefused."""
        return await self._begin("recover_snapshot", timeout, index=index)

    # The connected server.

    async def server_status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Everything the connected server tells of itself for monitoring."""
        return await self._ask("server_status", timeout)

    async def snapshots(self, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """The snapshots of the connected server, newest first."""
        found = (await self._ask("list_snapshots", timeout)).get("snapshots")
        if type(found) is not list:
            raise ProtocolError(f"a list of snapshots was due, got {found!r:.100}")
        return found

    async def download_snapshot(self, index: int, *, timeout: float | None = None) -> AsyncIterator[bytes]:
        """The file of a snapshot, piece by piece. `timeout` is for each piece.

        All servers that have a snapshot have the same, so the download goes on when the client's server changes.
        Raises Compacted when the server does not have it (any more).
        """
        offset, size, digest = 0, 1, b""
        while offset < size:
            piece = await self._piece(index, offset, timeout)
            if digest and piece["digest"] != digest:
                raise ProtocolError(f"snapshot {index} is another one on {self._session.connection.node}")
            digest, size, data = piece["digest"], piece["size"], piece["data"]
            if not data and offset < size:
                raise ProtocolError(f"snapshot {index} ended at byte {offset} of {size}")
            offset += len(data)
            yield data

    async def _piece(self, index: int, offset: int, timeout: float | None) -> dict[str, Any]:
        tries = 1
        while True:
            try:
                return await self._ask("download_snapshot", timeout, index=index, offset=offset)
            except RequestTimeout:
                if tries == DOWNLOAD_TRIES:
                    raise
                tries += 1

    # On the way.

    async def _begin(self, name: str, timeout: float | None, **arguments: Any) -> int:
        index: int = (await self._change(name, timeout, **arguments))["index"]
        return index

    async def _ask(self, name: str, timeout: float | None, **arguments: Any) -> dict[str, Any]:
        """A question: without an answer nothing has happened."""
        try:
            return await self._change(name, timeout, **arguments)
        except OutcomeUnknown as error:
            raise RequestTimeout(f"{name}: {error.detail}", node=error.node) from None

    async def _change(self, name: str, timeout: float | None, **arguments: Any) -> dict[str, Any]:
        seconds = self._session.request_timeout if timeout is None else timeout
        deadline = anyio.current_time() + seconds
        while True:
            try:
                request = await self._session.call(ADMIN, (name, arguments), deadline - anyio.current_time())
                break
            except (NoLeader, Busy):
                # Nothing has happened; most elections are short, and so is it until the change before is committed.
                if anyio.current_time() + RETRY_PAUSE > deadline:
                    raise
                await anyio.sleep(RETRY_PAUSE)
        answer: Any = shaped(request.result, 1)[0]
        if type(answer) is not dict:
            raise ProtocolError(f"{name} is answered by a map, got {answer!r:.100}")
        return answer
