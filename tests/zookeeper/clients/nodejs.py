"""A client in JavaScript: `node-zookeeper-client` from npm, with `nodejs.js` as the service that uses it.

Run by `python -m tests.zookeeper.clients`.
"""

from __future__ import annotations

from pathlib import Path

from tests.zookeeper.clients.programs import Failed, Missing, need, run
from tests.zookeeper.servers import Servers, hosts

SERVERS = 1
PACKAGE = "node-zookeeper-client@1.1.3"
SERVICE = Path(__file__).with_name("nodejs.js")


def judge(servers: Servers, directory: Path) -> str:
    """Raises Missing or Failed; otherwise what was checked."""
    node = need("node", "Node.js, from your distribution")
    npm = need("npm", "Node.js, from your distribution")
    modules = directory / "node"
    modules.mkdir()
    try:
        run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(modules), PACKAGE], where=modules)
    except Failed as failure:
        raise Missing(f"npm cannot install {PACKAGE}: {str(failure).strip().splitlines()[-1]}") from None
    return run([node, str(SERVICE), hosts(servers), str(modules / "node_modules")]).strip()
