"""The JKCS client: `connect`, what it gives, and every error it can raise."""

from jkcs_client.address import Address
from jkcs_client.client import Client, connect
from jkcs_client.dialer import Dialer
from jkcs_client.fencing import FencedClient
from jkcs_client.lifecycle import State
from jkcs_client.protocol.errors import (
    AmbiguousError,
    BadArguments,
    BadPath,
    BadVersion,
    Busy,
    ClientClosed,
    Compacted,
    DefiniteError,
    DiskFull,
    Fenced,
    JkcsError,
    LockLost,
    LockTimeout,
    NoChildrenForEphemerals,
    NodeExists,
    NoLeader,
    NoNode,
    NotConnected,
    NotEmpty,
    OutcomeUnknown,
    ProtocolError,
    RequestTimeout,
    RetryableError,
    SessionExpired,
    SessionMoved,
    TooLarge,
    Unimplemented,
    WrongPassword,
)
from jkcs_client.protocol.messages import EventKind
from jkcs_client.transaction import Transaction
from jkcs_client.values import Event, Stat
from jkcs_client.watching import Watcher

__all__ = [
    "Address",
    "AmbiguousError",
    "BadArguments",
    "BadPath",
    "BadVersion",
    "Busy",
    "Client",
    "ClientClosed",
    "Compacted",
    "DefiniteError",
    "Dialer",
    "DiskFull",
    "Event",
    "EventKind",
    "Fenced",
    "FencedClient",
    "JkcsError",
    "LockLost",
    "LockTimeout",
    "NoChildrenForEphemerals",
    "NoLeader",
    "NoNode",
    "NodeExists",
    "NotConnected",
    "NotEmpty",
    "OutcomeUnknown",
    "ProtocolError",
    "RequestTimeout",
    "RetryableError",
    "SessionExpired",
    "SessionMoved",
    "Stat",
    "State",
    "TooLarge",
    "Transaction",
    "Unimplemented",
    "Watcher",
    "WrongPassword",
    "connect",
]
