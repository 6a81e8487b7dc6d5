"""The commands of the shell, over a client whose cluster is a dictionary."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from jkcs_client import Event
from jkcs_client.protocol.errors import BadVersion, NodeExists, NoNode, NotEmpty, SessionExpired
from jkcs_client.protocol.messages import EventKind
from jkcs_server.cli.shell_commands import COMMANDS, Leave, Shell
from jkcs_server.cli.shell_lines import split_line
from tests.unit.jkcs_server.cli.fake_client import FakeClient

pytestmark = pytest.mark.asyncio


@pytest.fixture
def client() -> FakeClient:
    return FakeClient().put("/app/config/db", b"host=a").put("/app/workers/w-e", b"\xff").put("/zoo")


@pytest.fixture
def shell(client: FakeClient) -> Shell:
    return Shell(client)  # type: ignore[arg-type]


async def said(shell: Shell, capsys: pytest.CaptureFixture[str], line: str) -> str:
    """What one line of commands prints."""
    for words in split_line(line):
        await shell.run(words)
    return capsys.readouterr().out


async def said_json(shell: Shell, capsys: pytest.CaptureFixture[str], line: str) -> Any:
    shell.as_json = True
    return json.loads(await said(shell, capsys, line))


async def test_ls_lists_names_one_a_line(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """A name a line is what other programs read."""
    assert await said(shell, capsys, "ls") == "app\nzoo\n"
    assert await said(shell, capsys, "ls app/config") == "db\n"
    assert await said(shell, capsys, "ls /zoo") == ""
    assert await said_json(shell, capsys, "ls /app") == ["config", "workers"]


async def test_ls_recursive_lists_paths_parents_first(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """In this order they can be created again."""
    expected = "/app/config\n/app/config/db\n/app/workers\n/app/workers/w-e\n"
    assert await said(shell, capsys, "ls -R /app") == expected


async def test_ls_long_shows_what_each_key_is(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Version, size and kind at a glance."""
    head, line = (await said(shell, capsys, "ls -l app/workers")).splitlines()
    assert head.split() == ["VERSION", "SIZE", "CHILDREN", "MODIFIED", "KIND", "NAME"]
    assert line.split()[:3] == ["0", "1", "0"]
    assert line.split()[-2:] == ["ephemeral", "w-e"]
    assert await said(shell, capsys, "ls -l /zoo") == ""
    [first, _] = await said_json(shell, capsys, "ls -l /app")
    assert (first["name"], first["num_children"]) == ("config", 1)


async def test_failure_while_many_stats_are_read_is_one_plain_error(client: FakeClient, shell: Shell) -> None:
    """Who runs the command knows errors of the client, not groups of them."""
    stat = client.exists

    async def exists(path: str) -> Any:
        if path == "/zoo":
            raise SessionExpired
        return await stat(path)

    client.exists = exists  # type: ignore[method-assign]
    with pytest.raises(SessionExpired):
        await shell.run(["ls", "-l", "/"])


async def test_tree_draws_everything_below(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """The shape of the tree is what it is for."""
    drawn = await said(shell, capsys, "tree")
    assert drawn.replace("├", "|").replace("└", "`").replace("│", "|").replace("─", "-") == (
        "/\n|-- app\n|   |-- config\n|   |   `-- db\n|   `-- workers\n|       `-- w-e\n`-- zoo\n"
    )
    assert await said_json(shell, capsys, "tree /app/config") == {
        "path": "/app/config",
        "children": [{"path": "/app/config/db", "children": []}],
    }


async def test_tree_deeper_than_the_stack_is_drawn(
    client: FakeClient, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path may have two thousand names; whoever writes one must not break the shell of others."""
    client._names = lambda path: ["a"] if len(path) < 3000 else []  # type: ignore[method-assign]
    client._check = lambda path, version=-1: None  # type: ignore[method-assign]
    assert (await said(shell, capsys, "tree")).count("\n") == 1501


async def test_key_deleted_while_the_tree_is_walked_is_left_out(
    client: FakeClient, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tree changes while we look; that is not an error."""
    names = client._names
    client._names = lambda path: [*names(path), "gone"] if path == "/zoo" else names(path)  # type: ignore[method-assign]
    assert await said(shell, capsys, "ls -R /zoo") == "/zoo/gone\n"


async def test_cd_moves_to_keys_that_exist(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error must not leave the user in a place that is not there."""
    assert await said(shell, capsys, "cd /app; cd config; pwd; ls") == "/app/config\ndb\n"
    with pytest.raises(NoNode):
        await shell.run(["cd", "nowhere"])
    assert shell.current == "/app/config"
    await shell.run(["cd", ".."])
    assert shell.current == "/app"
    await shell.run(["cd"])
    assert shell.current == "/"


async def test_get_prints_text_or_hexadecimal(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the value is, the terminal survives it."""
    assert await said(shell, capsys, "get /app/config/db; get /app/workers/w-e") == "host=a\n0xff\n"
    document = await said_json(shell, capsys, "get /app/workers/w-e")
    assert (document["path"], document["value_hex"]) == ("/app/workers/w-e", "ff")
    assert document["stat"]["ephemeral_owner"] == 0xABC


async def test_stat_prints_every_field(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the names by which ZooKeeper's users know them."""
    lines = dict(line.split(maxsplit=1) for line in (await said(shell, capsys, "stat /app/workers/w-e")).splitlines())
    assert lines["czxid"] == "1"
    assert lines["ephemeral_owner"] == "0xabc"
    assert lines["mtime"].startswith("2000")
    with pytest.raises(NoNode):
        await shell.run(["stat", "/nowhere"])


async def test_create_set_and_delete_change_keys(
    client: FakeClient, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole life of a key."""
    assert await said(shell, capsys, "create -p /a/b 'x y'; set /a/b z -v 0; get /a/b") == "/a/b\nversion 1\nz\n"
    assert await said(shell, capsys, "delete /a/b -v 1; create /a/c; create /a/d; delete /a/c /a/d") == "/a/c\n/a/d\n"
    with pytest.raises(NodeExists):
        await shell.run(["create", "/a"])
    with pytest.raises(BadVersion):
        await shell.run(["set", "/a", "x", "-v", "7"])
    with pytest.raises(NotEmpty):
        await shell.run(["delete", "/app"])
    await shell.run(["delete", "-r", "/app"])
    assert sorted(client.values) == ["/", "/a", "/zoo"]
    assert await said_json(shell, capsys, "create /zoo/x") == {"path": "/zoo/x"}


async def test_sequential_key_may_have_an_empty_name(client: FakeClient, shell: Shell) -> None:
    """As in ZooKeeper: the number alone below the queue."""
    await shell.run(["create", "-s", "/zoo/"])
    await shell.run(["create", "-s", "/zoo/w-"])
    assert client._names("/zoo") == ["0000000007", "w-0000000008"]


async def test_value_may_begin_with_a_dash_after_two_dashes(client: FakeClient, shell: Shell) -> None:
    """-1 is a value, too."""
    await shell.run(["set", "/zoo", "--", "-1"])
    assert client.values["/zoo"] == b"-1"


async def test_root_is_not_deleted(client: FakeClient, shell: Shell) -> None:
    """`delete -r /` would be the whole cluster's data."""
    with pytest.raises(click.UsageError, match="the root cannot be deleted"):
        await shell.run(["delete", "-r", "/"])
    assert "/zoo" in client.values


async def test_place_above_is_left_to_when_the_current_key_is_deleted(shell: Shell) -> None:
    """The next relative path must mean something."""
    await shell.run(["cd", "/app/config/db"])
    await shell.run(["delete", "-r", "/app/config"])
    assert shell.current == "/app"


async def test_watch_prints_an_event_a_line(
    client: FakeClient, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, at once, so that it can be piped."""
    client.events = [Event(EventKind.CREATED, "/a", 5), Event(EventKind.CHILDREN, "/", 5)]
    assert await said(shell, capsys, "watch /") == "created   /a  at 5\nchildren  /  at 5\n"
    shell.as_json = True
    lines = (await said(shell, capsys, "watch -r /")).splitlines()
    assert json.loads(lines[0]) == {"kind": "created", "path": "/a", "index": 5}


async def test_help_tells_of_every_command(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that help does not name does not exist for most users."""
    out = await said(shell, capsys, "help")
    assert [line.split()[0] for line in out.splitlines()[:-1]] == list(COMMANDS)
    assert "--recursive" in await said(shell, capsys, "help ls")
    assert "--recursive" in await said(shell, capsys, "ls --help")


async def test_wrong_usage_is_told_and_nothing_is_done(shell: Shell) -> None:
    """Each with the word that is wrong."""
    for words, why in [
        (["lss"], "no command 'lss'"),
        (["help", "lss"], "no command 'lss'"),
        (["get"], "Missing argument"),
        (["ls", "-x"], "No such option"),
        (["set", "/zoo"], "Missing argument"),
        (["set", "/zoo", "x", "-v", "new"], "not a valid integer"),
    ]:
        with pytest.raises(click.UsageError) as caught:
            await shell.run(words)
        assert why in caught.value.format_message()


async def test_exit_leaves(shell: Shell) -> None:
    """And nothing after it on the line runs."""
    with pytest.raises(Leave):
        await shell.run(["exit"])
