"""`jkcs zk`: a live ZooKeeper's tree copied into a cluster, a cluster's into a ZooKeeper, and how they differ.

Reads options, shows progress and results; the copy is in `zk_copy.py`, the two sides in modules of their own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from jkcs_client import JkcsError, NotConnected, connect
from jkcs_client.address import parse
from jkcs_client.protocol.errors import BadArguments
from jkcs_server.cli.credentials import Credentials, read_credentials
from jkcs_server.cli.exits import FAILED, INTERRUPTED, UNREACHABLE, USAGE
from jkcs_server.cli.render import duration_text, show_json
from jkcs_server.cli.status import DEFAULT_URL
from jkcs_server.cli.tls import context_to, given, with_tls
from jkcs_server.cli.zk_cluster import ClusterSide
from jkcs_server.cli.zk_copy import TOLD_MAX, Copy, Left, NotCopied, Report, Side, Unreachable
from jkcs_server.cli.zk_progress import shown
from jkcs_server.cli.zk_tls import ZooKeeperTls, with_zookeeper_tls
from jkcs_server.copying import Difference, Kind, Wishes, is_system

if TYPE_CHECKING:
    from jkcs_server.cli.zk_zookeeper import ZooKeeperSide

SESSION_SECONDS = 30.0

_MARKS: Mapping[Kind, str] = {
    Kind.MISSING: "+ {}",
    Kind.DATA: "~ {} (value)",
    Kind.ACL: "~ {} (ACL)",
    Kind.SEQUENCE: "~ {} (sequence)",
    Kind.EXTRA: "- {}",
    Kind.LIFETIME: "! {} (container or TTL: stays as it is)",
    Kind.IN_THE_WAY: "! {} (ephemeral on the target: stays as it is)",
    Kind.LIVE: "  {} (ephemeral: goes with its session)",
}
_DONE: Mapping[Kind, tuple[str, str]] = {
    Kind.MISSING: ("to create", "created"),
    Kind.DATA: ("to change", "changed"),
    Kind.ACL: ("ACLs to change", "ACLs changed"),
    Kind.SEQUENCE: ("sequences to raise", "sequences raised"),
    Kind.EXTRA: ("to delete", "deleted"),
    Kind.LIFETIME: ("with another lifetime, which stays", "with another lifetime, which stays"),
    Kind.IN_THE_WAY: ("not copied: an ephemeral key is there", "not copied: an ephemeral key is there"),
    Kind.LIVE: ("ephemeral, which stay", "ephemeral, which stay"),
}
"""How differences are counted, before and after."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the caller asks for."""

    command: str
    hosts: str
    url: str
    root: str
    into: str
    wishes: Wishes
    acls: bool
    dry_run: bool
    as_json: bool
    timeout: float
    theirs: Credentials
    ours: Credentials
    tls: ZooKeeperTls
    """To ZooKeeper."""

    @property
    def only_looks(self) -> bool:
        return self.dry_run or self.command == "diff"


@click.group()
def zk() -> None:
    """Come from ZooKeeper, or go back: copy the tree of a live one, and compare.

    HOSTS are ZooKeeper's servers, HOST:PORT,HOST:PORT, perhaps followed by a chroot. Needs kazoo: pip install
    'jkcs[zookeeper]'. What a copy has done it does not do again: run it as often as you like.

    \b
    Examples:
      jkcs zk import --dry-run zk1:2181,zk2:2181,zk3:2181
      jkcs zk import --delete zk1:2181,zk2:2181,zk3:2181
      jkcs zk diff zk1:2181

    Exit codes: 0 done, 1 something is left that differs, 2 wrong usage or no kazoo, 3 not reachable.
    """


def _with_options(root: str, into: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that all three have; `root` and `into` say on which side each path is."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
            click.option(
                "--timeout", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Per request."
            ),
            click.option(
                "--zookeeper-auth",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="A file with ZooKeeper's credentials, a line digest:USER:PASSWORD each; or in ZOOKEEPER_AUTH.",
            ),
            click.option(
                "--auth",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="The same for the cluster; or in JKCS_AUTH.",
            ),
            click.option("--acls/--no-acls", default=True, show_default=True, help="Copy and compare ACLs."),
            click.option("--into", metavar="PATH", help=f"{into}: the copy's own root, if not --root."),
            click.option("--root", metavar="PATH", default="/", show_default=True, help=f"{root}: this key and below."),
            click.option("--url", envvar="JKCS_URL", default=DEFAULT_URL, show_default=True, help="The cluster."),
            with_zookeeper_tls,
            with_tls,
            click.argument("hosts"),
        ):
            command = option(command)
        return command

    return add


def _with_copying(*, sequences: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of what changes its target."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option(
                "--sequences/--no-sequences",
                default=sequences,
                show_default=True,
                help="Let the numbers of sequential keys go on; in ZooKeeper by creating and deleting keys.",
            ),
            click.option("--delete", is_flag=True, help="Delete what the source lacks."),
            click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing."),
        ):
            command = option(command)
        return command

    return add


@zk.command("import")
@_with_copying(sequences=True)
@_with_options("ZooKeeper's", "The cluster's")
def import_(**options: Any) -> None:
    """Copy a live ZooKeeper's tree into a cluster.

    Values, ACLs, containers, TTLs and the numbers of sequential keys; not ephemeral keys, which are their sessions'
    to create, and not /zookeeper. Then everything is looked at again.

    Exit codes: 0 the cluster has it all, 1 something is left that differs, 2 wrong usage, 3 not reachable.
    """
    _run("import", **options)


@zk.command()
@_with_copying(sequences=False)
@_with_options("The cluster's", "ZooKeeper's")
def export(**options: Any) -> None:
    """Copy a cluster's tree into a live ZooKeeper: the way back.

    As `jkcs zk import`, in the other direction.

    Exit codes: 0 ZooKeeper has it all, 1 something is left that differs, 2 wrong usage, 3 not reachable.
    """
    _run("export", **options)


@zk.command()
@_with_options("ZooKeeper's", "The cluster's")
def diff(**options: Any) -> None:
    """Show what an import would do: + create, ~ change, - delete.

    Exit codes: 0 nothing differs, 1 something does, 2 wrong usage, 3 not reachable.
    """
    _run("diff", dry_run=False, delete=True, sequences=True, **options)


def _run(
    command: str,
    *,
    hosts: str,
    root: str,
    into: str | None,
    delete: bool,
    sequences: bool,
    zookeeper_auth: Path | None,
    auth: Path | None,
    url: str,
    zookeeper_ca: Path | None,
    zookeeper_certificate: Path | None,
    zookeeper_key: Path | None,
    **rest: Any,
) -> None:
    try:
        parse(url)
    except BadArguments as error:
        raise click.BadParameter(error.detail, param_hint="--url") from None
    context_to(url)  # Says what is wrong with its files.
    tls = ZooKeeperTls(zookeeper_ca, zookeeper_certificate, zookeeper_key)
    tls.check()
    wishes = Wishes(delete=delete, sequences=sequences)
    root, into = _path(root, "--root"), _path(into or root, "--into")
    theirs = read_credentials(zookeeper_auth, "--zookeeper-auth", "ZOOKEEPER_AUTH")
    ours = read_credentials(auth, "--auth", "JKCS_AUTH")
    order = Order(command, hosts, url, root, into, wishes, theirs=theirs, ours=ours, tls=tls, **rest)
    try:
        sys.exit(asyncio.run(_live(order)))
    except (NotConnected, Unreachable) as error:
        _fail(order, error, UNREACHABLE)
    except (JkcsError, NotCopied) as error:
        _fail(order, error, FAILED)
    except KeyboardInterrupt:
        click.echo("interrupted: run it again to go on", err=True)
        sys.exit(INTERRUPTED)


def _path(path: str, option: str) -> str:
    if path != "/" and (not path.startswith("/") or path.endswith("/") or "//" in path):
        raise click.BadParameter(f"{path!r} is no path: it begins with / and does not end with one", param_hint=option)
    if is_system(path):
        raise click.BadParameter(f"{path} belongs to the cluster it describes", param_hint=option)
    return path


def _zookeeper(order: Order) -> ZooKeeperSide:
    try:
        from jkcs_server.cli.zk_zookeeper import ZooKeeperSide
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "kazoo":
            raise
        click.echo("jkcs zk: kazoo is not installed; pip install 'jkcs[zookeeper]' brings it", err=True)
        sys.exit(USAGE)
    return ZooKeeperSide(order.hosts, order.theirs, acls=order.acls, timeout=order.timeout, tls=order.tls)


async def _live(order: Order) -> int:
    """Do it; the exit code."""
    options: dict[str, Any] = {"session_timeout": SESSION_SECONDS, "request_timeout": order.timeout, "auth": order.ours}
    zookeeper = _zookeeper(order)
    async with connect(order.url, **options, **given()) as client, zookeeper as theirs:
        ours = ClusterSide(client, order.url, acls=order.acls)
        source, target = (ours, theirs) if order.command == "export" else (theirs, ours)
        if order.only_looks:
            return await _look(order, source, target)
        return await _copy(order, source, target)


async def _look(order: Order, source: Side, target: Side) -> int:
    listed: list[Difference] = []

    def tell(difference: Difference) -> None:
        if not order.as_json:
            click.echo(_MARKS[difference.kind].format(difference.path))
        elif len(listed) < TOLD_MAX:
            listed.append(difference)

    with shown("comparing", quiet=order.as_json) as on_progress:
        report = await _between(order, source, target, on_progress).difference(tell)
    differs = any(count for kind, count in report.counts.items() if kind is not Kind.LIVE)
    if order.as_json:
        show_json({"done": True, **_ends(order, source, target), **report.as_document(), **_listed(listed)})
    else:
        for line in _lines(report, after=False):
            click.echo(line, err=True)
    return FAILED if differs and order.command == "diff" else 0


async def _copy(order: Order, source: Side, target: Side) -> int:
    since = await source.position()
    with shown("copying", quiet=order.as_json) as on_progress:
        report = await _between(order, source, target, on_progress).run()
    with shown("verifying", quiet=order.as_json) as on_progress:
        left = await _between(order, source, target, on_progress).verify(report, since)
    good = not (left.count or report.failed or report.counts.get(Kind.IN_THE_WAY) or report.counts.get(Kind.LIFETIME))
    if order.as_json:
        show_json(
            {
                "done": good,
                **_ends(order, source, target),
                **report.as_document(),
                "left": left.count,
                "left_changed_meanwhile": left.meanwhile,
                **_listed(left.differences),
            }
        )
    else:
        for line in (*_lines(report, after=True), *_left_lines(left, source)):
            click.echo(line)
    return 0 if good else FAILED


def _between(order: Order, source: Side, target: Side, on_progress: Callable[[int, int, int], None]) -> Copy:
    return Copy(source, target, order.root, order.into, order.wishes, on_progress)


# What is told in the end.


def _ends(order: Order, source: Side, target: Side) -> dict[str, Any]:
    return {
        "dry_run": order.only_looks,
        "source": source.name,
        "target": target.name,
        "root": order.root,
        "into": order.into,
    }


def _listed(differences: Sequence[Difference]) -> dict[str, Any]:
    return {"differences": [{"path": each.path, "what": each.kind.value} for each in differences]}


def _lines(report: Report, *, after: bool) -> list[str]:
    rate = report.visited / report.seconds if report.seconds else 0.0
    megabytes = report.data_bytes / 1e6
    lines = [
        f"{report.visited} keys, {megabytes:.1f} MB of values, in {duration_text(report.seconds)}: {rate:.0f} keys/s"
    ]
    told = [f"{count} {_DONE[kind][after]}" for kind, count in report.counts.items() if count]
    lines.append(", ".join(told) if told else "nothing differs")
    if report.ephemerals:
        lines.append(f"{report.ephemerals} ephemeral keys left out: their owners create them anew")
    lines += [f"failed: {path}: {why}" for path, why in report.failures]
    if report.failed > len(report.failures):
        lines.append(f"... and {report.failed - len(report.failures)} more failures")
    return lines


def _left_lines(left: Left, source: Side) -> list[str]:
    if not left.count:
        return ["verified: nothing else differs"]
    lines = [f"{left.count} differences are left, {left.meanwhile} of them because {source.name} changed meanwhile"]
    return lines + [_MARKS[each.kind].format(each.path) for each in left.differences[:20]]


def _fail(order: Order, error: Exception, code: int) -> NoReturn:
    if order.as_json:
        show_json({"done": False, "error": str(error)})
    else:
        click.echo(f"jkcs zk {order.command}: {error}", err=True)
    sys.exit(code)
