"""`jkcs admin` about members: configuration, members, voters, role, prefer, transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from jkcs_client import Client
from jkcs_server.cli.admin_client import NotDone, progress_text, run, wait_until, with_options, with_waiting
from jkcs_server.cli.render import show_json, show_table
from jkcs_server.config import ConfigError, parse_address, show_address

STABLE = "stable"
MEMBER_COLUMNS = ("node", "role", "address", "match", "lag", "note")
TRANSFER_SECONDS = 10.0


@click.command()
@with_options
def configuration(url: str, timeout: float, as_json: bool) -> None:
    """Show who votes, who observes, who is preferred, and how far a change is, as the leader knows it."""
    found = run(url, timeout, as_json, lambda client: client.admin.configuration(timeout=timeout))
    if as_json:
        show_json(found)
        return
    for name in (
        "leader",
        "term",
        "preferred",
        "index",
        "phase",
        "voters",
        "outgoing",
        "target",
        "learners",
        "observers",
    ):
        value = found[name]
        text = ", ".join(value) or "-" if isinstance(value, list) else "-" if value is None else str(value)
        click.echo(f"{name:<10} {text}")
    if found["phase"] != STABLE:
        click.echo(f"{'progress':<10} {progress_text(found)}")


@click.command()
@with_options
def members(url: str, timeout: float, as_json: bool) -> None:
    """Show every member: its role, its address, how far the leader knows it to be."""
    found = run(url, timeout, as_json, lambda client: client.admin.configuration(timeout=timeout))
    if as_json:
        show_json(found["members"])
    else:
        show_table(MEMBER_COLUMNS, [_member_row(each, found) for each in found["members"]], right=("match", "lag"))


def _member_row(member: dict[str, Any], found: dict[str, Any]) -> list[str]:
    match = member["match_index"]
    known = match is not None
    notes = [
        text
        for text, holds in (
            ("leader", member["node"] == found["leader"]),
            ("preferred", member["node"] == found["preferred"]),
        )
        if holds
    ]
    lag = str(max(0, found["last_index"] - match)) if known else ""
    return [member["node"], member["role"], member["address"] or "", str(match) if known else "", lag, ", ".join(notes)]


@click.group()
def voters() -> None:
    """List, set, add or remove voters; any change is one step, by joint consensus."""


@voters.command("list")
@with_options
def list_voters(url: str, timeout: float, as_json: bool) -> None:
    """Print the names of the voters, one per line."""
    found = run(url, timeout, as_json, lambda client: client.admin.configuration(timeout=timeout))
    if as_json:
        show_json(found["voters"])
    else:
        for name in found["voters"]:
            click.echo(name)


@voters.command("set")
@click.argument("nodes", nargs=-1, required=True, metavar="NAME[=HOST:PORT]...")
@click.option("--from", "old", metavar="NAME,...", help="Who votes now; refused if that is not so.  [whoever does]")
@with_waiting
@with_options
def set_voters(nodes: Sequence[str], old: str | None, **options: Any) -> None:
    """Make exactly these nodes the voters. A node that is new needs its peers' address."""
    expected = None if old is None else [name for name in old.split(",") if name]
    _change_voters(lambda present: _parse_nodes(nodes), expected, **options)


@voters.command("add")
@click.argument("nodes", nargs=-1, required=True, metavar="NAME=HOST:PORT...")
@with_waiting
@with_options
def add_voters(nodes: Sequence[str], **options: Any) -> None:
    """Let more nodes vote, once they have caught up. They must be running, started with --join."""
    added = _parse_nodes(nodes)
    _change_voters(lambda present: {**dict.fromkeys(present, ""), **added}, None, **options)


@voters.command("remove")
@click.argument("nodes", nargs=-1, required=True, metavar="NAME...")
@with_waiting
@with_options
def remove_voters(nodes: Sequence[str], **options: Any) -> None:
    """Take nodes out of the cluster. They stop by themselves and say why."""

    def left(present: Sequence[str]) -> dict[str, str]:
        strangers = sorted(set(nodes) - set(present))
        if strangers:
            raise NotDone(f"{strangers[0]} is not a voter: those are {', '.join(present)}")
        return dict.fromkeys((name for name in present if name not in nodes), "")

    _change_voters(left, None, **options)


def _parse_nodes(nodes: Sequence[str]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for item in nodes:
        name, equals, address = item.partition("=")
        try:
            parsed[name] = show_address(parse_address("NAME=HOST:PORT", address)) if equals else ""
        except ConfigError as error:
            raise click.UsageError(f"{item}: {error.why}") from None
    return parsed


def _change_voters(
    choose: Any, expected: list[str] | None, *, url: str, timeout: float, as_json: bool, wait: bool, patience: float
) -> None:
    async def work(client: Client) -> dict[str, Any]:
        present = (await client.admin.configuration())["voters"]
        new = choose(present)
        index = await client.admin.update_voters(expected if expected is not None else present, new)
        if not wait:
            return {"done": False, "index": index, "voters": sorted(new)}
        await _wait_for_change(client, sorted(new), None, patience=patience, quiet=as_json)
        return {"done": True, "index": index, "voters": sorted(new)}

    _tell_change(run(url, timeout, as_json, work), as_json=as_json)


def _tell_change(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(result)
    elif result["done"]:
        click.echo("done: " + ", ".join(f"{name} {_text(value)}" for name, value in result.items() if name != "done"))
    else:
        click.echo(f"begun at index {result['index']}; `jkcs admin configuration` tells how far it is")


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "nobody" if value is None else str(value)


async def _wait_for_change(
    client: Client, voters: list[str] | None, observer: str | None, *, patience: float, quiet: bool
) -> None:
    """Wait until no change is under way. Raises NotDone when the cluster then is not what was asked for."""
    found: dict[str, Any] = {}

    async def look() -> tuple[bool, str]:
        found.update(await client.admin.configuration())
        return found["phase"] == STABLE, progress_text(found)

    await wait_until(look, patience=patience, quiet=quiet)
    if voters is not None and found["voters"] != voters:
        raise NotDone(f"the change was given up: the voters are {', '.join(found['voters'])}")
    if observer is not None and observer not in found["observers"]:
        raise NotDone(f"the change was given up: {observer} is not an observer")


@click.command()
@click.argument("node")
@click.argument("role", type=click.Choice(("voter", "observer", "none")))
@click.option("--address", default="", metavar="HOST:PORT", help="Where it listens for peers, if it is new.")
@with_waiting
@with_options
def role(
    node: str, role: str, address: str, url: str, timeout: float, as_json: bool, wait: bool, patience: float
) -> None:
    """Make NODE a voter or an observer, or take it out of the cluster (none)."""

    async def work(client: Client) -> dict[str, Any]:
        index = await client.admin.convert_role(node, role, address)
        if wait:
            observer = node if role == "observer" else None
            await _wait_for_change(client, None, observer, patience=patience, quiet=as_json)
        return {"done": wait, "index": index, "node": node, "role": role}

    _tell_change(run(url, timeout, as_json, work), as_json=as_json)


@click.command()
@click.argument("node", required=False)
@click.option("--nobody", is_flag=True, help="Whoever is elected may lead.")
@with_options
def prefer(node: str | None, nobody: bool, url: str, timeout: float, as_json: bool) -> None:
    """Let NODE, a voter, lead whenever it can: leadership returns to it once it has caught up."""
    if nobody == (node is not None):
        raise click.UsageError("name one node, or --nobody")

    async def work(client: Client) -> dict[str, Any]:
        index = await client.admin.set_preferred_leader(node)
        # One entry, soon committed; the next change would be refused before.
        await _wait_for_change(client, None, None, patience=timeout, quiet=True)
        return {"done": True, "index": index, "preferred": node}

    _tell_change(run(url, timeout, as_json, work), as_json=as_json)


@click.command()
@click.argument("node", required=False)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until another node leads.")
@with_options
def transfer(node: str | None, wait: bool, url: str, timeout: float, as_json: bool) -> None:
    """Hand leadership over to NODE, or to the voter that is furthest."""

    async def work(client: Client) -> dict[str, Any]:
        old = await client.admin.transfer_leadership(node)
        leader: str | None = None

        async def look() -> tuple[bool, str]:
            nonlocal leader
            leader = (await client.admin.configuration())["leader"]
            return leader != old if node is None else leader == node, f"leader {leader}"

        if wait and node != old:
            await wait_until(look, patience=TRANSFER_SECONDS, quiet=as_json)
        return {"done": wait, "from": old, "leader": leader if leader is not None else node}

    result = run(url, timeout, as_json, work)
    if as_json:
        show_json(result)
    elif result["done"]:
        click.echo(f"{result['leader']} leads; before it, {result['from']} did")
    else:
        click.echo(f"{result['from']} was asked to hand over")
