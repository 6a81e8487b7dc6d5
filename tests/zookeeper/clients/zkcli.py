"""zkCli of Debian's package `zookeeper`, as somebody at a terminal uses it.

A script of commands goes in; what must come out follows in the order of the commands, and events anywhere. Run by
`python -m tests.zookeeper.clients`.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from jkcs_server.bench.zookeeper import JAR, JARS
from tests.zookeeper.clients.programs import Failed, need, need_file, run
from tests.zookeeper.servers import Servers, hosts

SERVERS = 1
REAP_SECONDS = 30.0

STAT = r"cZxid = 0x[0-9a-f]+\nctime = .*\nmZxid = 0x[0-9a-f]+\nmtime = .*\npZxid = 0x[0-9a-f]+\ncversion = {}\n"
STAT += r"dataVersion = {}\naclVersion = {}\nephemeralOwner = {}\ndataLength = {}\nnumChildren = {}\n"

SCRIPT: tuple[tuple[str, str], ...] = (
    ("create -s /seq- data", r"Created /seq-(\d{10})\n"),
    ("create -e /eph here", r"Created /eph\n"),
    ("create -s -e /both- x", r"Created /both-\d{10}\n"),
    ("create /p pv", r"Created /p\n"),
    ("create /p pv", r"Node already exists: /p\n"),
    ("create /eph/child", r"Ephemerals cannot have children: /eph/child\n"),
    ("create /missing/child", r"Node does not exist: /missing/child\n"),
    ("create -c /box", r"Created /box\n"),
    ("create /box/in", r"Created /box/in\n"),
    ("create -t 1000 /ttl tv", r"Created /ttl\n"),
    ("create -s -t 3600000 /long- tv", r"Created /long-\d{10}\n"),
    ("ls /", r"\[both-\d+, box, eph, long-\d+, p, seq-\d+, ttl, zookeeper\]\n"),
    ("create /p/k 1", r"Created /p/k\n"),
    ("create /p/k/deep 2", r"Created /p/k/deep\n"),
    ("ls -R /p", r"/p\n/p/k\n/p/k/deep\n"),
    ("ls -s /p", r"\[k\]\n?" + STAT.format(1, 0, 0, "0x0", 2, 1)),
    ("get /p", r"pv\n"),
    ("get -s /p/k", r"1\n" + STAT.format(1, 0, 0, "0x0", 1, 1)),
    ("stat /eph", STAT.format(0, 0, 0, r"0x[1-9a-f][0-9a-f]*", 4, 0)),
    ("get -w /p", r"pv\n"),
    ("set /p changed", r""),
    ("get /p", r"changed\n"),
    ("ls -w /p/k", r"\[deep\]\n"),
    ("delete /p/k/deep", r""),
    ("stat -w /p/k", STAT.format(2, 0, 0, "0x0", 1, 0)),
    ("set -s /p/k 22", STAT.format(2, 1, 0, "0x0", 2, 0)),
    ("set -v 7 /p/k 3", r"version No is not valid : /p/k\n"),
    ("delete -v 7 /p/k", r"version No is not valid : /p/k\n"),
    ("delete /p", r"Node not empty: /p\n"),
    ("getAcl /p", r"'world,'anyone\n: cdrwa\n"),
    ("create /locked v world:anyone:r", r"Created /locked\n"),
    ("set /locked w", r"(Insufficient permission|Authentication is not valid) : /locked\n"),
    ("addauth digest user:secret", r""),
    ("create /mine v auth::cdrwa", r"Created /mine\n"),
    ("getAcl -s /mine", r"'digest,'user:[A-Za-z0-9+/=]+\n: cdrwa\n" + STAT.format(0, 0, 0, "0x0", 1, 0)),
    ("setAcl -s /mine world:anyone:cdrwa", STAT.format(0, 0, 1, "0x0", 1, 0)),
    ("setAcl -v 7 /mine world:anyone:r", r"version No is not valid : /mine\n"),
    ("whoami", r"Auth scheme: User\n(digest: user\nip: 127.0.0.1|ip: 127.0.0.1\ndigest: user)\n"),
    ("create /q", r"Created /q\n"),
    ("setquota -n 9 /q", r""),
    ("setquota -N 3 /q", r""),
    ("setquota -B 100 /q", r""),
    ("create /q/one 12345", r"Created /q/one\n"),
    (
        "listquota /q",
        r"Output quota for /q count=9,bytes=-1=;byteHardLimit=100;countHardLimit=3\n"
        r"Output stat for /q count=2,bytes=5\n",
    ),
    ("get /zookeeper/quota/q/zookeeper_stats", r"count=2,bytes=5\n"),
    ("create /q/two", r"Created /q/two\n"),
    ("create /q/three", r"Quota has exceeded : /q/three\n"),
    ("set /q/one " + "x" * 200, r"Quota has exceeded : /q/one\n"),
    ("delquota /q", r""),
    ("create /q/three", r"Created /q/three\n"),
    ("addWatch /tree", r""),
    ("create /tree", r"Created /tree\n"),
    ("create /tree/leaf", r"Created /tree/leaf\n"),
    ("set /tree/leaf 1", r""),
    ("removewatches /tree", r""),
    ("addWatch -m PERSISTENT /q", r""),
    ("create /q/four", r"Created /q/four\n"),
    ("getAllChildrenNumber /q", r"4\n"),
    ("getEphemerals /", r"\[/both-\d+, /eph\]\n|\[/eph, /both-\d+\]\n"),
    ("sync /p", r"Sync is OK\n"),
    ("deleteall /q", r""),
    ("ls /q", r"Node does not exist: /q\n"),
    ("config", r""),
    (
        "reconfig -add server.5=localhost:1:2;3",
        r"(KeeperErrorCode = Reconfig is disabled|.*permission.*|Authentication is not valid.*)\n",
    ),
    ("delete /box/in", r""),
    ("ls /missing", r"Node does not exist: /missing\n"),
    ("get /zookeeper/quota", r""),
    ("delete /zookeeper/quota", r"Arguments are not valid : /zookeeper/quota\n|.*[Aa]rgument.*\n"),
)
EVENTS = (
    "SyncConnected type:None path:null",
    "SyncConnected type:NodeDataChanged path:/p",
    "SyncConnected type:NodeChildrenChanged path:/p/k",
    "SyncConnected type:NodeDataChanged path:/p/k",
    "SyncConnected type:NodeCreated path:/tree",
    "SyncConnected type:NodeCreated path:/tree/leaf",
    "SyncConnected type:NodeDataChanged path:/tree/leaf",
    "SyncConnected type:PersistentWatchRemoved path:/tree",
    "SyncConnected type:NodeChildrenChanged path:/q",
    "SyncConnected type:NodeDeleted path:/q",
)


def judge(servers: Servers, directory: Path) -> str:
    """Raises Missing or Failed; otherwise what was checked."""
    text = _zkcli(servers, [command for command, _ in SCRIPT])
    events = re.findall(r"WatchedEvent state:(\S+ type:\S+ path:\S+)", text)
    for event in EVENTS:
        if event not in events:
            raise Failed(f"no event {event!r} in\n{text}")
    plain = re.sub(r"\nWATCHER::\n\nWatchedEvent state:.*\n", "", text)
    at = 0
    for command, expected in SCRIPT:
        found = re.search(expected, plain[at:])
        if found is None:
            raise Failed(f"zkCli `{command}` was to answer {expected!r}, and the rest of the output is\n{plain[at:]}")
        at += found.end()
    _reaped(servers)
    return f"{len(SCRIPT)} commands, {len(EVENTS)} events, a container and a TTL key gone by themselves"


def _reaped(servers: Servers) -> None:
    """The emptied container and the old TTL key go by themselves, the session's ephemerals went with it."""
    deadline = time.monotonic() + REAP_SECONDS
    while True:
        text = _zkcli(servers, ["ls /"])
        found = re.search(r"\[([^\]]*zookeeper)\]", text)
        names = [] if found is None else found.group(1).split(", ")
        if names and not {"box", "ttl", "eph"} & set(names):
            break
        if time.monotonic() > deadline:
            raise Failed(f"`ls /` still shows what must be gone: {names}")
    if not any(name.startswith("long-") for name in names):
        raise Failed(f"a TTL key that is not old went: {names}")


def _zkcli(servers: Servers, commands: list[str]) -> str:
    java = need("java", "on Debian: apt-get install zookeeper")
    need_file(JAR, "on Debian: apt-get install zookeeper")
    jars = os.pathsep.join(str(jar) for jar in (JAR, JARS / "slf4j-nop.jar") if jar.exists())
    # What zkCli.sh starts, without its script's choice of a log file in a directory of root's.
    command = [java, "-cp", jars, "org.apache.zookeeper.ZooKeeperMain", "-server", hosts(servers)]
    # It ends with 1 when its last command failed.
    return run(command, given="\n".join([*commands, "quit"]) + "\n", failing=True)
