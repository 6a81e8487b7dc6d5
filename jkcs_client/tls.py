"""TLS on the way to a server: whom to believe, what to show, and the dialer that adds it to another.

Works on asyncio and on trio, over any byte stream. The name in the server's certificate must be the one in the URL.
Knows nothing of sessions. Called by `client.py`, and by the command line for its own connections.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from jkcs_client.address import Address
from jkcs_client.dialer import CONNECT_TIMEOUT, Dialer
from jkcs_client.protocol.errors import BadArguments

PathLike = str | Path


def context_for(
    ca: PathLike | None = None, certificate: PathLike | None = None, key: PathLike | None = None
) -> ssl.SSLContext:
    """What a client needs to connect: the authorities it believes (the system's without `ca`), and what it shows.

    All are PEM files; `key` may be left out when it is in the certificate's file. Raises BadArguments naming the file
    that cannot be used.
    """
    if key is not None and certificate is None:
        raise BadArguments("key: there is no certificate that it belongs to")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ValueError) as error:
        raise BadArguments(f"ca: {_cannot_use(ca, error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_refuse_passphrase)
        except _Encrypted:
            raise BadArguments("key: it has a passphrase: pass an ssl.SSLContext that has loaded it") from None
        except (OSError, ValueError) as error:
            raise BadArguments(f"certificate, key: {_cannot_use(key or certificate, error)}") from None
    return context


def securing(dialer: Dialer, context: ssl.SSLContext) -> Dialer:
    """A dialer that speaks TLS over what `dialer` gives. Raises OSError saying why, when that fails."""

    async def dial(address: Address) -> ByteStream:
        stream = await dialer(address)
        try:
            with anyio.fail_after(CONNECT_TIMEOUT):
                return await TLSStream.wrap(
                    stream, server_side=False, hostname=address.host, ssl_context=context, standard_compatible=False
                )
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
            if isinstance(error, TimeoutError):
                raise OSError(f"no TLS handshake within {CONNECT_TIMEOUT:g} s") from None
            if isinstance(error, ssl.SSLError):
                raise OSError(f"TLS failed: {reason_of(error)}") from error
            if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | UnicodeError):
                raise OSError("TLS failed: the server closed the connection; does it speak TLS?") from error
            raise

    return dial


def reason_of(error: ssl.SSLError) -> str:
    """The failure in words, without the numbers and the source file that OpenSSL adds."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS there"
    return error.reason.replace("_", " ").lower() if error.reason else str(error)


class _Encrypted(Exception):
    pass


def _refuse_passphrase() -> str:
    # Without this OpenSSL asks on the terminal, and the event loop waits with it.
    raise _Encrypted


def _cannot_use(path: PathLike | None, error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"cannot use {path}: {reason_of(error)}"
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"cannot read {path}: {(strerror or str(error)).lower()}"
