"""The commands of the tree's log: what one client's write looks like inside an entry.

A command is a msgpack array; an entry's payload is one after another. Its first four fields are

    (op, session id, serial, acked, *arguments)

with the opcodes and arguments of the client's writes (`jkcs_client.protocol.messages`), so that a client's
request becomes a command by inserting its session. The cluster's own commands have opcodes of their own:

    (OPEN, 0, 0, 0, password, timeout in ms, ids)   a new session, of a client with these identities; its id is
                                                 the command's index; without effect while there is one
                                                 with the password, which nobody but its client ever gives
    (EXPIRE, session id, 0, 0, term)             the leader of `term` has not heard of the session for its timeout;
                                                 without effect in an entry of another term
    (MOVE, session id, 0, 0, nonce)              the session's client has a new connection, which numbers its writes
                                                 from where this leaves the session; what the old one left on its way
                                                 will not be applied
    (REAP, 0, 0, 0, path, czxid, term)           the leader of `term` holds that a container or a key with a lifetime
                                                 should go; without effect in an entry of another term, on another
                                                 key, or where it is not so

A client's write whose connection has other identities than its session was opened with carries them: its opcode
has IDENTIFIED added to it, and its last argument is [[scheme, name], ...].

Within MULTI, an operation is (op, *arguments) without session, serial and acked.
"""

from __future__ import annotations

OPEN = 64
EXPIRE = 65
MOVE = 66
REAP = 67

IDENTIFIED = 256

MOVE_SERIALS = 1 << 20
"""By how much MOVE raises a session's serial: far more writes than one connection can have on their way."""
