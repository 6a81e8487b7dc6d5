"""The native protocol: opcodes, the shape of each message, and the limits both sides keep.

A connection opens with `PREFACE` (magic and version) from the client. After it both directions carry
frames (see `framing`); a frame holds an array of messages, each a msgpack array. The first message in
each direction is the hello; after that:

    client -> server   [op, id, *arguments]
    server -> client   [id, code, index, *result]         answer; when code is not OK: [id, code, index, detail]
    server -> client   [0, watch id, kind, index, path]   event
    server -> client   [0, code, index, detail]           farewell: why the server is about to close the connection;
                                                          with SESSION_EXPIRED the session is over as well

Answers and events come in one order per connection: a request's answer never overtakes that of an earlier
request, and never the events that precede the state it shows. `index` is the log index as of which
the answer is true; for a write it is the write's own. Having read an answer or event with index `i`, the
client has been sent every event of its watches up to `i`.

**Ids.** Writes are numbered by the session: `serial` 1, 2, 3 ... without a gap, over all connections of the
session. The server applies serial `n` once and only after `n - 1`, so a client that lost its connection sends
again whatever was not answered, in order, and each write happens once. Everything else is numbered by the
connection: -1, -2, -3 ... `acked` is the highest serial up to which the client has all answers: the server
may forget those.

    hello      [session id or 0, password, timeout in ms, highest index seen]
               -> [OK, session id, password, timeout in ms, index, node, value bytes max,
                   requests in flight max, serial]
               -> [code, detail], then the connection is closed
               `serial` is the last one the session has applied; a timeout of 0 asks for a connection
               without a session, which may read and watch but not write
    GET        path, level                     -> data, stat
    EXISTS     path, level                     -> stat or nil
    CHILDREN   path, level                     -> [names, sorted], stat
    SYNC                                       -> (nothing; `index` is one that was current during the call)
    PING                                       -> (nothing; the session lives, for its timeout from when this was sent)
    WATCH      watch id, path, mode, since     -> (nothing; events with an index above `since` follow, or came
                                                  just before; since 0: from `index` on).
                                                  Code COMPACTED when `since` is too old.
    UNWATCH    watch id                        -> (nothing)
    STATUS                                     -> a map, see `jkcs_server.serving`
    ADMIN      name, {arguments}               -> a map; see docs/reference/protocol.md. Only ADMIN is answered out of
                                                  turn, when its answer is there; from elsewhere than the server's own
                                                  machine it is refused unless the server's settings say otherwise
    AUTH       scheme, credentials             -> (nothing; the connection has one identity more, for whatever comes
                                                  after it; AUTH_FAILED leaves it as it was)
    GET_ACL    path, level                     -> acl, stat; digests are hidden from who has not ADMIN
    WHO_AM_I                                   -> [[scheme, name], ...], without digests
    CHILDREN_PAGE  path, level, after, limit   -> [names above `after`, sorted, at most `limit`], stat
    EPHEMERALS path, level                     -> [paths, sorted]: the session's own ephemeral keys at and below `path`
    COUNT      path, level                     -> number of keys below the path, however deep
    CREATE     acked, path, data, flags        -> path (with its sequence), stat
               or acked, path, data, flags, acl, ttl: acl nil is the open one, ttl in ms (0 unless the flag TTL is set)
    SET        acked, path, data, version      -> stat
    DELETE     acked, path, version            -> (nothing)
    CHECK      acked, path, version            -> (nothing)
    GUARD      acked, path, czxid              -> (nothing); FENCED unless the key exists with that creation index
    MULTI      acked, [[op, *arguments without acked], ...] -> [[*result], ...]; all or nothing; of a failure the
                                                  detail is "N: path", N the operation's place from 0
    SET_ACL    acked, path, acl, aversion      -> stat
    SEQUENCE   acked, path, number             -> stat; the key's next sequential child has at least this number
    CLOSE      acked                           -> (nothing); the session ends, its ephemerals go with it

`version` -1 means any, so does `aversion`. A `stat` is the array of `STAT_FIELDS`. An `acl` is a list of
[permissions, scheme, name].
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

MAGIC = b"JKCS"
VERSION = 1
PREFACE = MAGIC + bytes([VERSION])

# Plain integers, not an enum: they are compared for every request.
GET = 1
EXISTS = 2
CHILDREN = 3
SYNC = 4
PING = 5
WATCH = 6
UNWATCH = 7
STATUS = 8
ADMIN = 9
AUTH = 10
GET_ACL = 11
WHO_AM_I = 12
CHILDREN_PAGE = 13
EPHEMERALS = 14
COUNT = 15
FIRST_WRITE = 16
CREATE = 16
SET = 17
DELETE = 18
CHECK = 19
GUARD = 20
MULTI = 21
CLOSE = 22
SET_ACL = 23
SEQUENCE = 24

OP_NAMES = {
    GET: "get",
    EXISTS: "exists",
    CHILDREN: "children",
    SYNC: "sync",
    PING: "ping",
    WATCH: "watch",
    UNWATCH: "unwatch",
    STATUS: "status",
    ADMIN: "admin",
    AUTH: "auth",
    GET_ACL: "get_acl",
    WHO_AM_I: "who_am_i",
    CHILDREN_PAGE: "children_page",
    EPHEMERALS: "ephemerals",
    COUNT: "count",
    CREATE: "create",
    SET: "set",
    DELETE: "delete",
    CHECK: "check",
    GUARD: "guard",
    MULTI: "multi",
    CLOSE: "close",
    SET_ACL: "set_acl",
    SEQUENCE: "sequence",
}

LINEARIZABLE = 0
LOCAL = 1

ANY_VERSION = -1


class CreateFlag(IntFlag):
    EPHEMERAL = 1
    SEQUENTIAL = 2
    PARENTS = 4  # missing ancestors are created too, persistent and empty, in the same entry
    CONTAINER = 8  # the key goes when its last child has gone
    TTL = 16  # the key goes when it has no children and its value has not been set for so long
    INT32 = 32  # with SEQUENTIAL: the number wraps around as ZooKeeper's does


class Permission(IntFlag):
    """What an entry of an ACL gives. The numbers are ZooKeeper's."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16


class WatchMode(IntEnum):
    """What a watch reports. A key's own events: created, data changed, deleted. See `EventKind`."""

    ONCE = 1  # the key's own next event, then the watch is gone
    ONCE_CHILDREN = 2  # the next change of the key's list of children, or its deletion, then the watch is gone
    PERSISTENT = 3  # the key's own events and changes of its list of children
    RECURSIVE = 4  # own events of the key and of everything below it


class EventKind(IntEnum):
    """ZooKeeper's event types, with its numbers."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILDREN = 4


STAT_FIELDS = (
    "czxid",
    "mzxid",
    "pzxid",
    "ctime",
    "mtime",
    "version",
    "cversion",
    "ephemeral_owner",
    "data_length",
    "num_children",
    "aversion",
    "ttl",
)

CONTAINER_TTL = -1
"""The `ttl` of a container; 0 is that of a key without one."""
TTL_MS_MAX = (1 << 40) - 1
"""As in ZooKeeper: almost 35 years."""
ACL_ENTRIES_MAX = 256
ACL_ID_BYTES_MAX = 1024
"""Scheme and name of one entry of an ACL."""
CREDENTIALS_BYTES_MAX = 1024
"""What an AUTH carries."""
IDENTITIES_MAX = 64
"""Of one connection. All of them travel with each of its writes."""
CHILDREN_PAGE_MAX = 10_000
"""Names in one page of children."""

FRAME_BYTES_MAX = 8 << 20
"""The body of one frame. A frame that claims more is refused before anything is allocated."""
VALUE_BYTES_MAX = 1 << 20
"""One key's data, as in ZooKeeper."""
PATH_BYTES_MAX = 4096
MULTI_OPS_MAX = 4096
MULTI_BYTES_MAX = 4 << 20
"""The paths and values of one transaction, added up."""
MULTI_RESULTS_MAX = 1 << 18
"""Operations of transactions that a session may leave unacknowledged, taking each write since for one as large as
the one that comes: their results are kept on every server."""
REQUEST_ARRAY_MAX = 8192
"""The longest array a server takes from a client: messages in a frame, operations in a transaction."""
REQUEST_ARRAYS_MAX = 1 << 19
"""Arrays and maps in one frame of a client, all depths counted."""
REQUESTS_IN_FLIGHT_MAX = 1024
"""Requests a connection may leave unanswered; beyond it the server stops reading from it."""
WATCHES_PER_CONNECTION_MAX = 100_000
ADMIN_IN_FLIGHT_MAX = 16
"""ADMIN requests that a connection may leave unanswered; more are refused as BUSY."""
PASSWORD_BYTES = 16
SESSION_TIMEOUT_MS_MIN = 1_000
SESSION_TIMEOUT_MS_MAX = 600_000
