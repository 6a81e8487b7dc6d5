"""Apache Curator of Debian's packages, with `Curator.java` as the program that uses its recipes.

Run by `python -m tests.zookeeper.clients`.
"""

from __future__ import annotations

import os
from pathlib import Path

from jkcs_server.bench.zookeeper import JARS
from tests.zookeeper.clients.programs import need, need_file, run
from tests.zookeeper.servers import Servers, hosts

SERVERS = 1
"""With one, its two clients read what the other wrote without `sync`."""
PROGRAM = Path(__file__).with_name("Curator.java")
PACKAGES = "on Debian: apt-get install libcurator-recipes-java libcurator-discovery-java openjdk-17-jdk-headless"
NEEDED = ("curator-recipes", "curator-x-discovery", "curator-framework", "curator-client", "zookeeper")


def judge(servers: Servers, directory: Path) -> str:
    """Raises Missing or Failed; otherwise what was checked."""
    java, javac = need("java", PACKAGES), need("javac", PACKAGES)
    jars = [str(need_file(JARS / f"{name}.jar", PACKAGES)) for name in NEEDED]
    # Their manifests name the rest, but for a logger, and for two that the packages leave to their users.
    optional = (JARS / f"{name}.jar" for name in ("jackson-core", "slf4j-nop", "zookeeper-jute"))
    path = os.pathsep.join([*jars, *(str(jar) for jar in optional if jar.exists())])
    classes = directory / "classes"
    classes.mkdir()
    run([javac, "-nowarn", "-Xlint:none", "-d", str(classes), "-cp", path, str(PROGRAM)])
    command = [java, "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{classes}{os.pathsep}{path}", "Curator", hosts(servers)]
    output = run(command, seconds=300)
    passed = [line.removeprefix("passed: ").rsplit(" (", 1)[0] for line in output.splitlines() if "passed: " in line]
    return ", ".join(passed)
