"""`--ca`, `--certificate` and `--key`: how every command that is a client of a cluster speaks TLS.

The options are taken here, not by the commands: what a command connects with is `given()`, wherever it stands.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import click

from jkcs_client.address import TLS_SCHEME
from jkcs_client.protocol.errors import BadArguments
from jkcs_client.tls import context_for

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "jkcs.tls"


def with_tls(command: F) -> F:
    """The options of a command that connects to a cluster. With any of them, or a jkcss:// URL, it speaks TLS."""
    for name, text in (
        ("key", "Its key, if that is in another file."),
        ("certificate", "PEM file to show to servers that ask for one."),
        ("ca", "PEM file of whom to believe; with it TLS is spoken, as with jkcss:// URLs."),
    ):
        option = click.option(
            f"--{name}",
            envvar=f"JKCS_{name.upper()}",
            metavar="FILE",
            help=text,
            expose_value=False,
            callback=_remember,
        )
        command = option(command)
    return command


def _variable(name: str) -> str:
    return f"JKCS_{name.upper()}"


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    assert parameter.name is not None
    if value:
        ctx.meta.setdefault(_KEY, {})[parameter.name] = value


def given() -> dict[str, Any]:
    """What the running command was given, as arguments of `jkcs_client.connect`."""
    context = click.get_current_context(silent=True)
    return {} if context is None else dict(context.meta.get(_KEY, {}))


def context_to(url: str) -> ssl.SSLContext | None:
    """What the running command connects to `url` with, for what does not use `connect`; None without TLS.

    Raises BadParameter for files that cannot be used.
    """
    files = given()
    if not files and not url.startswith(TLS_SCHEME):
        return None
    try:
        return context_for(**files)
    except BadArguments as error:
        raise click.BadParameter(error.detail, param_hint="TLS") from None
