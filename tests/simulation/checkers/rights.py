"""Who may do what: what clients were allowed and refused, against the lists of the replayed log (A1, A2).

The rules of the lists are written here once more and share nothing with the product's. A write is judged by the state
before it, a read by the state at the index of its answer. Called by the roles and by whoever reads along on the wire.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from jkcs_client import Acl
from tests.simulation.checkers.annals import Annals
from tests.simulation.trace import Violation
from tests.support.model_tree import AclEntries

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16

Ids = frozenset[tuple[str, str]]
"""Who somebody has proved to be: schemes and names."""


def identity(credentials: str) -> tuple[str, str]:
    """Who proves himself by "user:password" under scheme digest."""
    hashed = base64.b64encode(hashlib.sha1(credentials.encode()).digest()).decode()
    return "digest", f"{credentials.split(':')[0]}:{hashed}"


def allowed(acl: AclEntries, permission: int, ids: Ids) -> bool:
    """Whether a list gives one of these permissions to one of these identities."""
    return any(
        permissions & permission and ((scheme, name) == ("world", "anyone") or (scheme, name) in ids)
        for permissions, scheme, name in acl
    )


def check_access(
    annals: Annals, what: str, permission: int, path: str, index: int, ids: Ids, refused: bool, *, write: bool = False
) -> None:
    """What was answered at `index`: done though the list forbids it, or refused though it allows it (A1)."""
    state = annals.state_at(path, index - 1 if write else index)
    if state.value is None:
        # Then the answer is about something else: who judges states will say whether it is right.
        if refused:
            raise Violation("A1", f"{what} was refused at {index} by the list of {path}, which was not there")
        return
    if allowed(state.acl, permission, ids) == refused:
        did = "refused" if refused else "done"
        raise Violation("A1", f"{what} was {did} at {index} for {sorted(ids)}, and {path} was {state}")


def check_list(annals: Annals, what: str, path: str, index: int, acl: Iterable[Acl], aversion: int, ids: Ids) -> None:
    """A list that was read is that of its index, with hashes of passwords for none but who may change it (A2)."""
    state = annals.state_at(path, index)
    seen = tuple((int(entry.permissions), entry.scheme, entry.id) for entry in acl)
    true = state.acl if allowed(state.acl, ADMIN, ids) else tuple(_without_hash(entry) for entry in state.acl)
    if state.value is None or (seen, aversion) != (true, state.aversion):
        raise Violation("A2", f"{what}: {path} had the list {seen}, changed {aversion} times, but was {state}")


def changed_since(annals: Annals, path: str, since: int, index: int) -> bool:
    """Whether a key's list became another one after `since`, up to `index`."""
    before, after = annals.state_at(path, since), annals.state_at(path, index)
    return before.value is not None and before.czxid == after.czxid and before.aversion != after.aversion


def _without_hash(entry: tuple[int, str, str]) -> tuple[int, str, str]:
    permissions, scheme, name = entry
    return permissions, scheme, name.split(":")[0] + ":x" if scheme == "digest" else name
