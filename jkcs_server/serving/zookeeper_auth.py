"""Who a client of ZooKeeper's protocol is: the credentials it adds to its connection.

Knows nothing of permissions. Called by `zookeeper` for each auth packet.
"""

from __future__ import annotations

from jkcs_client.protocol.errors import AuthFailed
from jkcs_server.tree.acl import SUPER, Ids, digest_id

IDENTITIES_MAX = 64
"""Of one connection. All of them travel with each of its writes."""
CREDENTIALS_BYTES_MAX = 1024


def with_credentials(ids: Ids, scheme: str, credentials: bytes, proven: Ids, super_digest: str | None) -> Ids:
    """`ids` and what the credentials prove. Raises AuthFailed.

    `proven`: what the connection itself proves. `super_digest`: the identity under scheme digest that may do
    everything, as "user:base64 of a SHA-1".
    """
    if scheme == "digest":
        if len(credentials) > CREDENTIALS_BYTES_MAX:
            raise AuthFailed("credentials that long")
        try:
            name = digest_id(credentials.decode())
        except UnicodeDecodeError:
            raise AuthFailed("credentials that are no text") from None
        found: Ids = (("digest", name),)
        if name == super_digest:
            found = (SUPER, *found)
    else:
        # What the connection proves it has from its beginning; to ask for it is no mistake.
        found = tuple(each for each in proven if each[0] == scheme)
        if not found:
            raise AuthFailed(f"nobody is known by {scheme[:20]!r}")
    ids = (*ids, *(each for each in found if each not in ids))
    if len(ids) > IDENTITIES_MAX:
        raise AuthFailed(f"more than {IDENTITIES_MAX} identities of one client")
    return ids
