"""How `jkcs zk` speaks TLS with ZooKeeper: three options, and what kazoo is told.

Its own options, because the two sides of a copy need not share an authority. Called by `zk.py` and `zk_zookeeper.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from jkcs_client.protocol.errors import BadArguments
from jkcs_client.tls import context_for

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ZooKeeperTls:
    """PEM files; TLS is spoken when there is one."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """Raise BadParameter for files that cannot be used: kazoo would try them until the timeout."""
        try:
            context_for(self.ca, self.certificate, self.key)
        except BadArguments as error:
            raise click.BadParameter(error.detail, param_hint="TLS to ZooKeeper") from None

    def for_kazoo(self) -> dict[str, Any]:
        """Arguments of a KazooClient."""
        if self == ZooKeeperTls():
            return {}
        key = self.key or self.certificate
        return {
            "use_ssl": True,
            # Without it anybody with a certificate of the authority could stand there and be sent the credentials.
            "check_hostname": True,
            "ca": None if self.ca is None else str(self.ca),
            "certfile": None if self.certificate is None else str(self.certificate),
            "keyfile": None if key is None else str(key),
        }


def with_zookeeper_tls(command: F) -> F:
    """The options `--zookeeper-ca`, `--zookeeper-certificate` and `--zookeeper-key`."""
    for name, text in (
        ("key", "Its key, if that is in another file."),
        ("certificate", "PEM file to show to ZooKeeper, if it asks for one."),
        ("ca", "PEM file of whom to believe besides the system's authorities; with any of these TLS is spoken."),
    ):
        file = click.Path(exists=True, dir_okay=False, path_type=Path)
        command = click.option(f"--zookeeper-{name}", type=file, help=text)(command)
    return command
