"""ZooKeeper's reconfig: its request in, what administrators ask of a cluster out, its answer in the end.

A server is `server.<name>=<host>:<port>:<port>[:role][;client address]`, as `/zookeeper/config` shows it; of the two
ports the first is where peers speak. A request changes the voters, or one node that does not vote.
Called by `zookeeper`; the leader decides, through the desk, with all that it asks of administrators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK, AdminDenied, BadArguments, BadVersion, ChangeRefused, JkcsError, NoAuth
from jkcs_client.protocol.jute import buffer, read_long, read_text
from jkcs_server.serving.connection import Desk
from jkcs_server.serving.zookeeper_answers import stat_bytes
from jkcs_server.tree.acl import WRITE, Ids, allows
from jkcs_server.tree.keytree import KeyTree

CONFIG_PATH = "/zookeeper/config"
_ANY_VERSION = -1
_PREFIX = "server."
_STABLE = "stable"
_CODES = {AdminDenied.code: zk.RECONFIG_DISABLED, ChangeRefused.code: zk.NEW_CONFIG_NO_QUORUM}


class ReconfigFailed(JkcsError):
    """Carries ZooKeeper's code for it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"reconfig: {code}")
        # Of this very failure, not of the kind.
        self.code = code  # type: ignore[misc]


class Reconfig:
    """One request, from its record to its answer."""

    __slots__ = ("_code", "_done", "joining", "leaving", "members", "version")

    def __init__(self, body: bytes, at: int) -> None:
        """Raises one of `jute.FAULTS`."""
        self.joining, at = read_text(body, at)
        self.leaving, at = read_text(body, at)
        self.members, at = read_text(body, at)
        self.version, at = read_long(body, at)
        self._code = OK
        self._done: Callable[[], None]

    def run(self, desk: Desk, tree: KeyTree, ids: Ids, local: bool, done: Callable[[], None]) -> None:
        """Have it done. `done` is called once, now or later; then `answer` has the answer."""
        self._done = done

        def begun(code: int, result: Any) -> None:
            self._finish(code)

        def described(code: int, result: Any) -> None:
            if code != OK:
                self._finish(code)
                return
            try:
                node = tree.find(CONFIG_PATH)
                if node is not None and not allows(node.acl, WRITE, ids):
                    raise NoAuth(CONFIG_PATH)
                name, arguments = self._change(result)
            except JkcsError as error:
                self._finish(error.code)
                return
            if name:
                desk.administrate(name, arguments, local, begun)
            else:
                self._finish(OK)

        desk.administrate("configuration", {}, local, described)

    def answer(self, tree: KeyTree) -> bytes:
        """What the configuration now is. Raises a JkcsError when the change was refused."""
        if self._code != OK:
            raise ReconfigFailed(self._code)
        node = tree.find(CONFIG_PATH)
        assert node is not None, CONFIG_PATH
        return buffer(node.data) + stat_bytes(node.stat())

    def _finish(self, code: int) -> None:
        self._code = _CODES.get(code, code)
        self._done()

    def _change(self, present: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The administrator's request that leads from the present configuration to the one wanted; "" for none."""
        if present["phase"] != _STABLE:
            raise ReconfigFailed(zk.RECONFIG_IN_PROGRESS)
        if self.version != _ANY_VERSION and self.version != present["index"]:
            raise BadVersion(CONFIG_PATH)
        roles = dict.fromkeys(present["voters"], "voter") | dict.fromkeys(present["observers"], "observer")
        wanted = dict(roles)
        addresses: dict[str, str] = {}
        if self.members:
            if self.joining or self.leaving:
                raise BadArguments("a reconfig names all members, or those that join and leave")
            wanted = {}
        for text in _listed(self.members or self.joining):
            name, role, address = parse_server(text)
            wanted[name] = role
            addresses[name] = address
        for text in _listed(self.leaving):
            wanted.pop(text.removeprefix(_PREFIX), None)
        return _step(roles, wanted, addresses)


def parse_server(text: str) -> tuple[str, str, str]:
    """Name, role and peers' address of a `server.` line. Raises BadArguments."""
    head, equals, tail = text.partition("=")
    parts = tail.split(";")[0].split(":")
    role = "voter"
    if parts[-1] in ("participant", "observer"):
        role = "observer" if parts.pop() == "observer" else "voter"
    if not head.startswith(_PREFIX) or head == _PREFIX or not equals or len(parts) < 2 or not parts[0]:
        raise BadArguments(f"no server: {text[:100]!r}")
    # With brackets, an IPv6 address has colons of its own.
    host, port = (":".join(parts[:-2]), parts[-2]) if len(parts) > 2 else (parts[0], parts[1])
    if not (port.isascii() and port.isdigit()):
        raise BadArguments(f"no port: {port[:20]!r}")
    return head.removeprefix(_PREFIX), role, f"{host}:{port}"


def _listed(text: str) -> list[str]:
    """Elements between commas or on lines of their own; a line that is about no server is left out."""
    found = [each.strip() for each in text.replace("\n", ",").split(",")]
    return [each for each in found if each and not each.startswith("version=")]


def _step(roles: dict[str, str], wanted: dict[str, str], addresses: dict[str, str]) -> tuple[str, dict[str, Any]]:
    voters = [name for name, role in roles.items() if role == "voter"]
    new_voters = [name for name, role in wanted.items() if role == "voter"]
    others = [
        name
        for name in sorted({*roles, *wanted})
        if roles.get(name) != wanted.get(name) and "voter" not in (roles.get(name), wanted.get(name))
    ]
    demoted = [name for name in voters if wanted.get(name) == "observer"]
    if not new_voters:
        raise BadArguments("nobody would vote")
    if set(voters) == set(new_voters):
        if not others:
            return "", {}
        if len(others) > 1:
            raise BadArguments("one observer comes or goes at a time")
        name = others[0]
        role = wanted.get(name, "none")
        return "convert_role", {"node": name, "role": role, "address": addresses.get(name, "")}
    if others:
        raise BadArguments("voters and observers change one after the other")
    if demoted:
        if len(demoted) > 1 or len(new_voters) != len(voters) - 1 or not set(new_voters) < set(voters):
            raise BadArguments("one voter becomes an observer at a time")
        return "convert_role", {"node": demoted[0], "role": "observer", "address": addresses.get(demoted[0], "")}
    new = {name: addresses.get(name, "") for name in new_voters}
    return "update_voters", {"old": sorted(voters), "new": new}
