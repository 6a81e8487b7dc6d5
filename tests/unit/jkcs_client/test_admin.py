"""Administration through a client: what is asked again, what is not, and how a download holds together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from jkcs_client.admin import DOWNLOAD_TRIES, RETRY_PAUSE, Admin
from jkcs_client.protocol.errors import (
    Busy,
    ChangeRefused,
    Compacted,
    JkcsError,
    NoLeader,
    OutcomeUnknown,
    ProtocolError,
    RequestTimeout,
)
from jkcs_client.protocol.messages import ADMIN
from jkcs_client.session import Session

pytestmark = pytest.mark.anyio

FILE = bytes(range(200))
PIECE_BYTES = 60
LOST = OutcomeUnknown("the connection was lost", node="n1")


class Server:
    """Answers ADMIN requests: with what the test has laid ready first, then as a server with one snapshot would."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.patience: list[float] = []
        self.digest = 5

    @property
    def admin(self) -> Admin:
        session = SimpleNamespace(request_timeout=10.0, connection=SimpleNamespace(node="n2"), call=self._call)
        return Admin(cast("Session", session))

    async def _call(self, op: int, arguments: tuple[str, dict[str, Any]], timeout: float) -> Any:
        assert op == ADMIN
        self.asked.append(arguments)
        self.patience.append(timeout)
        answer = self.answers.pop(0) if self.answers else self._piece(**arguments[1])
        if isinstance(answer, JkcsError):
            raise answer
        return SimpleNamespace(result=answer if type(answer) is list else [answer])

    def _piece(self, index: int, offset: int) -> dict[str, Any]:
        data = FILE[offset : offset + PIECE_BYTES]
        return {"index": index, "size": len(FILE), "digest": self.digest, "offset": offset, "data": data}


async def test_each_request_is_named_with_its_arguments() -> None:
    """As `jkcs_server.serving.admin` takes them."""
    server = Server({"from": "n1"}, *({"index": 7} for _ in range(5)))
    admin = server.admin
    assert await admin.transfer_leadership("n2") == "n1"
    assert await admin.update_voters(["n2", "n1"], {"n3": "h:1"}) == 7
    assert await admin.convert_role("n1", "observer") == 7
    assert await admin.set_preferred_leader(None) == 7
    assert await admin.take_snapshot() == 7
    assert await admin.recover_snapshot(5) == 7
    assert server.asked == [
        ("transfer_leadership", {"node": "n2"}),
        ("update_voters", {"old": ["n1", "n2"], "new": {"n3": "h:1"}}),
        ("convert_role", {"node": "n1", "role": "observer", "address": ""}),
        ("set_preferred_leader", {"node": None}),
        ("take_snapshot", {}),
        ("recover_snapshot", {"index": 5}),
    ]


@pytest.mark.parametrize("error", [NoLeader("an election"), Busy("the change before is not committed")])
async def test_what_has_not_happened_is_asked_for_again(error: JkcsError) -> None:
    """Most elections are short; the caller's patience is for all tries together."""
    server = Server(error, error, {"index": 7})
    started = anyio.current_time()
    assert await server.admin.take_snapshot(timeout=5) == 7
    assert anyio.current_time() - started == pytest.approx(2 * RETRY_PAUSE)
    assert server.patience == pytest.approx([5, 5 - RETRY_PAUSE, 5 - 2 * RETRY_PAUSE])


async def test_who_runs_out_of_patience_is_told_why() -> None:
    """With what the server said last, and not later than promised."""
    server = Server(*[NoLeader("an election")] * 100)
    started = anyio.current_time()
    with pytest.raises(NoLeader):
        await server.admin.take_snapshot(timeout=1)
    assert 1 - RETRY_PAUSE <= anyio.current_time() - started <= 1


@pytest.mark.parametrize("error", [ChangeRefused("that is how it is already"), LOST])
async def test_a_change_that_was_refused_or_may_have_happened_is_not_asked_for_again(error: JkcsError) -> None:
    """To do it twice may be wrong: the caller looks at the configuration first."""
    server = Server(error)
    with pytest.raises(type(error)):
        await server.admin.set_preferred_leader("n1")
    assert len(server.asked) == 1


async def test_a_question_without_an_answer_has_changed_nothing() -> None:
    """So its error is the one that may be met by asking again."""
    for ask in ("configuration", "server_status", "snapshots"):
        with pytest.raises(RequestTimeout, match="the connection was lost"):
            await getattr(Server(LOST).admin, ask)()


@pytest.mark.parametrize("answer", [[], [{}, {}], 7, [[1]], None])
async def test_an_answer_that_is_no_map_is_not_believed(answer: Any) -> None:
    """A server of another kind, or a broken one."""
    for ask in ("configuration", "snapshots"):
        with pytest.raises(ProtocolError):
            await getattr(Server(answer).admin, ask)()


async def test_a_list_of_snapshots_is_one() -> None:
    assert await Server({"node": "n1", "snapshots": [{"index": 5}]}).admin.snapshots() == [{"index": 5}]
    for answer in ({}, {"snapshots": {}}):
        with pytest.raises(ProtocolError, match="a list of snapshots was due"):
            await Server(answer).admin.snapshots()


async def download(server: Server) -> bytes:
    return b"".join([piece async for piece in server.admin.download_snapshot(9)])


async def test_a_snapshot_is_downloaded_piece_by_piece() -> None:
    """Each is asked for when the one before was taken: a large file is never in memory as a whole."""
    server = Server()
    assert await download(server) == FILE
    assert server.asked == [("download_snapshot", {"index": 9, "offset": at}) for at in range(0, 200, PIECE_BYTES)]


async def test_a_piece_that_got_lost_is_asked_for_again() -> None:
    """A download of minutes must not fail for one broken connection; nor go on for ever where nothing comes."""
    server = Server(*[LOST] * (DOWNLOAD_TRIES - 1))
    assert await download(server) == FILE
    assert [arguments["offset"] for _, arguments in server.asked[:DOWNLOAD_TRIES]] == [0] * DOWNLOAD_TRIES
    server = Server(*[LOST] * 100)
    with pytest.raises(RequestTimeout):
        await download(server)
    assert len(server.asked) == DOWNLOAD_TRIES == 5


async def test_each_piece_has_its_own_tries() -> None:
    """What was lost on the way to an earlier one is forgotten."""
    server = Server()
    most = [LOST] * (DOWNLOAD_TRIES - 1)
    server.answers = [*most, server._piece(9, 0), *most, server._piece(9, PIECE_BYTES)]
    assert await download(server) == FILE


async def test_pieces_of_two_different_files_are_not_put_together() -> None:
    """The client may be with another server meanwhile, whose snapshot of that index would have to be the same."""
    server = Server()
    pieces = server.admin.download_snapshot(9)
    assert await anext(pieces) == FILE[:PIECE_BYTES]
    server.digest = 6
    with pytest.raises(ProtocolError, match="snapshot 9 is another one on n2"):
        await anext(pieces)


async def test_a_file_that_ends_early_is_no_snapshot() -> None:
    """Found when it is restored, it would be too late."""
    server = Server()
    short = {**server._piece(9, 0), "data": b""}
    server.answers = [server._piece(9, 0), short]
    with pytest.raises(ProtocolError, match="snapshot 9 ended at byte 60 of 200"):
        await download(server)


async def test_a_snapshot_that_is_gone_is_not_waited_for() -> None:
    """The server keeps the newest few."""
    server = Server(Compacted("no snapshot 9 on n2"))
    with pytest.raises(Compacted):
        await download(server)
    assert len(server.asked) == 1
