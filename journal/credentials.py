"""Certificates from files, read again when the files change: what a port shows, and whom it believes.

Knows nothing of connections. Called with the time by whoever begins one, so that a renewed certificate is in use
within a second, without a restart; connections that stand are not touched. Files that cannot be used (half written,
a key that does not fit) are logged, and what was there before stays.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from journal.errors import CredentialsRefused
from journal.x509 import read_pem

LOOK_SECONDS = 1.0
"""How often the files are looked at, at most."""
FILE_BYTES_MAX = 4 << 20

_log = logging.getLogger(__name__)

T = TypeVar("T")
_Print = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of change of each file; None for one that is not there."""


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """PEM files. A chain follows the certificate in its file; the key is not encrypted."""

    certificate: Path
    key: Path
    authorities: Path | None = None
    """Whose certificates are believed."""

    def paths(self) -> tuple[Path, ...]:
        return (self.certificate, self.key) if self.authorities is None else (*self._pair(), self.authorities)

    def _pair(self) -> tuple[Path, Path]:
        return self.certificate, self.key


class Credentials(Generic[T]):
    """What `build` makes of the files as they were when they could last be used."""

    def __init__(self, files: CredentialFiles, build: Callable[[CredentialFiles], T]) -> None:
        """Raises CredentialsRefused when the files cannot be used: nothing is to start with them."""
        self._files = files
        self._build = build
        self._print = _fingerprint(files)
        self._looked_at = float("-inf")
        self._made = build(files)
        self._tell()

    def at(self, now: float) -> T:
        """What counts at the time `now`, by any clock that goes forward, in seconds."""
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            if _fingerprint(self._files) != self._print:
                self.reload()
        return self._made

    def reload(self) -> None:
        """Read the files again, whether they have changed or not."""
        self._print = _fingerprint(self._files)  # before reading: a change meanwhile is seen at the next look
        try:
            self._made = self._build(self._files)
        except CredentialsRefused as error:
            _log.error("the certificates are kept as they were: %s", error)
        else:
            self._tell()

    def _tell(self) -> None:
        path = self._files.certificate
        certificate = read_pem(path.read_text(encoding="utf-8", errors="replace"))
        _log.info("certificate of %s from %s, valid until %s", certificate.subject, path, certificate.expiry)
        key = self._files.key
        if key.stat().st_mode & stat.S_IROTH:
            _log.warning("the key %s can be read by everybody on this machine: chmod 600 it", key)


def context_of(
    files: CredentialFiles, purpose: int, *, verify: ssl.VerifyMode, oldest: ssl.TLSVersion
) -> ssl.SSLContext:
    """A context for connections that are accepted (`ssl.PROTOCOL_TLS_SERVER`) or dialed (`ssl.PROTOCOL_TLS_CLIENT`).

    The names in a certificate are the caller's to look at. Raises CredentialsRefused.
    """
    context = ssl.SSLContext(purpose)
    context.check_hostname = False
    context.verify_mode = verify
    context.minimum_version = oldest
    # Nothing of a connection outlives it: neither a session whose certificate is not valid any more, nor
    # handshakes within a connection, each of which costs the server more than the client.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if purpose == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    load_pair(context, files.certificate, files.key)
    if files.authorities is not None:
        load_authorities(context, files.authorities)
    return context


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Raises CredentialsRefused naming the file."""
    for path in (certificate, key):
        _check_readable(path)
    try:
        read_pem(certificate.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise CredentialsRefused(f"{certificate} is no certificate in PEM form: {error}") from None
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CredentialsRefused(f"the key {key} does not belong to the certificate {certificate}") from None
        raise CredentialsRefused(f"{key} is no usable key for {certificate}: {_words(error)}") from None
    except _Encrypted:
        raise CredentialsRefused(
            f"the key {key} is protected by a passphrase, and nobody is there to type it: give one without"
        ) from None


def load_authorities(context: ssl.SSLContext, path: Path) -> None:
    """Raises CredentialsRefused naming the file."""
    _check_readable(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise CredentialsRefused(f"{path} holds no certificates of authorities: {_words(error)}") from None


class _Encrypted(Exception):
    pass


def _refuse_passphrase() -> str:
    # Without this OpenSSL asks on the terminal, and the event loop waits with it.
    raise _Encrypted


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
    except OSError as error:
        raise CredentialsRefused(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    if size > FILE_BYTES_MAX:
        raise CredentialsRefused(f"{path} is larger than {FILE_BYTES_MAX} bytes")


def _fingerprint(files: CredentialFiles) -> _Print:
    found: list[tuple[int, int, int] | None] = []
    for path in files.paths():
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _words(error: ssl.SSLError) -> str:
    return error.reason.replace("_", " ").lower() if error.reason else str(error)
