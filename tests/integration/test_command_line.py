"""The `jkcs` command as its users call it: real processes, real files, real sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jkcs_server.cli.processes import PEER_PORT_OFFSET, LocalCluster, free_ports
from jkcs_server.config import show_address

PATIENCE = 60.0


def jkcs(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One call of the command, to its end."""
    command = [sys.executable, "-m", "jkcs_server.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three servers for the tests that leave them as they are."""
    with LocalCluster(tmp_path_factory.mktemp("cluster"), fsync=False) as running:
        yield running


def test_shell_writes_and_reads_keys_of_the_cluster(cluster: LocalCluster) -> None:
    """The first thing a new user does."""
    done = jkcs("shell", cluster.url, "-c", "create -p /services/web 'up since today'; get /services/web; ls /services")
    assert (done.returncode, done.stdout) == (0, "/services/web\nup since today\nweb\n"), done.stderr
    done = jkcs("shell", f"{cluster.url}/services", "--json", "-c", "get web")
    assert json.loads(done.stdout)["value"] == "up since today"
    done = jkcs("shell", cluster.url, stdin="tree /services\nget /nowhere\npwd\n")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no such key" in done.stderr
    assert "web" in done.stdout


def test_watch_streams_events_until_it_is_interrupted(cluster: LocalCluster) -> None:
    """Every event is a line at once: a pipe must not hold it back."""
    command = [sys.executable, "-m", "jkcs_server.cli.main", "shell", "--json", cluster.url, "-c", "watch -r /watched"]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout is not None and watching.stderr is not None
    try:
        assert watching.stderr.readline().startswith("watching /watched")
        assert jkcs("shell", cluster.url, "-c", "create /watched; set /watched x").returncode == 0
        events = [json.loads(watching.stdout.readline()) for _ in range(2)]
        assert [(event["kind"], event["path"]) for event in events] == [
            ("created", "/watched"),
            ("changed", "/watched"),
        ]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE) == 130
    finally:
        watching.kill()
        watching.communicate()


def test_status_lists_every_member_and_the_leader(cluster: LocalCluster) -> None:
    """What is asked first when something is wrong."""
    done = jkcs("status", cluster.url)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NODE", "n1", "n2", "n3"]
    document = json.loads(jkcs("status", cluster.url, "--json").stdout)
    assert document["leader"] in cluster.nodes
    assert all(member["reachable"] for member in document["members"])


def test_no_server_is_told_by_the_exit_code() -> None:
    """Scripts try again on 3, and on nothing else."""
    nowhere = f"jkcs://127.0.0.1:{free_ports(1)[0]}"
    assert jkcs("status", nowhere).returncode == 3
    assert jkcs("shell", nowhere, "--timeout", "0.5", "-c", "ls").returncode == 3


def serve(directory: Path, **flags: Any) -> subprocess.CompletedProcess[str]:
    """A node that is expected not to start."""
    settings = {"me": "n1", "peers": "n1=127.0.0.1:0", "listen": "127.0.0.1:0", "data-dir": directory, **flags}
    return jkcs("serve", *(f"--{name}={value}" for name, value in settings.items()))


def test_serve_refuses_a_port_in_use_and_a_foreign_directory(cluster: LocalCluster, tmp_path: Path) -> None:
    """One clear line each, no traceback, and the one who is there already does not notice."""
    taken = show_address(cluster.nodes["n1"].client_address)
    done = serve(tmp_path / "new", listen=taken)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("jkcs serve: n1 cannot start: cannot listen for clients on ")
    with LocalCluster(tmp_path / "theirs", 1, fsync=False) as theirs:
        pass
    done = serve(theirs.nodes["n1"].data_dir, cluster="ours")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "belongs to node 'n1' of cluster 'jkcs'" in done.stderr.splitlines()[-1]
    assert cluster.wait_for_leader()


def test_garbage_at_the_clients_port_hurts_nobody_else(cluster: LocalCluster) -> None:
    """A port scanner must not be an outage."""
    with socket.create_connection(cluster.nodes["n1"].client_address, timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        while connection.recv(4096):
            pass
    assert cluster.status("n1")["node"] == "n1"


def base_port() -> int:
    """A port that is free, and so is the one that `jkcs dev` takes for its only node's peers."""
    for port in free_ports(50):
        with socket.socket() as peers, contextlib.suppress(OSError):
            peers.bind(("127.0.0.1", port + PEER_PORT_OFFSET))
            return port
    raise AssertionError("no two free ports at that distance")


def test_dev_keeps_its_data_between_runs(tmp_path: Path) -> None:
    """What is written today is there tomorrow; Ctrl-C ends every process it started."""
    port = base_port()
    for line, expected in (("create /kept yes", "/kept\n"), ("get /kept", "yes\n")):
        command = [sys.executable, "-m", "jkcs_server.cli.main", "dev", "--nodes", "1", "--port", str(port)]
        running = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "dev")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert running.stdout is not None
        try:
            said = iter(running.stdout.readline, "")
            assert any(each.startswith("Ctrl-C stops") for each in said)
            assert jkcs("shell", f"jkcs://127.0.0.1:{port}", "-c", line).stdout == expected
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=PATIENCE)
            assert running.returncode == 0
            assert rest.splitlines()[-1] == f"stopped; the data is in {tmp_path / 'dev'}"
        finally:
            running.kill()
            running.communicate()


def test_demo_shows_that_every_claim_holds() -> None:
    """The promise of the front page, on this very machine."""
    done = jkcs("demo", "--json")
    document = json.loads(done.stdout)
    assert document["held"], done.stderr
    assert done.returncode == 0
    assert document["directory"] is None
    assert {claim["lost"] for claim in document["claims"] if "lost" in claim} == {0}
