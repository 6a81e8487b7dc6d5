"""What a name and a password are in an access control list: both sides make it.

Knows nothing of lists and connections.
"""

from __future__ import annotations

import base64
import hashlib
import re

_DIGEST_ID = re.compile(r"[^:]+:[A-Za-z0-9+/]{27}=")


def digest_id(credentials: str) -> str:
    """The name under scheme digest of somebody who says "user:password"."""
    user = credentials.split(":", 1)[0]
    # SHA-1 and no salt is what names are made of in ZooKeeper, whose clients make them too.
    digest = hashlib.sha1(credentials.encode(), usedforsecurity=False).digest()
    return f"{user}:{base64.b64encode(digest).decode()}"


def is_digest_id(name: str) -> bool:
    """Whether `digest_id` makes such names."""
    return _DIGEST_ID.fullmatch(name) is not None
