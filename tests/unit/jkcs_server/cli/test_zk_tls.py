"""What kazoo is told of TLS."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from jkcs_server.cli.zk_tls import ZooKeeperTls


def test_without_a_file_nothing_is_said_of_tls() -> None:
    """A plain ZooKeeper would not understand a handshake."""
    assert ZooKeeperTls().for_kazoo() == {}


def test_any_file_turns_tls_on_and_names_are_always_compared() -> None:
    """kazoo itself leaves them alone, and would send the credentials to anybody whom the authority knows."""
    told = ZooKeeperTls(ca=Path("/ca.pem")).for_kazoo()
    assert told == {"use_ssl": True, "check_hostname": True, "ca": "/ca.pem", "certfile": None, "keyfile": None}
    assert ZooKeeperTls(certificate=Path("/c.pem"), key=Path("/k.pem")).for_kazoo()["keyfile"] == "/k.pem"


def test_a_key_may_be_in_the_file_of_its_certificate() -> None:
    """kazoo shows no certificate unless it is given both."""
    told = ZooKeeperTls(certificate=Path("/both.pem")).for_kazoo()
    assert (told["certfile"], told["keyfile"]) == ("/both.pem", "/both.pem")


def test_what_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    """kazoo would try it again and again, until the timeout."""
    ZooKeeperTls().check()
    with pytest.raises(click.BadParameter, match=r"cannot read .*nowhere"):
        ZooKeeperTls(ca=tmp_path / "nowhere").check()
