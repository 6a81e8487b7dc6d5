"""What JKCS reads in an X.509 certificate: whose it is, what it names, what it may be used for, how long it is good.

Knows nothing of trust: whoever calls has had the certificate verified by OpenSSL. It is read from its DER form,
because what `ssl` tells of it leaves out the purposes and the encoding of names. Called by `peers/tls.py`, by
`credentials.py` for the node's own certificate, and by the clients' port for its users' names.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator
from dataclasses import dataclass

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
ANY_PURPOSE = "2.5.29.37.0"
EXTENDED_KEY_USAGE = "2.5.29.37"
SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"

_SEQUENCE, _SET, _OID, _OCTETS, _UTC_TIME = 0x30, 0x31, 0x06, 0x04, 0x17
_VERSION, _EXTENSIONS, _DNS_NAME, _URI = 0xA0, 0xA3, 0x82, 0x86

_KEYWORDS = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
"""The attributes that RFC 2253 has keywords for; others are shown by number, and their value as hexadecimal."""
_ENCODINGS = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1B: "latin-1",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""Tag of a string -> how its characters are encoded."""
_ESCAPED = frozenset(',=+<>#;"\\')

_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What we want to know of a certificate."""

    subject: str
    """The distinguished name as ZooKeeper writes it (RFC 2253): the last part first, `CN=web,OU=shop,O=Example`."""
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    purposes: frozenset[str] | None
    """The extended key usage, as object identifiers; None when the certificate names none, hence allows all."""
    not_after: datetime.datetime
    """When it expires."""

    @property
    def expiry(self) -> str:
        """When it expires, in words."""
        return f"{self.not_after:%Y-%m-%d %H:%M:%S} UTC"

    def allows(self, purpose: str) -> bool:
        return self.purposes is None or purpose in self.purposes or ANY_PURPOSE in self.purposes


def read_certificate(der: bytes) -> Certificate:
    """Raises ValueError for what is no certificate."""
    parts = list(_children(_only(_only(der, _SEQUENCE)[0], _SEQUENCE, more=True)[0]))
    if parts and parts[0][0] == _VERSION:
        del parts[0]
    # Serial number, signature algorithm, issuer, validity, subject, key, and then what is optional.
    if len(parts) < 6:
        raise ValueError("a certificate ends early")
    times, subject = list(_children(parts[3][1])), parts[4][1]
    if len(times) != 2:
        raise ValueError("a certificate does not say how long it is valid")
    extensions = {} if parts[-1][0] != _EXTENSIONS else _extensions(parts[-1][1])
    names = _names(extensions.get(SUBJECT_ALTERNATIVE_NAME))
    return Certificate(
        _distinguished_name(subject),
        tuple(name for tag, name in names if tag == _DNS_NAME),
        tuple(name for tag, name in names if tag == _URI),
        _purposes(extensions.get(EXTENDED_KEY_USAGE)),
        _time(times[1]),
    )


def read_pem(text: str) -> Certificate:
    """The first certificate of a PEM file. Raises ValueError when there is none."""
    _, begin, rest = text.partition(_PEM_BEGIN)
    body, end, _ = rest.partition(_PEM_END)
    if not begin or not end:
        raise ValueError("there is no certificate in it")
    return read_certificate(base64.b64decode("".join(body.split()), validate=True))


# --- the encoding (X.690) -----------------------------------------------------------------------------------


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and end of the element at `at`."""
    if at + 2 > len(data):
        raise ValueError("an element of a certificate ends early")
    tag, length, start = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or start + size > len(data):
            raise ValueError("an element of a certificate has an impossible length")
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    end = start + length
    if end > len(data):
        raise ValueError("an element of a certificate is longer than what it is in")
    return tag, data[start:end], end


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, content, at = _element(data, at)
        yield tag, content


def _only(data: bytes, wanted: int, *, more: bool = False) -> tuple[bytes, int]:
    """The content and the end of the element of type `wanted` that `data` is, or with `more` begins with."""
    tag, content, end = _element(data, 0)
    if tag != wanted or (end != len(data) and not more):
        raise ValueError("this is no certificate")
    return content, end


def _oid(data: bytes) -> str:
    numbers, number = [], 0
    for byte in data:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if not numbers or data[-1] & 0x80:
        raise ValueError("an object identifier ends early")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


# --- its parts ----------------------------------------------------------------------------------------------


def _extensions(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for _, extension in _children(_only(data, _SEQUENCE)[0]):
        parts = list(_children(extension))  # identifier, perhaps whether it is critical, value
        if len(parts) < 2 or parts[0][0] != _OID or parts[-1][0] != _OCTETS:
            raise ValueError("malformed extension")
        found[_oid(parts[0][1])] = parts[-1][1]
    return found


def _names(extension: bytes | None) -> list[tuple[int, str]]:
    if extension is None:
        return []
    # What is not ASCII cannot be one of the names that are looked for; it must not look like one either.
    named = [(tag, content) for tag, content in _children(_only(extension, _SEQUENCE)[0]) if tag in (_DNS_NAME, _URI)]
    return [(tag, content.decode("ascii", "backslashreplace")) for tag, content in named]


def _purposes(extension: bytes | None) -> frozenset[str] | None:
    if extension is None:
        return None
    return frozenset(_oid(content) for tag, content in _children(_only(extension, _SEQUENCE)[0]) if tag == _OID)


def _time(element: tuple[int, bytes]) -> datetime.datetime:
    tag, content = element
    digits = content.decode("ascii", "replace").removesuffix("Z")
    if tag == _UTC_TIME:  # two digits for the year: 1950 to 2049
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    if len(digits) != 14 or not digits.isascii() or not digits.isdigit():
        raise ValueError("malformed time")
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    return datetime.datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=datetime.UTC)


def _distinguished_name(data: bytes) -> str:
    parts = []
    for tag, content in _children(data):
        if tag != _SET:
            raise ValueError("malformed name")
        parts.append("+".join(_attribute(attribute) for _, attribute in _children(content)))
    return ",".join(reversed(parts))


def _attribute(data: bytes) -> str:
    tag, kind, end = _element(data, 0)
    value_tag, value, value_end = _element(data, end)
    if tag != _OID or value_end != len(data):
        raise ValueError("malformed name")
    oid = _oid(kind)
    keyword, encoding = _KEYWORDS.get(oid), _ENCODINGS.get(value_tag)
    if keyword is None or encoding is None:
        return f"{keyword or oid}=#{data[end:].hex()}"
    return f"{keyword}={_escape(value.decode(encoding))}"


def _escape(text: str) -> str:
    """As Java's `X500Principal.getName()`, whose names stand in the permissions of a ZooKeeper."""
    inner = text.strip(" \r")
    lead = len(text) - len(text.lstrip(" \r"))
    shown = "".join("\\" + c if c in _ESCAPED else "\\00" if c == "\0" else c for c in inner)
    if not inner:
        return "".join("\\" + c for c in text)
    before, after = text[:lead], text[lead + len(inner) :]
    return "".join("\\" + c for c in before) + shown + "".join("\\" + c for c in after)
