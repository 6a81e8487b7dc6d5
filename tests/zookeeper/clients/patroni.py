"""Patroni from PyPI, which keeps two PostgreSQL servers: one is killed, the other takes over, the first comes back.

Run by `python -m tests.zookeeper.clients`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from jkcs_server.cli.processes import free_ports
from tests.zookeeper.clients.programs import Failed, Missing, need, run
from tests.zookeeper.servers import HOST, Servers, hosts

SERVERS = 3
PACKAGES = ("patroni==4.*", "psycopg2-binary")
DEBIAN = "on Debian: apt-get install postgresql"
PATIENCE = 120.0
USER = "postgres"
"""PostgreSQL refuses to be root's: then it runs as this user."""
NAMES = ("pg1", "pg2")
SCOPE = "judge"

CONFIGURATION = """\
scope: {scope}
name: {name}
restapi:
  listen: {host}:{rest}
  connect_address: {host}:{rest}
zookeeper:
  hosts: [{zookeeper}]
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      parameters: {{wal_level: replica, max_connections: 20, shared_buffers: 16MB}}
  initdb: [{{encoding: UTF8}}, {{auth: trust}}, {{locale: C}}, data-checksums]
postgresql:
  listen: {host}:{port}
  connect_address: {host}:{port}
  data_dir: {home}/data
  bin_dir: {bin_dir}
  pgpass: {home}/pgpass
  pg_hba: [local all all trust, host all all {host}/32 trust, host replication all {host}/32 trust]
  authentication:
    superuser: {{username: {user}}}
    replication: {{username: replicator}}
    rewind: {{username: rewinder}}
  parameters: {{unix_socket_directories: {home}}}
"""


class Server:
    """One Patroni and its PostgreSQL."""

    def __init__(
        self, name: str, home: Path, ports: tuple[int, int], bin_dir: Path, python: str, modules: Path
    ) -> None:
        self.name = name
        self._home = home
        self._rest, self._port = ports
        self._psql = bin_dir / "psql"
        self._python = python
        self._modules = modules
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, servers: Servers, bin_dir: Path) -> None:
        self._home.mkdir()
        text = CONFIGURATION.format(
            scope=SCOPE,
            name=self.name,
            host=HOST,
            rest=self._rest,
            port=self._port,
            zookeeper=", ".join(f"'{each}'" for each in hosts(servers).split(",")),
            home=self._home,
            bin_dir=bin_dir,
            user=USER,
        )
        (self._home / "patroni.yml").write_text(text)
        if os.geteuid() == 0:
            shutil.chown(self._home, USER, USER)

    def start(self) -> None:
        setpriv = shutil.which("setpriv")
        command = [self._python, "-m", "patroni", str(self._home / "patroni.yml")]
        if setpriv is not None:
            command = [setpriv, *_who(), "--pdeathsig", "KILL", *command]
        with (self._home / "patroni.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(self._modules), "HOME": str(self._home)},
            )

    def kill(self) -> None:
        """Patroni and PostgreSQL together, as when a machine loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int((self._home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def says(self) -> dict[str, Any]:
        """What Patroni tells of itself; nothing when it does not answer."""
        connection = http.client.HTTPConnection(HOST, self._rest, timeout=5)
        try:
            connection.request("GET", "/patroni")
            told: dict[str, Any] = json.loads(connection.getresponse().read())
            return told
        except (OSError, ValueError, http.client.HTTPException):
            return {}
        finally:
            connection.close()

    def is_(self, role: str) -> bool:
        told = self.says()
        return told.get("state") in ("running", "streaming") and told.get("role") == role

    def ask(self, path: str, body: dict[str, str]) -> str:
        connection = http.client.HTTPConnection(HOST, self._rest, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != http.HTTPStatus.OK:
                raise Failed(f"Patroni's {path} answered {answer.status}: {text}")
            return text
        finally:
            connection.close()

    def sql(self, statement: str) -> str:
        """Raises Failed when PostgreSQL refuses it."""
        command = [str(self._psql), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", HOST, "-p", str(self._port), "-U", USER]
        return run([*command, "-d", "postgres", "-c", statement], seconds=30).strip()

    def rows(self) -> str:
        with contextlib.suppress(Failed):
            return self.sql("SELECT string_agg(word, ' ' ORDER BY number) FROM facts")
        return ""

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            return (self._home / "patroni.log").read_text(errors="replace")[-3000:]
        return ""


def judge(servers: Servers, directory: Path) -> str:
    """Raises Missing or Failed; otherwise what was checked."""
    bin_dir, python, modules = _programs(directory)
    ports = free_ports(2 * len(NAMES))
    pair = [
        Server(name, directory / name, (ports[2 * n], ports[2 * n + 1]), bin_dir, python, modules)
        for n, name in enumerate(NAMES)
    ]
    try:
        for server in pair:
            server.configure(servers, bin_dir)
            server.start()
        return _failover(servers, *pair)
    except Failed as failure:
        raise Failed(f"{failure}\n" + "\n".join(f"-- {each.name}\n{each.last_words()}" for each in pair)) from None
    finally:
        for server in pair:
            server.kill()


def _programs(directory: Path) -> tuple[Path, str, Path]:
    """PostgreSQL's programs, a Python for its user, and a directory with Patroni for it, made here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    bin_dir = found[-1].parent if found else Path(need("initdb", DEBIAN)).resolve().parent
    if os.geteuid() == 0:
        need("setpriv", "to run PostgreSQL as a user who is not root")
        try:
            shutil.chown(directory, USER, USER)
        except LookupError:
            raise Missing(f"there is no user {USER}, and PostgreSQL refuses to be root's ({DEBIAN})") from None
    python = _python()
    modules = directory / "modules"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--target", str(modules)]
    try:
        run([*pip, "kazoo", *PACKAGES])
    except Failed as failure:
        raise Missing(f"pip cannot install {PACKAGES[0]}: {str(failure).strip().splitlines()[-1]}") from None
    return bin_dir, python, modules


def _python() -> str:
    """A Python that PostgreSQL's user can start: this one may stand in a home that is closed to others."""
    shell = ["setpriv", *_who(), "sh", "-c", 'exec "$0" -c pass'] if _who() else ["sh", "-c", 'exec "$0" -c pass']
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(Failed):
            run([*shell, python])
            return python
    raise Missing(f"the user {USER} can start neither {sys.executable} nor /usr/bin/python3")


def _who() -> list[str]:
    """setpriv's arguments for whom PostgreSQL runs as."""
    return ["--reuid", USER, "--regid", USER, "--clear-groups"] if os.geteuid() == 0 else []


def _failover(servers: Servers, one: Server, two: Server) -> str:
    began = time.monotonic()
    _until(lambda: one.is_("primary") or two.is_("primary"), "one is the primary")
    primary, replica = (one, two) if one.is_("primary") else (two, one)
    _until(lambda: replica.is_("replica"), "the other is its replica")
    primary.sql("CREATE TABLE facts (number int PRIMARY KEY, word text)")
    primary.sql("INSERT INTO facts VALUES (1, 'one')")
    _until(lambda: replica.rows() == "one", "the replica has what was written")
    _leader_is(servers, primary.name)

    killed = time.monotonic()
    primary.kill()
    _until(lambda: replica.is_("primary"), "the replica was promoted")
    promoted = time.monotonic()
    _until(lambda: _writes(replica, "INSERT INTO facts VALUES (2, 'two')"), "the new primary takes writes")
    _leader_is(servers, replica.name)

    primary.start()
    _until(lambda: primary.is_("replica"), "the old primary is a replica")
    _until(lambda: primary.rows() == "one two", "the old primary has what was written without it")
    replica.ask("/switchover", {"leader": replica.name, "candidate": primary.name})
    _until(lambda: primary.is_("primary"), "they changed places on demand")
    _until(lambda: replica.is_("replica"), "they changed places on demand")
    _until(lambda: _writes(primary, "INSERT INTO facts VALUES (3, 'three')"), "the primary takes writes")
    _until(lambda: replica.rows() == "one two three", "the replica has all")
    _leader_is(servers, primary.name)
    return (
        f"two PostgreSQL servers, up after {killed - began:.0f} s, the replica promoted {promoted - killed:.0f} s"
        " after the kill, the old primary rejoined, a switchover"
    )


def _writes(server: Server, statement: str) -> bool:
    try:
        server.sql(statement)
    except Failed as failure:
        return "duplicate key" in str(failure)
    return True


def _leader_is(servers: Servers, name: str) -> None:
    """What Patroni wrote for all to see."""
    client = KazooClient(hosts=hosts(servers))
    client.start(timeout=20)
    try:
        data, stat = client.get(f"/service/{SCOPE}/leader")
        if data.decode() != name or not stat.ephemeralOwner:
            raise Failed(f"the key of the leader says {data!r}, {stat}, instead of {name}")
    finally:
        client.stop()
        client.close()


def _until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        if time.monotonic() > deadline:
            raise Failed(f"not so after {PATIENCE:g} s: {what}")
        time.sleep(0.1)
