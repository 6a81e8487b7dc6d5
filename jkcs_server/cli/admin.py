"""`jkcs admin`: the members of a running cluster, their roles and snapshots, and all that a server tells of itself.

The commands are in modules of their own, by subject.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from jkcs_server.cli.main import LazyGroup

_MEMBERS = "jkcs_server.cli.admin_members"

COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "members": (_MEMBERS, "members", "Show every member, its role and how far it is."),
    "configuration": (_MEMBERS, "configuration", "Show the configuration, and a change under way."),
    "voters": (_MEMBERS, "voters", "List, set, add or remove voters."),
    "role": (_MEMBERS, "role", "Make a node a voter or an observer, or take it out."),
    "prefer": (_MEMBERS, "prefer", "Say who should lead whenever it can."),
    "transfer": (_MEMBERS, "transfer", "Hand leadership over now."),
    "snapshots": ("jkcs_server.cli.admin_snapshots", "snapshots", "List, take, download snapshots, or go back to one."),
    "status": ("jkcs_server.cli.admin_status", "status", "Show all that a server tells for monitoring."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def admin() -> None:
    """Change and watch a running cluster: members, roles, leadership, snapshots.

    Every command takes --url; any member will do, it asks the leader. Servers take these commands from their own
    machine only, unless they were started with --admin-from any.

    \b
    Examples:
      jkcs admin members
      jkcs admin voters add n4=10.0.0.4:2182
      jkcs admin transfer n2
      jkcs admin snapshots take

    Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 no server reachable.
    """
