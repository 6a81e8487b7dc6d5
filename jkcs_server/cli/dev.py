"""`jkcs dev`: a cluster on this machine that keeps its data, and a running account of who leads it."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import click

from jkcs_server.cli.exits import FAILED
from jkcs_server.cli.probe import leader_of
from jkcs_server.cli.processes import PEER_PORT_OFFSET, LocalCluster, LocalNode, ProcessFailed, Unwanted
from jkcs_server.cli.render import show_table
from jkcs_server.config import show_address

LOOK_INTERVAL = 0.5
PORT_MAX = 65535 - PEER_PORT_OFFSET


@click.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True, help="Members of the cluster.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("jkcs-dev"),
    show_default=True,
    help="Data and logs of all nodes; kept, and used again next time.",
)
@click.option(
    "--port",
    type=click.IntRange(1, PORT_MAX - 9),
    default=2181,
    show_default=True,
    help="Clients' port of the first node; the others follow. Peers meet 100 above.",
)
def dev(nodes: int, data_dir: Path, port: int) -> None:
    """Run a real cluster on this machine until Ctrl-C, for development.

    Every node is a process of its own with its data and log under --data-dir; stop one with kill -9 and see.
    It is started again with the next `jkcs dev`.

    \b
    Examples:
      jkcs dev
      jkcs dev --nodes 1 --port 3181 --data-dir /tmp/one

    Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 could not start or all nodes have ended.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    cluster = LocalCluster(data_dir, nodes, base_port=port)
    try:
        cluster.start()
        leader = _wait_for_start(cluster, stop)
        if leader is not None:
            _introduce(cluster, leader)
            _tell_changes(cluster, leader, stop)
    except (ProcessFailed, OSError) as error:
        click.echo(f"jkcs dev: {error}", err=True)
        sys.exit(FAILED)
    finally:
        cluster.stop()
    click.echo(f"stopped; the data is in {cluster.directory}")


def _wait_for_start(cluster: LocalCluster, stop: threading.Event) -> str | None:
    """The first leader, or None when the user wanted to stop meanwhile."""
    click.echo(f"starting {len(cluster.nodes)} node(s) in {cluster.directory} ...")
    try:
        return cluster.wait_for_leader(unless=stop.is_set)
    except Unwanted:
        return None


def _introduce(cluster: LocalCluster, leader: str) -> None:
    rows = [
        [
            node.name,
            "leader" if node.name == leader else "follower",
            show_address(node.client_address),
            str(node.pid),
            str(node.log_path),
        ]
        for node in cluster.nodes.values()
    ]
    show_table(("node", "role", "clients", "pid", "log"), rows, right=("pid",))
    click.echo(f"connect with:  {cluster.url}")
    click.echo(f"try:           jkcs status {cluster.url}")
    click.echo(f"               jkcs shell {cluster.url}")
    click.echo("Ctrl-C stops the cluster and keeps its data.")


def _tell_changes(cluster: LocalCluster, leader: str | None, stop: threading.Event) -> None:
    """Say who leads and who has ended, whenever that changes, until told to stop. Raises ProcessFailed when
    no node is left."""
    running = set(cluster.nodes)
    while not stop.wait(LOOK_INTERVAL):
        statuses = cluster.statuses()
        for name in sorted(running):
            node = cluster.nodes[name]
            if not node.running:
                running.discard(name)
                click.echo(f"{name} (pid {node.pid}) {how_it_ended(node)}")
        if not running:
            raise ProcessFailed("all nodes have ended")
        now = leader_of(statuses.values())
        if now != leader:
            click.echo("nobody leads" if now is None else f"{now} leads in term {statuses[now]['term']}")
            leader = now


def how_it_ended(node: LocalNode) -> str:
    """The signal that killed it, or its exit code and what it said last."""
    assert node.exit_code is not None, node.name
    if node.exit_code < 0:
        return f"was killed by {signal.Signals(-node.exit_code).name}"
    return f"has ended with exit code {node.exit_code}: {node.last_words()}"
