"""What a name and a password are in an access control list: both sides make it.

Knows nothing of lists and connections.
"""

from __future__ import annotations

import base64
import binascii
import hashlib


def digest_id(credentials: str) -> str:
    """The name under scheme digest of somebody who says "user:password"."""
    user = credentials.split(":", 1)[0]
    # SHA-1 and no salt is what names are made of in ZooKeeper, whose clients make them too.
    digest = hashlib.sha1(credentials.encode(), usedforsecurity=False).digest()
    return f"{user}:{base64.b64encode(digest).decode()}"


def is_digest_id(name: str) -> bool:
    """Whether this can be somebody's name under scheme digest."""
    user, colon, digest = name.partition(":")
    if not user or not colon or not digest:
        return False
    try:
        return base64.b64decode(digest, validate=True) != b""
    except (binascii.Error, ValueError):
        return False
