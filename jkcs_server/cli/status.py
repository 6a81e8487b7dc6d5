"""`jkcs status`: every member of a cluster, asked one by one, in one table.

Asks each member itself, because what one member says of the others is only what it last heard.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from jkcs_client.address import parse
from jkcs_client.protocol.errors import BadArguments
from jkcs_server.cli.exits import FAILED, UNREACHABLE
from jkcs_server.cli.probe import ProbeFailed, ask_each, leader_of
from jkcs_server.cli.render import duration_text, show_json, show_table
from jkcs_server.cli.tls import context_to, with_tls
from jkcs_server.config import Address, ConfigError, parse_address, show_address

DEFAULT_URL = "jkcs://127.0.0.1:2181"
EVERY_INTERFACE = ("0.0.0.0", "::")  # noqa: S104 - recognized here, never bound
UNKNOWN_ADDRESS = "where it serves clients is not known; name it in URL"
NUMBERS = ("term", "applied", "lag", "sessions", "keys")
COLUMNS = ("node", "address", "role", "term", "leader", "applied", "lag", "sessions", "keys", "uptime", "why")

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Member:
    """One line of the answer: a member that answered, or one that should have."""

    node: str | None
    """None for an address of the URL where nobody answered and no member said it is theirs."""
    address: str | None
    """None for a member whose clients' address nobody knows."""
    status: Status | None
    error: str | None
    """Why there is no status."""
    lag: int | None
    """Log entries behind what the leader has committed; None when nobody knows."""


@click.command()
@click.argument("url", envvar="JKCS_URL", default=DEFAULT_URL)
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=2.0, show_default=True, help="Seconds per member.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@with_tls
def status(url: str, timeout: float, as_json: bool) -> None:
    """Show every member of a cluster: role, term, how far it has applied the journal, how many clients.

    URL names one or more members; the others are found through them. Default is $JKCS_URL, else
    jkcs://127.0.0.1:2181.

    \b
    Examples:
      jkcs status
      jkcs status jkcs://10.0.0.1:2181,10.0.0.2:2181
      jkcs status --json | jq '.members[] | select(.lag > 1000) | .node'

    Exit codes: 0 there is a leader, 1 there is none, 3 no member answered.
    """
    try:
        addresses = [(host, port) for host, port in parse(url).addresses]
    except BadArguments as error:
        raise click.BadParameter(error.detail, param_hint="URL") from None
    members = survey(addresses, timeout, context_to(url))
    leader = known_leader([member.status for member in members if member.status is not None])
    if as_json:
        show_json({"leader": leader, "members": [as_document(member) for member in members]})
    else:
        columns = COLUMNS if any(member.error for member in members) else COLUMNS[:-1]
        show_table(columns, [as_row(member)[: len(columns)] for member in members], right=NUMBERS)
    if all(member.status is None for member in members):
        if not as_json:
            click.echo("no member answered", err=True)
        sys.exit(UNREACHABLE)
    if leader is None:
        if not as_json:
            click.echo("no leader", err=True)
        sys.exit(FAILED)


def survey(addresses: Iterable[Address], timeout: float, tls: ssl.SSLContext | None = None) -> list[Member]:
    """Ask the addresses, then the members they know of; one `Member` each, in order of their names."""
    answers = ask_each(addresses, timeout=timeout, tls=tls)
    known = _known_members(answers.values())
    rest = [each.clients for each in known.values() if each.clients is not None and each.clients not in answers]
    answers.update(ask_each(rest, timeout=timeout, tls=tls))
    return _members(answers, _known_members(answers.values()))


@dataclass(slots=True)
class Known:
    """What the members that answered say of a member."""

    peers: Address
    """Where it speaks to the other members."""
    clients: Address | None
    """Where clients reach it, if anybody knows."""


def _known_members(answers: Iterable[Status | ProbeFailed]) -> dict[str, Known]:
    """Every member any server has told us of."""
    known: dict[str, Known] = {}
    for answer in answers:
        if not isinstance(answer, ProbeFailed):
            for member in answer["members"]:
                peers = _peer_address(member)
                found = known.setdefault(member["node"], Known(peers, None))
                found.clients = found.clients or _client_address(member, peers)
    return known


def _peer_address(member: Mapping[str, Any]) -> Address:
    """Without a host, and port 0, for one that has a free port of its own choice: it is alone."""
    return parse_address("peer_address", member["peer_address"]) if member["peer_address"] else ("", 0)


def _client_address(member: Mapping[str, Any], peers: Address) -> Address | None:
    if not member["client_address"]:
        return None
    try:
        host, port = parse_address("client_address", member["client_address"])
    except ConfigError:
        return None  # what one member says of itself must not hide the others
    # When it listens on every interface, the one its peers use is our best guess.
    return (peers[0] if host in EVERY_INTERFACE else host), port


def _guess_addresses(known: dict[str, Known], answered: Iterable[str], failed: Iterable[Address]) -> None:
    """Give silent members the addresses of the URL where nobody answered, as far as there is no doubt.

    Only a member itself knows where it serves clients. Of one that never answered we know its peers' address:
    the only silent address on that host is its own. So is the last one left for the last one left.
    """
    silent = [each for name, each in known.items() if name not in answered and each.clients is None]
    free = [address for address in failed if all(each.clients != address for each in known.values())]
    for each in silent:
        here = [address for address in free if address[0] == each.peers[0]]
        if len(here) == 1 and sum(other.peers[0] == each.peers[0] for other in silent) == 1:
            each.clients = here[0]
    silent = [each for each in silent if each.clients is None]
    free = [address for address in free if all(each.clients != address for each in known.values())]
    if len(silent) == len(free) == 1:
        silent[0].clients = free[0]


def _members(answers: Mapping[Address, Status | ProbeFailed], known: dict[str, Known]) -> list[Member]:
    answered: dict[str, tuple[Address, Status]] = {}
    failed: dict[Address, str] = {}
    for address, answer in answers.items():
        if isinstance(answer, ProbeFailed):
            failed[address] = str(answer)
        else:
            answered.setdefault(answer["node"], (address, answer))
    leader = _leading([status for _, status in answered.values()])
    members = [
        Member(name, show_address(address), status, None, _lag(leader, name, status))
        for name, (address, status) in answered.items()
    ]
    _guess_addresses(known, answered, failed)
    for name, each in known.items():
        if name not in answered:
            at = each.clients
            why = UNKNOWN_ADDRESS if at is None else failed.pop(at, "not asked")
            members.append(Member(name, None if at is None else show_address(at), None, why, _lag(leader, name, None)))
    members.sort(key=lambda member: member.node or "")
    members += [Member(None, show_address(at), None, why, None) for at, why in failed.items()]
    return members


def known_leader(statuses: list[Status]) -> str | None:
    """Who leads, by its own word; else whom those in the highest term follow, if that one was not heard itself."""
    leader = leader_of(statuses)
    if leader is not None or not statuses:
        return leader
    told: str | None = max(statuses, key=lambda status: status["term"])["leader"]
    return told if told not in {status["node"] for status in statuses} else None


def _leading(statuses: list[Status]) -> Status | None:
    name = leader_of(statuses)
    return next((status for status in statuses if status["node"] == name), None)


def _lag(leader: Status | None, name: str, status: Status | None) -> int | None:
    if leader is None:
        return None
    reached = status["applied_index"] if status is not None else _match_index(leader, name)
    return None if reached is None else max(0, leader["commit_index"] - reached)


def _match_index(leader: Status, name: str) -> int | None:
    """How far the leader knows a member's log to agree with its own."""
    found: list[int | None] = [each["match_index"] for each in leader["members"] if each["node"] == name]
    return found[0] if found else None


def as_row(member: Member) -> list[str]:
    """The cells of `COLUMNS`; the last one says why there is no answer."""
    lag = "" if member.lag is None else str(member.lag)
    start = [member.node or "?", member.address or "?"]
    status = member.status
    if status is None:
        return [*start, "unreachable", "", "", "", lag, "", "", "", member.error or ""]
    return [
        *start,
        status["role"],
        str(status["term"]),
        status["leader"] or "none",
        str(status["applied_index"]),
        lag,
        str(status["sessions"]),
        str(status["keys"]),
        duration_text(status["uptime_s"]),
        "",
    ]


def as_document(member: Member) -> dict[str, Any]:
    """For JSON: what the member said, and what was found out about it."""
    said = {name: value for name, value in (member.status or {}).items() if name not in ("members", "node")}
    return {
        "node": member.node,
        "address": member.address,
        "reachable": member.status is not None,
        "error": member.error,
        "lag": member.lag,
        **said,
    }
