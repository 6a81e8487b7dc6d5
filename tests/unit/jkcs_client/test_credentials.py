"""Credentials: what can be none, and that they are never shown."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client import connect
from jkcs_client.credentials import checked
from jkcs_client.protocol.errors import AuthFailed, BadArguments, JkcsError
from jkcs_client.protocol.messages import CREDENTIALS_BYTES_MAX


def test_a_secret_is_not_in_what_is_shown() -> None:
    """What is shown ends in logs and tracebacks."""
    credentials = checked("digest", "me:hush")
    assert (credentials.scheme, credentials.secret) == ("digest", b"me:hush")
    assert "hush" not in f"{credentials} {credentials!r}"


@pytest.mark.parametrize(
    ("scheme", "secret", "error"),
    [
        ("digest", "hush", AuthFailed),
        ("digest", ":hush", AuthFailed),
        ("digest", b"a:" + bytes(CREDENTIALS_BYTES_MAX), AuthFailed),
        ("", "a:hush", BadArguments),
        (7, "a:hush", BadArguments),
        ("digest", ["a:hush"], BadArguments),
    ],
)
def test_what_no_server_could_take_is_refused_before_it_is_sent(
    scheme: Any, secret: Any, error: type[JkcsError]
) -> None:
    """By `connect`, too, where a mistake in a setting is found."""
    with pytest.raises(error) as caught:
        checked(scheme, secret)
    assert "hush" not in str(caught.value)
    with pytest.raises(error):
        connect("jkcs://h:1", auth=[(scheme, secret)])
