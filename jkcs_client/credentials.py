"""What a client proves itself with: kept for as long as the client lives, and shown to nobody but servers.

A value without a readable form, so that it cannot slip into a log or a traceback. Made by `client`, sent by
`connection`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jkcs_client.protocol.errors import AuthFailed, BadArguments
from jkcs_client.protocol.messages import CREDENTIALS_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Credentials:
    """One scheme and what is to be said under it."""

    scheme: str
    secret: bytes = field(repr=False)


def checked(scheme: str, secret: str | bytes) -> Credentials:
    """What a caller gave as credentials. Raises BadArguments, AuthFailed for what no server could take."""
    if type(scheme) is not str or not scheme or type(secret) not in (str, bytes):
        raise BadArguments('credentials are a scheme and a str or bytes, as ("digest", "user:password")')
    said = secret.encode() if isinstance(secret, str) else secret
    if scheme == "digest" and b":" not in said[1:]:
        raise AuthFailed("credentials of scheme digest are user:password")
    if len(said) > CREDENTIALS_BYTES_MAX:
        raise AuthFailed(f"credentials of more than {CREDENTIALS_BYTES_MAX} bytes")
    return Credentials(scheme, said)
