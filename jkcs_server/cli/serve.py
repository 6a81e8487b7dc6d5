"""`jkcs serve`: one node, from its configuration to its last log line.

Reads what `config.load` may not read (the file, the environment), runs the event loop and turns signals and
failures into an orderly end. Everything about consensus and clients is behind `Node`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jkcs_server.cli.exits import FAILED, USAGE
from jkcs_server.cli.parent import end_with_parent
from jkcs_server.config import ConfigError, NodeConfig, load

if TYPE_CHECKING:
    from jkcs_server.node import Node

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
CONFIG_BYTES_MAX = 1 << 20

log = logging.getLogger("jkcs.serve")


@click.command()
@click.option(
    "--config",
    "config_file",
    envvar="JKCS_CONFIG",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A TOML file with the settings below, named with underscores; [limits] and [timing] are tables.",
)
@click.option("--data-dir", metavar="DIR", help="Where the journal and its snapshots live.")
@click.option("--me", metavar="NAME", help="This node's name, one of the members.")
@click.option("--peers", metavar="MEMBERS", help="All members: n1=HOST:PORT,n2=HOST:PORT,... or jkcs://HOST:PORT,...")
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect; port 0 takes any.  [127.0.0.1:2181]")
@click.option("--peer-listen", metavar="HOST:PORT", help="Where peers connect, if not at this node's address.")
@click.option("--join/--no-join", default=None, help="New to a cluster that runs: wait to be taken in.  [no-join]")
@click.option("--observers", metavar="NAMES", help="Those of the members that observe and do not vote: n4,n5,...")
@click.option("--pull-from", metavar="NAMES", help="Whom to pull the log from while observing, best first.")
@click.option("--cluster", metavar="NAME", help="Name of the cluster; members of another are refused.  [jkcs]")
@click.option("--session-timeout-min", type=float, metavar="SECONDS", help="Shorter timeouts are raised to it.  [1]")
@click.option("--session-timeout-max", type=float, metavar="SECONDS", help="Longer ones are cut to it.  [600]")
@click.option("--history-events", type=int, metavar="N", help="Events kept for watches that resume.  [100000]")
@click.option("--admin-from", metavar="WHERE", help="Whose `jkcs admin` is heard: loopback or any.  [loopback]")
@click.option("--tls-certificate", metavar="FILE", help="PEM file: with it, clients may speak TLS on their port.")
@click.option("--tls-key", metavar="FILE", help="Its key.")
@click.option("--tls-client-ca", metavar="FILE", help="PEM file of whose clients' certificates are believed.")
@click.option("--tls-client-auth", metavar="WHETHER", help="Ask clients for one: none, want or need.  [none]")
@click.option("--tls-only/--no-tls-only", default=None, help="Refuse clients without TLS.  [no-tls-only]")
@click.option("--peer-tls-certificate", metavar="FILE", help="PEM file that names this node: peers speak TLS.")
@click.option("--peer-tls-key", metavar="FILE", help="Its key.")
@click.option("--peer-tls-ca", metavar="FILE", help="PEM file of the authority of all members' certificates.")
@click.option("--insecure/--no-insecure", default=None, help="Let other machines come without TLS.  [no-insecure]")
@click.option("--four-letter-words", metavar="WORDS", help="ZooKeeper's words that are answered: ruok,mntr,... or *.")
@click.option("--x509-super", metavar="SUBJECT", help="The subject of the certificate that may do everything.")
@click.option("--no-fsync", is_flag=True, help="DANGER: a power failure loses acknowledged writes. For tests.")
@click.option("--log-level", envvar="JKCS_LOG_LEVEL", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option("--parent-pid", type=int, hidden=True)
def serve(
    config_file: Path | None, log_level: str, no_fsync: bool, parent_pid: int | None, **flags: str | float | int | None
) -> None:
    """Run one node of a cluster until it is told to stop.

    Every setting may come from a flag, from the environment (JKCS_DATA_DIR, JKCS_ME, ..., also
    JKCS_TIMING_ELECTION_TIMEOUT and the like) or from a TOML file; flags win over the environment, the
    environment over the file. SIGTERM or Ctrl-C hands leadership over and ends the node within two seconds.

    SIGHUP reads changed certificates at once.

    \b
    One member of three, in a network where everybody is trusted:
      jkcs serve --me n1 --data-dir /var/lib/jkcs --listen 10.0.0.1:2181 --insecure \\
                 --peers n1=10.0.0.1:2182,n2=10.0.0.2:2182,n3=10.0.0.3:2182
    A node alone, for development:
      jkcs serve --me n1 --data-dir ./data --peers n1=127.0.0.1:2182

    Exit codes: 0 stopped as told, 1 could not start or had to stop, 2 wrong flags or settings.
    """
    if parent_pid is not None:
        end_with_parent(parent_pid)
    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    try:
        settings = {**flags, "fsync": False if no_fsync else None}
        config = load(read_toml(config_file), os.environ, settings, file_name=str(config_file))
        config.check_exposure()
    except ConfigError as error:
        click.echo(f"jkcs serve: {error}", err=True)
        sys.exit(USAGE)
    sys.exit(run(config))


def read_toml(path: Path | None) -> Mapping[str, object]:
    """The settings in a file; none without a file. Raises ConfigError that names the file."""
    if path is None:
        return {}
    try:
        with path.open("rb") as opened:
            data = opened.read(CONFIG_BYTES_MAX + 1)
        if len(data) > CONFIG_BYTES_MAX:
            raise ConfigError("--config", f"{path} is larger than {CONFIG_BYTES_MAX} bytes")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError("--config", f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", f"{path} is not TOML: {error}") from None


def run(config: NodeConfig) -> int:
    """Run a node until a signal or a failure ends it; the exit code."""
    from jkcs_server.node import Node, new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_live(config, Node(config)))


async def _live(config: NodeConfig, node: Node) -> int:
    from jkcs_server.node import tune_collector

    told = _on_signal()
    if config.tls_certificate is not None or config.peer_tls_certificate is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, node.reload_certificates)
    started = False
    try:
        if not await _unless_told(told, node.start()):
            started = True  # the node has said where it serves
            tune_collector()
            if not await _unless_told(told, node.failed()):
                raise RuntimeError("it ended without a reason")
        code = 0
    except Exception as error:  # whatever ends a node is one line to its operator
        log.debug("the failure in full", exc_info=error)
        what = "stopped by itself" if started else "cannot start"
        click.echo(f"jkcs serve: {config.me} {what}: {_reason(error)}", err=True)
        code = FAILED
    if started:
        log.info("%s stopping", config.me)
        await node.stop()
    return code


def _reason(error: Exception) -> str:
    """The error without its number, which says nothing that its text does not."""
    if isinstance(error, OSError) and error.strerror and not error.filename:
        return error.strerror
    return str(error) or type(error).__name__


def _on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT. A second one ends the process at once: the journal survives that."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell() -> None:
        told.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    return told


async def _unless_told(told: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Do `work` to its end, and raise what it raises; or cancel it when the signal comes first: then True."""
    working = asyncio.ensure_future(work)
    signalled = asyncio.ensure_future(told.wait())
    await asyncio.wait((working, signalled), return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        signalled.cancel()
        working.result()
        return False
    working.cancel()
    await asyncio.wait((working,))
    return True
