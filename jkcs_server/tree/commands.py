"""The commands of the tree's log: what one client's write looks like inside an entry.

A command is a msgpack array; an entry's payload is one after another. Its first four fields are

    (op, session id, serial, acked, *arguments)

with the opcodes and arguments of the client's writes (`jkcs_client.protocol.messages`), so that a client's
request becomes a command by inserting its session. The cluster's own commands have opcodes of their own:

    (OPEN, 0, 0, 0, password, timeout in ms)     a new session; its id is the command's index
    (EXPIRE, session id, 0, 0, term)             the leader of `term` has not heard of the session for its timeout;
                                                 without effect in an entry of another term

Within MULTI, an operation is (op, *arguments) without session, serial and acked.
"""

from __future__ import annotations

OPEN = 64
EXPIRE = 65
