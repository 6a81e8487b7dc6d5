"""The sessions that exist, and what each must remember so that a write sent twice is applied once.

Knows nothing of keys: which a session owns, the tree knows. Knows nothing of connections or of time: that a
session has been silent is found by the serving side and told by a command. Called by `machine`.

Sessions follow the tree's rule for snapshots: one that has had no command since the snapshot is replaced
by a copy before it changes. And like the tree they keep a sum, for the digest; but a session that writes much
is reckoned up once, when the sum is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from crc32c import crc32c
from msgpack import packb

from jkcs_client.protocol.messages import REQUESTS_IN_FLIGHT_MAX
from jkcs_server.tree.acl import Ids
from jkcs_server.tree.commands import MOVE_SERIALS

REPLIES_KEPT_MAX = REQUESTS_IN_FLIGHT_MAX
"""Replies a session keeps. Part of what all replicas must do alike: it may only change together with the
version of the protocol and of the snapshot's image."""

Result = tuple[object, ...] | str
"""The fields of an answer when its code is OK, else the detail."""
Outcome = tuple[int, int, Result]
"""Code, index and result of a command, as the client is told."""

_NEVER = -1

# As in `keytree`.
_ID = 0x75D1B3E8F92C4A7
_TIMEOUT = 0xC38A6F0D41E9B25
_SERIAL = 0x2E97C5B1D80F63B
_INDEX = 0x9B40E2F7A6C3D15
_REPLIES = 0xE16D9A583BF7C4F
_OLDEST = 0x50F3C7E9D2816AD
_PASSWORD = 0x86B2D4A7E5F190F
_IDS = 0x3D5A92E8C7041BF


class Session:
    """One session. Readers must not keep it: it may be replaced by the next command."""

    __slots__ = ("id", "ids", "index", "password", "replies", "serial", "share_counted", "timeout_ms")

    def __init__(self, session_id: int, password: bytes, timeout_ms: int, ids: Ids = ()) -> None:
        self.id = session_id
        """Index of the command that opened it."""
        self.ids = ids
        """Who its client was then; a write of somebody else says so itself."""
        self.password = password
        self.timeout_ms = timeout_ms
        self.serial = 0
        """The last write applied. Invariant: moves by one."""
        self.index = session_id
        """Index at which `serial` last moved."""
        self.replies: list[Outcome] = []
        """The outcomes of the last writes, up to `serial`, that the client may still ask for."""
        self.share_counted = 0
        """What of the session is in `Sessions`' sum now."""

    def share(self) -> int:
        """What the session is in the sum as it now is.

        Of the outcomes it says which are kept, not what they are: that followed from the state at their
        index. So it costs the same however many there are.
        """
        replies = self.replies
        return (self.id << 1 | 1) * (
            _ID
            + _TIMEOUT * self.timeout_ms
            + _SERIAL * self.serial
            + _INDEX * self.index
            + _PASSWORD * crc32c(self.password)
            + (_IDS * crc32c(packb(self.ids)) if self.ids else 0)
            + (_REPLIES * len(replies) + _OLDEST * replies[0][1] if replies else 0)
        )

    def remember(self, index: int, acked: int, outcome: Outcome) -> None:
        """The next write has been applied at `index`; of the earlier ones, those up to `acked` may be forgotten."""
        self.serial = serial = self.serial + 1
        self.index = index
        replies = self.replies
        replies.append(outcome)
        kept = serial - acked
        if len(replies) > kept:
            # Whatever a client claims to have, the newest reply stays.
            del replies[: len(replies) - max(kept, 1)]
        if len(replies) > REPLIES_KEPT_MAX:
            del replies[0]

    def move(self, index: int) -> None:
        """Whatever is on its way with the next serials will find a gap before it."""
        self.serial += MOVE_SERIALS
        self.index = index
        self.replies.clear()

    def outcome_of(self, serial: int) -> Outcome | None:
        """What became of a write applied before; None when that is forgotten, or it has not been applied."""
        place = len(self.replies) - 1 - (self.serial - serial)
        return self.replies[place] if 0 <= place < len(self.replies) else None

    def copy(self) -> Session:
        twin = Session(self.id, self.password, self.timeout_ms, self.ids)
        twin.serial = self.serial
        twin.index = self.index
        twin.replies = self.replies.copy()
        twin.share_counted = self.share_counted
        return twin


class Sessions:
    """All sessions that have neither been closed nor expired."""

    def __init__(self) -> None:
        self.by_id: dict[int, Session] = {}
        """In the order in which they were opened. Replaced as a whole by `replace`."""
        self._passwords: set[bytes] = set()
        """Of all sessions."""
        self._sum = 0
        """Of the shares that are counted."""
        self._uncounted: set[int] = set()
        """Sessions that have changed since their share was counted. Invariant: all of them exist."""
        self._kept_to = _NEVER
        """Sessions last changed at or before this index are replaced, not changed."""

    def get(self, session_id: int) -> Session | None:
        return self.by_id.get(session_id)

    def __getitem__(self, session_id: int) -> Session:
        return self.by_id[session_id]

    def __contains__(self, session_id: int) -> bool:
        return session_id in self.by_id

    def __len__(self) -> int:
        return len(self.by_id)

    def values(self) -> Iterable[Session]:
        """In the order in which they were opened."""
        return self.by_id.values()

    def open(self, session_id: int, password: bytes, timeout_ms: int, ids: Ids = ()) -> bool:
        """False when a session has this password: its opening was proposed twice, and this is the second time."""
        assert session_id not in self.by_id, session_id
        if password in self._passwords:
            return False
        self.add(Session(session_id, password, timeout_ms, ids))
        return True

    def add(self, session: Session) -> None:
        self.by_id[session.id] = session
        self._passwords.add(session.password)
        self._uncounted.add(session.id)

    def end(self, session_id: int) -> None:
        session = self.by_id.pop(session_id)
        self._passwords.discard(session.password)
        self._sum -= session.share_counted
        self._uncounted.discard(session_id)

    def remember(self, session: Session, index: int, acked: int, outcome: Outcome) -> None:
        """`Session.remember`, with regard for a snapshot under way."""
        if session.index <= self._kept_to:
            session = self.by_id[session.id] = session.copy()
        session.remember(index, acked, outcome)
        self._uncounted.add(session.id)

    def move(self, session: Session, index: int) -> None:
        """`Session.move`, likewise."""
        if session.index <= self._kept_to:
            session = self.by_id[session.id] = session.copy()
        session.move(index)
        self._uncounted.add(session.id)

    def sum(self) -> int:
        """Of the shares of all sessions. Takes as long as there were sessions that wrote since the last call."""
        if self._uncounted:
            # In no order: it is a sum.
            for session_id in self._uncounted:
                session = self.by_id[session_id]
                share = session.share()
                self._sum += share - session.share_counted
                session.share_counted = share
            self._uncounted.clear()
        return self._sum

    def sum_anew(self) -> int:
        """What `sum` must be, from all sessions. For tests."""
        return sum(session.share() for session in self.by_id.values())

    def keep(self, index: int) -> None:
        """Leave all sessions as they are at `index`, the last one applied, in the hands of a snapshot."""
        self._kept_to = index

    def release(self) -> None:
        """No snapshot needs old sessions any more."""
        self._kept_to = _NEVER

    def replace(self, other: Sessions) -> None:
        """Become what `other` is, and let nothing of the old remain."""
        self.by_id = other.by_id
        self._passwords = other._passwords
        self._sum = other._sum
        self._uncounted = other._uncounted
        self._kept_to = _NEVER
