"""What a client proves itself with: kept for as long as the client lives, and shown to nobody but servers.

A value without a readable form, so that it cannot slip into a log or a traceback. Made by `client`, sent by
`connection`.
"""

from __future__ import annotations

from jkcs_client.protocol.errors import AuthFailed, BadArguments
from jkcs_client.protocol.messages import CREDENTIALS_BYTES_MAX


class Credentials:
    """One scheme and what is to be said under it."""

    __slots__ = ("scheme", "secret")

    def __init__(self, scheme: str, secret: str | bytes) -> None:
        """Raises BadArguments, AuthFailed for what no server could take."""
        if type(scheme) is not str or not scheme or type(secret) not in (str, bytes):
            raise BadArguments('credentials are a scheme and a str or bytes, as ("digest", "user:password")')
        self.scheme = scheme
        self.secret = secret.encode() if isinstance(secret, str) else secret
        if scheme == "digest" and b":" not in self.secret[1:]:
            raise AuthFailed("credentials of scheme digest are user:password")
        if len(self.secret) > CREDENTIALS_BYTES_MAX:
            raise AuthFailed(f"credentials of more than {CREDENTIALS_BYTES_MAX} bytes")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and (self.scheme, self.secret) == (other.scheme, other.secret)

    def __hash__(self) -> int:
        return hash((self.scheme, self.secret))

    def __repr__(self) -> str:
        return f"<Credentials {self.scheme}>"
