"""`jkcs recover` and `jkcs rebuild`: what is left to do with a stopped node's directory after a disaster.

Both say first what they found and what will be lost. The steps themselves are in `journal/storage/rescue.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from jkcs_server.cli.offline import LIMITS, as_document, describe, opened
from jkcs_server.cli.render import show_json
from jkcs_server.config import Address, ConfigError, parse_peers, show_address
from journal.clock import wall_milliseconds
from journal.errors import StorageError
from journal.storage import rescue
from journal.storage.rescue import INDEX_JUMP, TERM_JUMP, Findings
from journal.values import Configuration, NodeId

DATA_DIR = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("data_dir", type=DATA_DIR)
@click.option("--force-new-cluster", is_flag=True, required=True, help="Confirms that the old cluster is given up.")
@click.option("--member", "members", multiple=True, metavar="NAME=HOST:PORT", help="A voter of the new cluster.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def recover(data_dir: Path, force_new_cluster: bool, members: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Make a cluster out of a single survivor, when the majority is lost for good.

    DATA_DIR belongs to a stopped node. All that it has is kept, and becomes the truth. What the lost members
    acknowledged and this one never got is gone: choose the survivor whose log goes furthest, and use this only
    when the others will never come back. Wipe their disks before they may run again.

    With --member, given once for each, the new cluster has these voters; this node must be one of them. Start
    this node first and the others, with empty directories, one after the other.

    \b
    Examples:
      jkcs recover --force-new-cluster /var/lib/jkcs --dry-run
      jkcs recover --force-new-cluster /var/lib/jkcs

    Exit codes: 0 done, 1 refused, 2 wrong usage.
    """
    if not force_new_cluster:
        raise click.UsageError("--force-new-cluster is missing: it confirms that the old cluster is given up")
    addresses = _parse_members(members)
    with opened("recover", data_dir, as_json=as_json) as disk:
        found = rescue.inspect(disk, LIMITS)
        me = found.identity.node
        names = sorted(addresses) or [me]
        if me not in names:
            raise StorageError(f"this is the directory of node {me}, which is not among the members given")
        if found.refusal is not None:
            raise StorageError(f"a node would not start on it: {found.refusal}")
        if not as_json:
            _say(*describe(found), *_recovery(found, names))
        last = found.last.index + INDEX_JUMP
        if not dry_run:
            configuration = _configuration(names, addresses, found)
            last = rescue.force_new_cluster(disk, LIMITS, configuration, wall_milliseconds()).index
    if as_json:
        show_json({"done": not dry_run, "found": as_document(found), "members": names, "last_index": last})
    elif dry_run:
        _say("nothing was changed")
    else:
        _say(f"done; start it with: jkcs serve --me {me} --peers {_peers(names, addresses)} --data-dir {data_dir}")


def _configuration(names: Sequence[str], addresses: Mapping[str, Address], found: Findings) -> Configuration:
    """The members, with the addresses that were given or are known."""
    known = dict(found.configuration.addresses)
    known.update((NodeId(name), show_address(address)) for name, address in addresses.items())
    voters = tuple(map(NodeId, names))
    return Configuration(voters, addresses=tuple((node, known[node]) for node in voters if node in known))


def _recovery(found: Findings, names: Sequence[str]) -> Iterator[str]:
    term = max(found.hard_state.term, found.last.term) + TERM_JUMP
    kept = found.last.index
    yield f"kept: everything up to index {kept}"
    yield f"lost: whatever the other members acknowledged behind index {kept}"
    yield f"the new cluster: {', '.join(names)}; term {term}, indices go on behind {kept + INDEX_JUMP}"


def _parse_members(members: Sequence[str]) -> Mapping[str, Address]:
    if not members:
        return {}
    try:
        return parse_peers(",".join(members))
    except ConfigError as error:
        raise click.BadParameter(error.why, param_hint="--member") from None


def _peers(names: Sequence[str], addresses: Mapping[str, Address]) -> str:
    return ",".join(f"{name}={show_address(addresses[name]) if name in addresses else 'HOST:PORT'}" for name in names)


@click.command()
@click.argument("data_dir", type=DATA_DIR)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rebuild(data_dir: Path, dry_run: bool, as_json: bool) -> None:
    """Let a node whose data are damaged or diverged be refilled by its peers.

    DATA_DIR belongs to a stopped node. Its log and snapshots are dropped; its name, term and vote stay, and all that
    it acknowledged is marked as withheld: started again, it gets everything from the leader, and neither votes nor
    campaigns until it has. The other members must have a majority without it.

    \b
    Examples:
      jkcs rebuild /var/lib/jkcs --dry-run
      jkcs rebuild /var/lib/jkcs

    Exit codes: 0 done, 1 refused, 2 wrong usage.
    """
    with opened("rebuild", data_dir, as_json=as_json) as disk:
        found = rescue.inspect(disk, LIMITS)
        rescue.check_rebuild(found)
        if not as_json:
            _say(*describe(found))
            _say("dropped: the log and all snapshots; kept: name, term and vote")
            _say(f"it will not vote until its peers have given it everything up to index {found.acknowledged}")
        if not dry_run:
            rescue.rebuild(disk, LIMITS)
    if as_json:
        show_json({"done": not dry_run, "found": as_document(found), "withheld_up_to": found.acknowledged})
    else:
        _say("nothing was changed" if dry_run else "done; start it as before")


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line)
