"""What credentials prove, and what they do not."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.errors import AuthFailed
from jkcs_client.protocol.messages import CREDENTIALS_BYTES_MAX, IDENTITIES_MAX
from jkcs_server.serving.credentials import proven, with_credentials
from jkcs_server.tree.acl import SUPER

PROVEN = (("ip", "192.0.2.1"),)
DIGEST = ("digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")


def test_digest_adds_an_identity_once() -> None:
    ids = with_credentials(PROVEN, "digest", b"u:p", PROVEN, None)
    assert ids == (*PROVEN, DIGEST)
    assert with_credentials(ids, "digest", b"u:p", PROVEN, None) == ids


def test_the_super_user_is_known_by_the_digest_of_the_configuration() -> None:
    assert with_credentials(PROVEN, "digest", b"u:p", PROVEN, DIGEST[1]) == (*PROVEN, SUPER, DIGEST)
    assert SUPER not in with_credentials(PROVEN, "digest", b"u:q", PROVEN, DIGEST[1])


def test_what_the_connection_proves_may_be_asked_for() -> None:
    assert with_credentials(PROVEN, "ip", b"198.51.100.7", PROVEN, None) == PROVEN


@pytest.mark.parametrize(
    ("scheme", "credentials"),
    [("world", b"anyone"), ("super", b""), ("x509", b"CN=a"), ("", b""), ("digest", b"\xff")],
)
def test_what_proves_nothing_fails(scheme: str, credentials: bytes) -> None:
    """Above all nobody is super, or another's certificate, because he says so."""
    with pytest.raises(AuthFailed):
        with_credentials(PROVEN, scheme, credentials, PROVEN, None)


def test_identities_are_bounded() -> None:
    """All of them travel with each write."""
    ids = PROVEN
    with pytest.raises(AuthFailed):
        with_credentials(ids, "digest", b"u:" + bytes(CREDENTIALS_BYTES_MAX), PROVEN, None)
    for number in range(IDENTITIES_MAX - 1):
        ids = with_credentials(ids, "digest", b"u%d:p" % number, PROVEN, None)
    with pytest.raises(AuthFailed):
        with_credentials(ids, "digest", b"v:p", PROVEN, None)


def test_one_certificate_may_do_everything() -> None:
    """The one whose subject is configured, and only when it was shown."""
    ids = (("ip", "10.0.0.1"), ("x509", "CN=admin"))
    assert proven(ids, "CN=admin") == (SUPER, *ids)
    for other in (None, "CN=somebody", ""):
        assert proven(ids, other) == ids
    assert proven((("ip", "CN=admin"),), "CN=admin") == (("ip", "CN=admin"),)
