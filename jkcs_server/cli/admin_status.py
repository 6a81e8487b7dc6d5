"""`jkcs admin status`: everything one server, or each server of the URL, tells of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from jkcs_client.address import parse
from jkcs_client.protocol.errors import BadArguments
from jkcs_server.cli.admin_client import run, with_options
from jkcs_server.cli.render import show_json
from jkcs_server.config import show_address


@click.command()
@with_options
def status(url: str, timeout: float, as_json: bool) -> None:
    """Show all that each server named in --url tells for monitoring: log, disk, election, followers, queues, memory."""
    try:
        addresses = [show_address((host, port)) for host, port in parse(url).addresses]
    except BadArguments as error:
        raise click.BadParameter(error.detail, param_hint="--url") from None
    found = [
        run(f"jkcs://{address}", timeout, as_json, lambda client: client.admin.server_status(timeout=timeout))
        for address in addresses
    ]
    if as_json:
        show_json(found if len(found) > 1 else found[0])
        return
    for number, each in enumerate(found):
        if number:
            click.echo()
        for line in lines(each):
            click.echo(line)


def lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Names and values, maps and lists of maps below their name."""
    width = max((len(name) for name, value in values.items() if not _is_nested(value)), default=0)
    for name, value in values.items():
        if not _is_nested(value):
            yield f"{indent}{name:<{width}}  {_text(value)}"
            continue
        yield f"{indent}{name}"
        for each in value if isinstance(value, list) else [value]:
            yield from lines(each, indent + "  ")


def _is_nested(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
