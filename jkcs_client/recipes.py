"""The recipes, where a user of the client looks for them. They live in the package `recipes`."""

from jkcs_client.protocol.errors import LockLost, LockTimeout
from recipes.lock import Held, Lock

__all__ = ["Held", "Lock", "LockLost", "LockTimeout"]
