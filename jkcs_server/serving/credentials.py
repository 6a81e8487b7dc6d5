"""Who a client is: what its connection proves, and the credentials it adds.

Knows nothing of permissions. Called by `native` and `zookeeper` when a client authenticates, and by `requests` for
each new connection.
"""

from __future__ import annotations

from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import AuthFailed
from jkcs_client.protocol.messages import CREDENTIALS_BYTES_MAX, IDENTITIES_MAX
from jkcs_server.tree.acl import SUPER, Ids


def proven(ids: Ids, x509_super: str | None) -> Ids:
    """Who a client is whose connection proves `ids`. `x509_super`: the certificate's subject that may do everything."""
    return (SUPER, *ids) if x509_super is not None and ("x509", x509_super) in ids else ids


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
