"""The commands of the page on TLS are run, and what they make is taken by the code that it is for."""

from __future__ import annotations

import shlex
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from jkcs_client.tls import context_for
from jkcs_server.serving.tls import ClientTls
from journal.errors import PeerRefused
from journal.peers.tls import PeerTls, check_names
from journal.values import NodeId
from journal.x509 import read_pem
from tests.docs.pages import ROOT, Page

PATH = ROOT / "docs" / "how-to" / "use-tls.md"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
def test_certificates_made_as_the_page_says_are_right(tmp_path: Path) -> None:
    """Each of these commands is copied by somebody, who will not know what is wrong with its result."""
    for command in Page(PATH, PATH.read_text(encoding="utf-8")).commands:
        if command.startswith("openssl "):
            subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    ca, node, web = (tmp_path / name for name in ("ca.pem", "n1.pem", "web.pem"))
    PeerTls(node, tmp_path / "n1.key", ca)
    ClientTls(node, tmp_path / "n1.key", client_ca=ca, client_auth="need")
    context_for(ca, web, tmp_path / "web.key")
    check_names(der_of(node), "production", NodeId("n1"))
    for certificate, name in ((node, "n2"), (web, "n1")):
        with pytest.raises(PeerRefused):
            check_names(der_of(certificate), "production", NodeId(name))
    assert read_pem(web.read_text()).subject == "CN=web,OU=shop,O=Example"
    names = read_pem(node.read_text())
    assert names.dns_names == ("n1.example.com",) and names.uris == ("jkcs://production/n1",)


def der_of(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text()[path.read_text().index("-----BEGIN") :])
