"""Reading certificates: the names that decide who somebody is, from certificates that a library made."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from journal.x509 import CLIENT_AUTH, SERVER_AUTH, read_certificate, read_pem
from tests.support.certificates import CLIENT, SERVER, Authority

AUTHORITY = Authority()


def der_of(pair: tuple[bytes, bytes]) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair[0].decode())


def name_of(*attributes: tuple[x509.ObjectIdentifier, str]) -> str:
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    return read_certificate(der_of(AUTHORITY.issue(subject=subject))).subject


def test_subject_is_written_as_zookeeper_writes_it() -> None:
    """It stands in permissions of a tree that came from a ZooKeeper: the last part first, no blanks."""
    name = name_of(
        (NameOID.COUNTRY_NAME, "CH"),
        (NameOID.ORGANIZATION_NAME, "Example"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "shop"),
        (NameOID.COMMON_NAME, "web"),
    )
    assert name == "CN=web,OU=shop,O=Example,C=CH"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a,b", "a\\,b"),
        ('q"uote', 'q\\"uote'),
        ("a+b=c", "a\\+b\\=c"),
        ("#first", "\\#first"),
        (" edges ", "\\ edges\\ "),
        ("Zürich", "Zürich"),
        ("back\\slash", "back\\\\slash"),
        ("web,OU=admin", "web\\,OU\\=admin"),
    ],
)
def test_what_has_a_meaning_in_a_name_is_escaped(value: str, shown: str) -> None:
    """Otherwise somebody who may choose his common name would choose somebody else's whole name."""
    assert name_of((NameOID.COMMON_NAME, value)) == f"CN={shown}"


def test_attributes_without_a_keyword_are_shown_by_number_and_bytes() -> None:
    """As Java does it: the name of a mail address has no keyword in RFC 2253."""
    assert name_of((NameOID.EMAIL_ADDRESS, "a@b")) == "1.2.840.113549.1.9.1=#1603614062"


def test_parts_of_one_level_are_joined() -> None:
    """A relative name may have two attributes."""
    subject = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COMMON_NAME, "web"), x509.NameAttribute(NameOID.USER_ID, "u1")]
            )
        ]
    )
    found = read_certificate(der_of(AUTHORITY.issue(subject=subject))).subject
    assert set(found.split("+")) == {"CN=web", "UID=u1"}


def test_names_and_purposes_are_found() -> None:
    """They decide who may speak as a peer."""
    pair = AUTHORITY.issue(dns=["n1", "*.example"], uris=["jkcs://blue/n1"], ips=["127.0.0.1"], purposes=[CLIENT])
    found = read_certificate(der_of(pair))
    assert (found.dns_names, found.uris) == (("n1", "*.example"), ("jkcs://blue/n1",))
    assert found.allows(CLIENT_AUTH) and not found.allows(SERVER_AUTH)


def test_a_certificate_without_purposes_allows_all() -> None:
    """So the standard says."""
    found = read_certificate(der_of(AUTHORITY.issue(purposes=None)))
    assert found.purposes is None and found.allows(SERVER_AUTH) and found.dns_names == ()


def test_expiry_is_told_in_words() -> None:
    """It stands in the log when the certificate is loaded."""
    pair = AUTHORITY.issue()
    expected = x509.load_pem_x509_certificate(pair[0]).not_valid_after_utc
    found = read_pem(pair[0].decode())
    assert found.not_after == expected and found.expiry == f"{expected:%Y-%m-%d %H:%M:%S} UTC"


def test_what_is_no_pem_is_refused() -> None:
    for text in ("", "-----BEGIN CERTIFICATE-----", AUTHORITY.issue()[1].decode()):
        with pytest.raises(ValueError):
            read_pem(text)


def test_every_truncation_is_refused() -> None:
    """Lengths inside are not believed."""
    der = der_of(AUTHORITY.issue(dns=["n1"], purposes=[SERVER]))
    for size in range(len(der)):
        with pytest.raises(ValueError):
            read_certificate(der[:size])


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(junk: bytes, at: int, byte: int) -> None:
    """Nothing but ValueError comes out, whatever goes in."""
    der = bytearray(DER)
    der[at % len(der)] = byte
    for data in (junk, bytes(der), bytes(der[:at]) + junk):
        try:
            read_certificate(data)
        except ValueError:
            pass


DER = der_of(AUTHORITY.issue(dns=["n1"], uris=["jkcs://blue/n1"], purposes=[SERVER]))
assert SERVER.dotted_string == SERVER_AUTH and CLIENT.dotted_string == CLIENT_AUTH
