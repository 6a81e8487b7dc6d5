"""Random steps: few names and many collisions, so that most branches of a server are met.

Each choice is made by the `random.Random` that comes in: a seed's, or one of Hypothesis, which can then shrink.
Called by `differential.py` and by the test of it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from random import Random

from tests.zookeeper.operations import BOX, OPEN, Acl, Operation
from tests.zookeeper.pair import SESSIONS, Step

HOUR_MS = 3_600_000
BATCH_MAX = 4
PART_MAX = 4


def digest(user: str, password: str) -> str:
    return f"{user}:{base64.b64encode(hashlib.sha1(f'{user}:{password}'.encode()).digest()).decode()}"


PATHS = (
    "~", "~/a", "~/b", "~/c", "~/a/x", "~/a/y", "~/a/x/p", "~/a/x/q", "~/b/x", "~/b/y", "~/é", "~/a/x/p/deep",
)  # fmt: skip
SEQUENCES = tuple(
    f"~/{parent}{stem}{number:010d}" for parent in ("a/", "b/", "") for stem in ("s", "") for number in range(3)
)
ILLEGAL = (
    "", "a", "~/", "~/a/", "~//a", "~/a/../b", "~/a/.", "~/..", "~/a\x00b", "~/a\x01", "~/\x7f", "~/\ue000",
    "~/\U0001f600", "~/\ufffd", "/zookeeper", "/zookeeper/config", "/zookeeper/quota", "/",
)  # fmt: skip
LIMITS = (
    b"count=3,bytes=50",
    b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=4",
    b"count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=-1",
    b"count=1,bytes=1=;byteHardLimit=400;countHardLimit=6",
)
STATS = tuple(f"/zookeeper/quota/@{below}/zookeeper_stats" for below in ("", "/a", "/b"))
BOXES = (f"~/{BOX}1", f"~/a/{BOX}2")
PERSISTENT = {"~": 1, "~/b": 0, "~/b/x": 1, "~/a/x": 1, "~/é": 0}
"""Where persistent watches are set, in one mode each, and no others: ZooKeeper 3.8 mixes up two modes of the same
session on one path, which 3.9 put right."""
ALICE, BOB = digest("alice", "a"), digest("bob", "b")
ACLS: tuple[Acl | None, ...] = (
    ((1, "world", "anyone"),),
    ((1 | 16, "world", "anyone"),),
    ((2, "world", "anyone"),),
    ((4 | 8, "world", "anyone"),),
    ((16, "world", "anyone"),),
    ((31, "digest", ALICE),),
    ((31, "digest", ALICE), (1, "world", "anyone")),
    ((3, "digest", BOB), (28, "digest", ALICE)),
    ((31, "auth", ""),),
    ((1, "auth", "whoever"), (31, "ip", "127.0.0.1")),
    ((31, "ip", "127.0.0.1"),),
    ((31, "ip", "127.0.0.0/8"),),
    ((31, "ip", "10.1.2.3"),),
    ((31, "ip", "10.0.0.0/8"), (1, "world", "anyone")),
)
BAD_ACLS: tuple[Acl | None, ...] = (
    (),
    None,
    ((31, "world", "someone"),),
    ((31, "nonsense", "x"),),
    ((31, "digest", "nocolon"),),
    ((31, "digest", "a:b:c"),),
    ((31, "ip", "not an address"),),
    ((31, "ip", "127.0.0.1/40"),),
    ((0, "world", "anyone"),),
    ((31, "world", "anyone"), (31, "nonsense", "x")),
)
CREDENTIALS = (("digest", "alice:a"), ("digest", "alice:a"), ("digest", "bob:b"), ("digest", "alice:wrong"), ("ip", ""))
BAD_CREDENTIALS = (("nonsense", "x"), ("world", "anyone"), ("auth", ""), ("", ""))


def draw_step(random: Random) -> Step:
    session = random.randrange(SESSIONS)
    fate = random.randrange(100)
    if fate < 2:
        return Step(session, (), "again")
    if fate < 3:
        return Step(session, (), "impostor")
    # ZooKeeper answers these two before what it was sent ahead of them: they are sent alone.
    if fate < 6:
        credentials = BAD_CREDENTIALS if random.randrange(5) == 0 else CREDENTIALS
        scheme, credential = random.choice(credentials)
        return Step(session, (Operation("auth", scheme=scheme, credential=credential),))
    if fate == 6 and random.randrange(3) == 0:
        return Step(session, (Operation("unknown"),))
    if fate == 7:
        return Step(session, _quota(random))
    count = 1 if fate < 65 else random.randint(2, BATCH_MAX)
    operations = [draw_operation(random) for _ in range(count)]
    # ZooKeeper may check what is on its way behind a setACL against the ACL before it: nothing is.
    last = next((place for place, each in enumerate(operations) if each.kind == "setACL"), count)
    del operations[last + 1 :]
    if fate == 99:  # ends the connection
        operations.append(Operation("closeSession"))
    return Step(session, tuple(operations))


def _quota(random: Random) -> tuple[Operation, ...]:
    """What a client does that sets a quota; the keys may be there already."""
    below = random.choice(("/a", "/b"))  # never one in another, which ZooKeeper's own tools refuse
    steps = below.split("/")
    parents = ["/zookeeper/quota/@" + "/".join(steps[:count]) for count in range(1, len(steps) + 1)]
    place, limits = parents[-1], random.choice(LIMITS)
    return (
        *(Operation("create", path.rstrip("/")) for path in parents),
        Operation("create", f"{place}/zookeeper_limits", limits),
        *(
            [Operation("setData", f"{place}/zookeeper_limits", random.choice(LIMITS))]
            if random.randrange(3) == 0
            else []
        ),
        Operation("create", f"{place}/zookeeper_stats", b"count=0,bytes=0"),
        Operation("getData", f"{place}/zookeeper_stats"),
    )


def draw_operation(random: Random) -> Operation:
    return random.choices([draw for draw, _ in DRAWS], [weight for _, weight in DRAWS])[0](random)


def _path(random: Random) -> str:
    fate = random.randrange(40)
    if fate == 0:
        return random.choice(ILLEGAL)
    if fate < 4:
        return random.choice(SEQUENCES)
    if fate < 6:
        return random.choice(BOXES)
    if fate == 6:
        return random.choice(STATS)
    return random.choice(PATHS)


def _target(random: Random) -> str:
    """What may be created, changed or deleted: nothing outside of the run's root."""
    path = _path(random)
    # A quota's figures that are set to no data at all end ZooKeeper 3.8.
    return "~/a" if path == "/" or path in STATS else path


def _fresh(random: Random) -> str:
    """What may be created by its name: no place of a sequence, see `deliberate.py`."""
    path = _target(random)
    return "~/b" if path in SEQUENCES else path


def _data(random: Random) -> bytes | None:
    return random.choice((b"", b"v", b"value", b"\x00\xff" * 20, b"x" * 64, None))


def _acl(random: Random) -> Acl | None:
    fate = random.randrange(12)
    return OPEN if fate < 8 else random.choice(ACLS) if fate < 11 else random.choice(BAD_ACLS)


def _version(random: Random) -> int:
    return random.choice((-1, -1, -1, 0, 0, 1, 1, 2, 3, 7, -2))


def _create(random: Random) -> Operation:
    fate = random.randrange(20)
    path, data, acl = _fresh(random), _data(random), _acl(random)
    if fate == 0:
        return Operation("createContainer", random.choice(BOXES), data, 4, acl=acl)
    if fate == 1:
        ttl = random.choice((HOUR_MS, 5 * HOUR_MS, 0, -1, 1 << 41))
        return Operation("createTTL", path, data, random.choice((5, 6)), acl=acl, ttl=ttl)
    if fate == 2:
        return Operation("create", f"{random.choice(BOXES)}/kept{random.randrange(3)}", data, acl=OPEN)
    flags = random.choice((0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 9, -1) if fate == 3 else (0, 0, 0, 0, 1, 1, 2, 3))
    if flags in (2, 3):
        path = f"{random.choice(('~/a', '~/b', '~', '~/a/x'))}/{random.choice(('s', 's', ''))}"
    return Operation(random.choice(("create", "create2")), path, data, flags, acl=acl)


def _delete(random: Random) -> Operation:
    return Operation("delete", _target(random), version=_version(random))


def _set(random: Random) -> Operation:
    return Operation("setData", _target(random), _data(random), version=_version(random))


def _set_acl(random: Random) -> Operation:
    return Operation("setACL", _target(random), acl=_acl(random), version=_version(random))


def _read(random: Random) -> Operation:
    kind, path = random.choice(("getData", "exists", "getChildren", "getChildren2")), _path(random)
    return Operation(kind, path, watch=path not in PERSISTENT and random.randrange(5) < 2)


def _look(random: Random) -> Operation:
    return Operation(random.choice(("getACL", "getEphemerals", "getAllChildrenNumber", "sync")), _path(random))


def _who(random: Random) -> Operation:
    return Operation("whoAmI")


def _check(random: Random) -> Operation:
    return Operation("check", _path(random), version=_version(random))


def _multi(random: Random) -> Operation:
    draws: tuple[Callable[[Random], Operation], ...] = (_create, _create, _delete, _set, _set, _check)
    return Operation("multi", parts=tuple(random.choice(draws)(random) for _ in range(random.randint(0, PART_MAX))))


def _multi_read(random: Random) -> Operation:
    kinds = ("getData", "getChildren")
    parts = (Operation(random.choice(kinds), _path(random)) for _ in range(random.randint(0, PART_MAX)))
    return Operation("multiRead", parts=tuple(parts))


def _add_watch(random: Random) -> Operation:
    path = random.choice(tuple(PERSISTENT))
    return Operation("addWatch", path, mode=PERSISTENT[path] if random.randrange(20) else 2)


def _watch_change(random: Random) -> Operation:
    kind, path = random.choice(("checkWatches", "removeWatches")), _path(random)
    if not path.startswith(("~", "/")):
        path = "~"  # at another beginning ZooKeeper's search for parents fails
    return Operation(kind, path, mode=3 if path in PERSISTENT else random.randint(1, 3))


def _set_watches(random: Random) -> Operation:
    kind, sets = random.choice((("setWatches", 3), ("setWatches2", 5)))
    once = tuple(path for path in PATHS if path not in PERSISTENT)
    lasting = [tuple(path for path, mode in PERSISTENT.items() if mode == wanted) for wanted in (0, 1)]
    choices = [once, once, once, *lasting][:sets]
    paths = tuple(tuple(random.choice(some) for _ in range(random.choice((0, 0, 1, 2)))) for some in choices)
    return Operation(kind, ago=random.randint(0, 12), paths=paths)


# No `check` outside of a multi: ZooKeeper 3.8 does not answer one that succeeds.
DRAWS: tuple[tuple[Callable[[Random], Operation], int], ...] = (
    (_create, 26),
    (_delete, 12),
    (_set, 12),
    (_set_acl, 3),
    (_read, 24),
    (_look, 6),
    (_who, 1),
    (_multi, 7),
    (_multi_read, 2),
    (_add_watch, 4),
    (_watch_change, 2),
    (_set_watches, 2),
)
