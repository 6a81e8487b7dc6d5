"""`jkcs bench`: which cluster, which cells, for how long; and the table at the end."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from jkcs_client.address import parse
from jkcs_client.protocol.errors import BadArguments
from jkcs_server.bench import report
from jkcs_server.bench.cells import CELLS, Pace, choose
from jkcs_server.bench.clusters import JKCS, OwnJkcs, RunningJkcs
from jkcs_server.bench.line import Wire
from jkcs_server.bench.sitting import Plan, Result, Sitting, Starter
from jkcs_server.bench.subject import SubjectFailed
from jkcs_server.bench.zookeeper import ZooKeeper
from jkcs_server.cli.exits import FAILED, UNREACHABLE
from jkcs_server.cli.render import show_json, show_table

ZOOKEEPER_WARMUP_SECONDS = 30.0
"""A JVM that was just started needs three times the processor per operation."""


@click.command()
@click.option("--connect", metavar="URL", help="Load this running cluster instead of starting one: name all members.")
@click.option(
    "--protocol",
    type=click.Choice([wire.value for wire in Wire]),
    default=Wire.NATIVE.value,
    show_default=True,
    help="What is spoken with JKCS: its own protocol, or ZooKeeper's.",
)
@click.option("--cells", metavar="NAMES", help="Only these, by name or pattern, with commas: set-*,restart.")
@click.option("--seconds", type=click.FloatRange(0.2, 30), default=4.0, show_default=True, help="Measured per cell.")
@click.option("--warmup", type=click.FloatRange(0, 30), default=1.0, show_default=True, help="Loaded before that.")
@click.option("--rounds", type=click.IntRange(1, 99), default=3, show_default=True, help="The medians are reported.")
@click.option(
    "--keys",
    type=click.IntRange(1, 10_000_000),
    default=100_000,
    show_default=True,
    help="For the cells restart and memory; memory-1m has a million.",
)
@click.option(
    "--at",
    type=click.Choice(["all", "leader"]),
    default="all",
    show_default=True,
    help="Where connections go: spread over the servers, or all to the leader.",
)
@click.option("--beside", type=click.Choice(["zookeeper"]), help="Measure this too, taking turns cell by cell.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Below it the servers' data are kept for the time of the run.  [the system's directory for such]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results for scripts.")
@click.option("--list", "list_only", is_flag=True, help="Print the names of the cells and end.")
def bench(
    connect: str | None,
    protocol: str,
    cells: str | None,
    seconds: float,
    warmup: float,
    rounds: int,
    keys: int,
    at: str,
    beside: str | None,
    directory: Path | None,
    as_json: bool,
    list_only: bool,
) -> None:
    """Measure a cluster: operations per second, latency, and server processor time per operation.

    Without --connect it starts three servers of its own on this machine, with fsync, and removes them at the
    end. A cell is named after its operation and its load, CONNECTIONSxREQUESTS in flight on each.

    \b
    The whole table but memory-1m, about six minutes:
      jkcs bench
    A few cells of a running cluster:
      jkcs bench --connect jkcs://10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181 --cells 'set-*,get-64x1'
    Side by side with ZooKeeper (Debian: apt-get install zookeeper), the same bytes to both:
      jkcs bench --protocol zookeeper --beside zookeeper

    Exit codes: 0 measured, 1 a cell failed, 2 wrong usage, 3 no cluster to measure.
    """
    if list_only:
        click.echo("\n".join(cell.name for cell in CELLS))
        return
    if connect and beside:
        raise click.UsageError("--beside compares with a cluster that the benchmark starts itself: leave out --connect")
    try:
        chosen = choose([name for name in (cells or "").split(",") if name])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cells") from None
    warm_up = [("zookeeper", ZOOKEEPER_WARMUP_SECONDS)] if beside else []
    plan = Plan(chosen, Pace(warmup, seconds), rounds, keys, at == "leader", warm_up)
    with tempfile.TemporaryDirectory(prefix="jkcs-bench-", dir=directory) as scratch:
        try:
            sitting = Sitting(plan, _starters(connect, Wire(protocol), beside), Path(scratch), _tell)
            results = sitting.run()
        except SubjectFailed as error:
            click.echo(f"jkcs bench: {error}", err=True)
            sys.exit(UNREACHABLE)
    _show(results, protocol, as_json)
    if any(result.failed for result in results):
        sys.exit(FAILED)


def _starters(connect: str | None, wire: Wire, beside: str | None) -> list[Starter]:
    if connect:
        try:
            target = parse(connect)
        except BadArguments as error:
            raise click.BadParameter(error.detail, param_hint="--connect") from None
        running = RunningJkcs(target.addresses, target.chroot, wire)
        return [lambda _: running]
    starters: list[Starter] = [lambda directory: OwnJkcs(directory, wire)]
    if beside == "zookeeper":
        starters.append(ZooKeeper)
    return starters


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _show(results: Sequence[Result], protocol: str, as_json: bool) -> None:
    if as_json:
        show_json(
            {"python": platform.python_version(), "protocol": protocol, "results": report.document(results, JKCS)}
        )
        return
    beside = len({result.subject for result in results}) > 1
    columns = report.BESIDE_COLUMNS if beside else report.COLUMNS
    show_table(columns, report.rows(results, JKCS), right=report.RIGHT)
    click.echo()
    click.echo(report.FOOT)
    if beside:
        click.echo(report.BESIDE_FOOT)
    for remark in report.remarks(results):
        click.echo(remark)
    for result in results:
        for reason, count in result.errors.items():
            click.echo(f"{result.cell.name} {result.subject}: {reason} ({count} times)")
        if result.skipped:
            click.echo(f"{result.cell.name} {result.subject}: not measured, {result.skipped}")
