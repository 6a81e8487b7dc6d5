"""Certificates for tests: authorities by trustme, and of each everything that can be wrong with a certificate."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
SUBJECT = ((NameOID.ORGANIZATION_NAME, "Example"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "shop"))


class Authority:
    """Gives out certificates."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem: bytes = self._ca.cert_pem.bytes()
        self._certificate = x509.load_pem_x509_certificate(self.pem)
        self._key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pem)
        return path

    def issue(
        self,
        name: str = "node",
        *,
        dns: Sequence[str] = (),
        uris: Sequence[str] = (),
        ips: Sequence[str] = (),
        purposes: Sequence[x509.ObjectIdentifier] | None = (SERVER, CLIENT),
        subject: x509.Name | None = None,
        days: float = 30.0,
    ) -> tuple[bytes, bytes]:
        """A certificate and its key, both as PEM. With negative `days` it expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        if subject is None:
            named = (*SUBJECT, (NameOID.COMMON_NAME, name))
            subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in named])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=100))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._certificate.public_key()),  # type: ignore
                critical=False,
            )
        )
        names: list[x509.GeneralName] = [
            *map(x509.DNSName, dns),
            *map(x509.UniformResourceIdentifier, uris),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())  # type: ignore
        return certificate.public_bytes(serialization.Encoding.PEM), pem_of(key)


def pem_of(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


def save(directory: Path, name: str, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    """Write certificate and key; where they are."""
    paths = directory / f"{name}.pem", directory / f"{name}.key"
    for path, content in zip(paths, pair, strict=True):
        # As a renewal does it: a file appears whole.
        fresh = path.with_suffix(path.suffix + ".new")
        fresh.write_bytes(content)
        fresh.chmod(0o600)
        fresh.replace(path)
    return paths
