"""ZooKeeper's protocol in numbers: operations, codes, flags and limits, as of its release 3.9.

What the records of each operation look like is said in `jute`. Both sides use it: the server, and the tests' client.
"""

from __future__ import annotations

CREATE = 1
DELETE = 2
EXISTS = 3
GET_DATA = 4
SET_DATA = 5
GET_ACL = 6
SET_ACL = 7
GET_CHILDREN = 8
SYNC = 9
PING = 11
GET_CHILDREN2 = 12
CHECK = 13
MULTI = 14
CREATE2 = 15
RECONFIG = 16
CHECK_WATCHES = 17
REMOVE_WATCHES = 18
CREATE_CONTAINER = 19
DELETE_CONTAINER = 20
CREATE_TTL = 21
MULTI_READ = 22
AUTH = 100
SET_WATCHES = 101
SASL = 102
GET_EPHEMERALS = 103
GET_ALL_CHILDREN_NUMBER = 104
SET_WATCHES2 = 105
ADD_WATCH = 106
WHO_AM_I = 107
CLOSE_SESSION = -11
ERROR = -1
"""The type of an operation's result inside a multi that failed."""

OP_NAMES = {
    CREATE: "CREA",
    DELETE: "DELE",
    EXISTS: "EXIS",
    GET_DATA: "GETD",
    SET_DATA: "SETD",
    GET_ACL: "GETA",
    SET_ACL: "SETA",
    GET_CHILDREN: "GETC",
    SYNC: "SYNC",
    PING: "PING",
    GET_CHILDREN2: "GETC",
    CHECK: "CHEC",
    MULTI: "MULT",
    CREATE2: "CREA",
    RECONFIG: "RECO",
    CHECK_WATCHES: "CHKW",
    REMOVE_WATCHES: "REMW",
    CREATE_CONTAINER: "CREA",
    CREATE_TTL: "CREA",
    MULTI_READ: "MLTR",
    SET_WATCHES: "SETW",
    GET_EPHEMERALS: "GETE",
    GET_ALL_CHILDREN_NUMBER: "GETACN",
    SET_WATCHES2: "STW2",
    ADD_WATCH: "ADDW",
    WHO_AM_I: "HOMI",
    CLOSE_SESSION: "CLOS",
}
"""How ZooKeeper's `cons` calls them."""

NOTIFICATION_XID = -1
PING_XID = -2
AUTH_XID = -4
SET_WATCHES_XID = -8

# Error codes. Those that the native protocol has, too, have the same numbers there (see `errors`).
OK = 0
SYSTEM_ERROR = -1
RUNTIME_INCONSISTENCY = -2
MARSHALLING_ERROR = -5
UNIMPLEMENTED = -6
BAD_ARGUMENTS = -8
NEW_CONFIG_NO_QUORUM = -13
RECONFIG_IN_PROGRESS = -14
NO_NODE = -101
NO_AUTH = -102
BAD_VERSION = -103
AUTH_FAILED = -115
NO_WATCHER = -121
RECONFIG_DISABLED = -123

# Modes of a create.
PERSISTENT = 0
EPHEMERAL = 1
PERSISTENT_SEQUENTIAL = 2
EPHEMERAL_SEQUENTIAL = 3
CONTAINER = 4
PERSISTENT_TTL = 5
PERSISTENT_SEQUENTIAL_TTL = 6

TTL_MS_MAX = (1 << 40) - 1

# Modes of an addWatch.
WATCH_PERSISTENT = 0
WATCH_RECURSIVE = 1

# Types of watches that are removed or asked for.
WATCHER_CHILDREN = 1
WATCHER_DATA = 2
WATCHER_ANY = 3
WATCHER_PERSISTENT = 4
WATCHER_RECURSIVE = 5

SYNC_CONNECTED = 3
"""The state that every event carries."""

NO_ZXID = -1
"""Of an event that a server made up for watches that came back."""

PASSWORD_BYTES = 16
FRAME_BYTES_MAX = 0xFFFFF + 1024
"""One request, as `jute.maxbuffer` has it when nobody sets it, and room for what is around a value of that size."""
