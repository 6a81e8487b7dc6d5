"""A local cluster's processes, with a stand-in for the server: what is started, what is said when it fails.

With real servers the same is tested by tests/integration.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from jkcs_server.cli import processes as module
from jkcs_server.cli.processes import LocalCluster, ProcessFailed, Unwanted, free_ports
from tests.unit.jkcs_server.cli.answering import status_of


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCluster:
    """Three processes that write what they were called with into their logs, and stay."""
    script = tmp_path / "stand_in"
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--broken*) echo "cannot start: broken" >&2; exit 1;; esac\n'
        'echo "$JKCS_ME $*"\n'
        'trap "exit 0" TERM\n'
        "while :; do sleep 0.01; done\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("JKCS_ME", "another")
    return LocalCluster(tmp_path / "cluster", 3)


def answers(monkeypatch: pytest.MonkeyPatch, cluster: LocalCluster, **statuses: dict[str, Any]) -> None:
    """What the nodes answer to STATUS; who is not named does not answer."""
    by_address = {cluster.nodes[name].client_address: status for name, status in statuses.items()}
    monkeypatch.setattr(
        module,
        "ask_each",
        lambda asked, timeout: {at: by_address.get(at, module.ProbeFailed("no answer")) for at in asked},
    )


def test_nodes_are_started_with_their_own_flags(cluster: LocalCluster) -> None:
    """Each knows all members, its own data and our pid, and none of our own settings."""
    try:
        cluster.start()
        for name, node in cluster.nodes.items():
            while not node.log_path.read_text().strip():
                assert node.running
                time.sleep(0.01)
            words = node.log_path.read_text().split()
            assert words[:4] == ["-m", "jkcs_server.cli.main", "serve", "--me"]
            assert words[4] == name
            assert words[words.index("--data-dir") + 1] == str(cluster.directory / name)
            assert words[words.index("--peers") + 1].count("=127.0.0.1:") == 3
    finally:
        cluster.stop()
    assert not any(node.running for node in cluster.nodes.values())


def test_killed_node_starts_again_as_another_process(cluster: LocalCluster) -> None:
    """With its directory and its ports."""
    try:
        cluster.start()
        before = cluster.nodes["n2"].pid
        cluster.kill("n2")
        assert (cluster.nodes["n2"].running, cluster.nodes["n2"].exit_code) == (False, -signal.SIGKILL)
        cluster.restart("n2")
        assert cluster.nodes["n2"].running
        assert cluster.nodes["n2"].pid != before
        assert cluster.nodes["n1"].running
    finally:
        cluster.stop(timeout=0)


def test_process_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path, cluster: LocalCluster) -> None:
    """Waiting out the whole time for a process that is gone helps nobody."""
    broken = LocalCluster(tmp_path / "broken", 1, arguments=["--broken"])
    try:
        broken.start()
        with pytest.raises(ProcessFailed, match="n1 ended by itself: cannot start: broken"):
            broken.wait_serving("n1")
    finally:
        broken.stop()


def test_leader_is_waited_for_until_all_follow_it(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that only itself knows is not yet one."""
    try:
        cluster.start()
        answers(monkeypatch, cluster, n1=status_of("n1", "leader"), n2=status_of("n2"))
        with pytest.raises(ProcessFailed, match=r"no leader was elected within 0.01 s; logs are in /"):
            cluster.wait_for_leader(0.01)
        answers(monkeypatch, cluster, n1=status_of("n1", "leader"), n2=status_of("n2"), n3=status_of("n3", leader=None))
        with pytest.raises(ProcessFailed):
            cluster.wait_for_leader(0.01)
        answers(monkeypatch, cluster, n1=status_of("n1", "leader"), n2=status_of("n2"), n3=status_of("n3"))
        assert cluster.wait_for_leader() == "n1"
        with pytest.raises(Unwanted):
            cluster.wait_for_leader(unless=lambda: True)
    finally:
        cluster.stop(timeout=0)


def test_node_killed_on_purpose_is_not_waited_for(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three agree; the third is down because we wanted that."""
    try:
        cluster.start()
        cluster.kill("n3")
        answers(monkeypatch, cluster, n1=status_of("n1", "leader"), n2=status_of("n2"))
        assert cluster.wait_for_leader() == "n1"
    finally:
        cluster.stop(timeout=0)


def test_index_is_waited_for(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that serves is not yet one that has caught up."""
    monkeypatch.setattr(module, "ask_status", lambda address, timeout: status_of("n1", applied_index=7))
    assert cluster.wait_for_index("n1", 7)["applied_index"] == 7
    with pytest.raises(ProcessFailed, match="n1 has not caught up"):
        cluster.wait_for_index("n1", 8, timeout=0.01)


def test_free_ports_are_different_and_not_for_outgoing_connections() -> None:
    """A port from the kernel's own range may be taken by any connection while a node is down."""
    ports = free_ports(50)
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 50
    assert all(port < first for port in ports) or first <= 10_000


def test_port_in_use_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody listens there already."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(module, "_candidates", lambda: iter([port]))
        with pytest.raises(ProcessFailed, match="no free port"):
            free_ports(1)


def test_ports_follow_a_base_port(tmp_path: Path) -> None:
    """`jkcs dev` must be where it was yesterday."""
    nodes = LocalCluster(tmp_path, 2, base_port=2181).nodes
    assert [node.client_address[1] for node in nodes.values()] == [2181, 2182]
    assert [node.peer_address[1] for node in nodes.values()] == [2281, 2282]
    assert LocalCluster(tmp_path, 2, base_port=2181).url == "jkcs://127.0.0.1:2181,127.0.0.1:2182"
