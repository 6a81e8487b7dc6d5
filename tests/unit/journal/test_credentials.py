"""Certificates in files: taken, refused with a reason, and taken again when they change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from journal.credentials import LOOK_SECONDS, CredentialFiles, Credentials, context_of
from journal.errors import CredentialsRefused
from tests.support.certificates import Authority, pem_of, save

AUTHORITY = Authority()


def build(files: CredentialFiles) -> ssl.SSLContext:
    return context_of(files, ssl.PROTOCOL_TLS_SERVER, verify=ssl.CERT_NONE, oldest=ssl.TLSVersion.TLSv1_2)


@pytest.fixture
def files(tmp_path: Path) -> CredentialFiles:
    return CredentialFiles(*save(tmp_path, "node", AUTHORITY.issue("first")), AUTHORITY.write(tmp_path / "ca.pem"))


def test_a_changed_file_is_taken_within_a_second(files: CredentialFiles, tmp_path: Path) -> None:
    """Certificates are renewed every few weeks, by programs that know nothing of us."""
    credentials = Credentials(files, build)
    first = credentials.at(10.0)
    save(tmp_path, "node", AUTHORITY.issue("second"))
    assert credentials.at(10.0 + LOOK_SECONDS / 2) is first
    second = credentials.at(10.0 + LOOK_SECONDS)
    assert second is not first
    assert credentials.at(10.0 + 9 * LOOK_SECONDS) is second


def test_changed_authorities_are_taken_too(files: CredentialFiles, tmp_path: Path) -> None:
    """Whoever is not believed any more must not come in until the next restart."""
    credentials = Credentials(files, build)
    first = credentials.at(0.0)
    assert credentials.at(5.0) is first
    Authority().write(tmp_path / "ca.pem")
    assert credentials.at(10.0) is not first


@pytest.mark.parametrize("what", ["garbage", "missing", "other key", "empty authorities"])
def test_broken_files_are_told_once_and_the_old_ones_stay(
    files: CredentialFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """A renewal may be half done, or have failed: that must not end the service, nor fill the log."""
    credentials = Credentials(files, build)
    first = credentials.at(0.0)
    if what == "garbage":
        files.certificate.write_text("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")
    elif what == "missing":
        files.key.unlink()
    elif what == "other key":
        save(tmp_path, "other", AUTHORITY.issue())[1].replace(files.key)
    else:
        (tmp_path / "ca.pem").write_text("nothing")
    for now in (10.0, 20.0, 30.0):
        assert credentials.at(now) is first
    complaints = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(complaints) == 1 and "kept as they were" in complaints[0].message
    save(tmp_path, "node", AUTHORITY.issue())
    AUTHORITY.write(tmp_path / "ca.pem")
    assert credentials.at(40.0) is not first


def test_reload_does_not_wait_for_a_change(files: CredentialFiles) -> None:
    """The signal means: now."""
    credentials = Credentials(files, build)
    first = credentials.at(0.0)
    credentials.reload()
    assert credentials.at(0.0) is not first


def test_each_refusal_names_the_file_and_the_reason(tmp_path: Path) -> None:
    """An operator mends a file, not an error number of OpenSSL."""
    certificate, key = save(tmp_path, "node", AUTHORITY.issue())
    _, other = save(tmp_path, "other", AUTHORITY.issue())
    locked = tmp_path / "locked.key"
    locked.write_bytes(pem_of(ec.generate_private_key(ec.SECP256R1()), b"tell-nobody-7"))
    junk, huge = tmp_path / "junk", tmp_path / "huge"
    junk.write_text("junk")
    with huge.open("wb") as opened:
        opened.truncate(64 << 20)
    for names, why in (
        ((certificate, tmp_path / "gone"), "cannot read .*gone: no such file"),
        ((tmp_path, key), "cannot read .*: is a directory"),
        ((junk, key), "junk is no certificate in PEM form"),
        ((certificate, junk), "junk is no usable key"),
        ((certificate, other), "other.key does not belong to the certificate .*node.pem"),
        ((certificate, locked), "locked.key is protected by a passphrase"),
        ((certificate, huge), "huge is larger than"),
        ((certificate, key, junk), "junk holds no certificates of authorities"),
    ):
        with pytest.raises(CredentialsRefused, match=why):
            Credentials(CredentialFiles(*names), build)


def test_nothing_of_a_key_is_logged(files: CredentialFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Logs are read by more people than keys are."""
    caplog.set_level(logging.DEBUG)
    secret = files.key.read_text().splitlines()[1]
    credentials = Credentials(files, build)
    files.key.chmod(0o644)
    credentials.reload()
    files.key.write_text(files.key.read_text().replace(secret[8:16], "!!!!!!!!"))
    credentials.reload()
    assert "chmod 600" in caplog.text and "kept as they were" in caplog.text
    assert not any(secret[at : at + 12] in caplog.text for at in range(len(secret) - 12))
    assert "CN=first" in caplog.text and "valid until" in caplog.text
