"""ZooKeeper beside: configured to be as durable as we are, and missed with a clear message."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from jkcs_server.bench import zookeeper
from jkcs_server.bench.subject import SubjectFailed
from jkcs_server.bench.zookeeper import ZooKeeper


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not a dependency of ours."""
    monkeypatch.setattr(zookeeper, "JAR", tmp_path / "zookeeper.jar")
    monkeypatch.setattr(zookeeper.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(SubjectFailed, match=r"there is no .*zookeeper\.jar.*apt-get install zookeeper"):
        ZooKeeper(tmp_path)
    monkeypatch.setattr(zookeeper.shutil, "which", lambda _: None)
    with pytest.raises(SubjectFailed, match="java is not in PATH"):
        ZooKeeper(tmp_path)


def test_three_servers_know_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a directory, a number and the same list of servers."""
    monkeypatch.setattr(zookeeper, "JAR", Path(__file__))
    monkeypatch.setattr(zookeeper.shutil, "which", lambda name: f"/usr/bin/{name}")
    ZooKeeper(tmp_path)._configure()
    texts = [(tmp_path / f"z{number}" / "zoo.cfg").read_text() for number in (1, 2, 3)]
    lists = [[line for line in text.splitlines() if line.startswith("server.")] for text in texts]
    assert len(lists[0]) == 3 and lists[0] == lists[1] == lists[2]
    assert len({line for text in texts for line in text.splitlines() if line.startswith("clientPort=")}) == 3
    assert all("maxClientCnxns=0" in text and "admin.enableServer=false" in text for text in texts)
    assert [(tmp_path / f"z{number}" / "data" / "myid").read_text() for number in (1, 2, 3)] == ["1\n", "2\n", "3\n"]


@pytest.mark.parametrize(
    ("answer", "mode"),
    [
        (b"Zookeeper version: 3.8.0\nMode: leader\nNode count: 5\n", "leader"),
        (b"This ZooKeeper instance is not currently serving requests\n", "not serving"),
        (b"", "not serving"),
    ],
)
def test_a_server_is_asked_for_its_mode(answer: bytes, mode: str) -> None:
    """The leader must be known: some cells go to it alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(10) == b"srvr"
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        assert zookeeper._mode(server.getsockname()) == mode
        thread.join()


def test_a_server_that_does_not_listen_yet_is_not_reachable() -> None:
    """Bound, so that nobody else listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert zookeeper._mode(bound.getsockname()).startswith("not reachable")
