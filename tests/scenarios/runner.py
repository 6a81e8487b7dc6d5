"""Runs stories about a Raft cluster that are written as text, and compares everything they show.

A story is a file of steps. A step is a command, a line `----`, and what the command shows; an empty line
ends it. Lines that start with `#` tell the story. With JKCS_REWRITE=1 the tests write what was shown into
the files instead of comparing it; the change is then reviewed like any other.

    cluster SIZE [LIMIT=VALUE ...]     nodes n1, n2, ... (`learners=N`, `observers=N`: the last N are such; `spare=N`:
                                       so many more that do not belong to the cluster)
    log NODE TERM,TERM,... [term=T]    restart a node with this log; the same terms give the same entries
    campaign NODE                      its election timeout passes
    wait SECONDS [quiet]               time passes; what is sent is delivered, what is written is saved
    propose NODE PAYLOAD [COUNT]       commands for the leader
    read NODE CONTEXT [FLOOR]          a linearizable read
    transfer NODE TARGET               hand the leadership over
    deliver FROM->TO [COUNT]           the oldest messages on a link (default: all that are on it)
    drop FROM->TO [COUNT]              the same, lost
    repeat FROM->TO                    deliver the oldest message on a link, and leave it there
    delay FROM->TO                     put the oldest message on a link behind all others
    save NODE [COUNT]                  its disk finishes its oldest writes (default: all)
    settle [quiet]                     save and deliver until nothing moves
    crash NODE [kept=N]                lose all but the disk; N unfinished writes made it all the same
    restart NODE
    damage NODE INDEX                  its disk loses what it had acknowledged behind INDEX; it restarts
    lost NODE PEER                     NODE sees its connection with PEER reset
    isolate NODE / heal                cut a node off, both ways / mend all links
    snapshot NODE [keep=N]             snapshot the machine, cut the log behind the last N applied entries
    voters NODE NAME,NAME,... [old=..] make these the voters, where `old` are the voters now (default: as NODE knows)
    role NODE NAME ROLE                make NAME a voter, an observer or none
    prefer NODE NAME                   let NAME lead whenever it can
    cut FROM->TO                       a direction fails
    pause NODE / resume NODE           its time stands still / goes on
    forge FROM->TO KIND TERM [I/T]     a message that FROM did not send now: prevote, vote, heartbeat,
                                       timeoutnow, or its newest snapshot
    members                            what configuration each node has, and from which index
    status / logs / bag                what nodes are / what their disks hold / what is on its way

A position is shown as INDEX/TERM, an entry as INDEX/TERM or FIRST-LAST/TERM.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from journal.errors import Busy, ChangeRefused, NotLeader
from journal.limits import Limits
from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PullReply,
    PullRequest,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.values import Configuration, Entry, HardState, Index, NodeId, Term
from tests.support.raft_checks import RaftChecks
from tests.support.raft_cluster import Cluster, Node, chain, node_names


def run(text: str) -> str:
    """Run a story; returns it with what its commands showed this time."""
    story = Story()
    lines: list[str] = []
    pending: str | None = None
    skipping = False
    for line in text.splitlines():
        if skipping:
            skipping = bool(line.strip())
            if not skipping:
                lines.append("")
        elif line == "----":
            assert pending is not None, "---- without a command"
            lines += [line, *(story.do(pending) or ["ok"])]
            pending, skipping = None, True
        else:
            if line.strip() and not line.startswith("#"):
                assert pending is None, f"no ---- after {pending!r}"
                pending = line
            lines.append(line)
    assert pending is None, f"no ---- after {pending!r}"
    return "\n".join(lines).rstrip("\n") + "\n"


def stories() -> list[Path]:
    return sorted((Path(__file__).parent / "raft").glob("*.txt"))


class TracedCluster(Cluster):
    """A cluster that tells what happens in it."""

    def __init__(self, size: int, trace: Callable[[str], None], **options: object) -> None:
        self.trace = trace
        super().__init__(size, **options)  # type: ignore[arg-type]  # the options are Cluster's own
        self.checks = _TracedChecks(self.configuration, trace)
        self.checks.nodes.update(self.nodes)

    def post(self, sender: NodeId, to: NodeId, message: Message) -> None:
        lost = " (cut)" if (sender, to) in self.cut else ""
        self.trace(f"  {sender}->{to} {describe(message)}{lost}")
        super().post(sender, to, message)

    def hand(self, sender: NodeId, to: NodeId, message: Message) -> None:
        gone = "" if self.nodes[to].up else " (down)"
        self.trace(f"{to} gets {describe(message)} from {sender}{gone}")
        super().hand(sender, to, message)


class _TracedChecks(RaftChecks):
    def __init__(self, configuration: Configuration, trace: Callable[[str], None]) -> None:
        super().__init__(configuration)
        self.trace = trace

    def on_saved(self, node: Node) -> None:
        state = node.disk.hard_state
        vote = f" vote={state.vote}" if state.vote else ""
        self.trace(f"{node.name} saved: term={state.term}{vote} last={node.disk.last.index}/{node.disk.last.term}")
        super().on_saved(node)

    def on_committed(self, node: Node, entries: list[Entry]) -> None:
        self.trace(f"  {node.name} applies {' '.join(map(describe_entry, entries))}")
        super().on_committed(node, entries)


class Story:
    """The state of one story."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.cluster = TracedCluster(1, self.shown.append)

    def do(self, command: str) -> list[str]:
        """Carry out one command; returns what it shows."""
        name, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        arguments = [word for word in words if "=" not in word]
        self.shown.clear()
        before = {name: (len(node.leadership), len(node.reads)) for name, node in self.cluster.nodes.items()}
        getattr(self, f"do_{name}")(*arguments, **options)
        for node in self.cluster.nodes.values():
            seen, read = before.get(node.name, (0, 0))
            for leadership in node.leadership[seen:]:
                serving = ", serving" if leadership.serving else ""
                self.shown.append(
                    f"{node.name} is {leadership.role.value} of term {leadership.term}, "
                    f"leader {leadership.leader or '-'}{serving}"
                )
            for grant in node.reads[read:]:
                self.shown.append(f"{node.name} may answer read {grant.context} at {grant.index}")
        return list(self.shown)

    def do_cluster(self, size: str, learners: str = "0", observers: str = "0", spare: str = "0", **limits: str) -> None:
        names = node_names(int(size))
        receivers = names[: len(names) - int(observers)]
        voters = receivers[: len(receivers) - int(learners)]
        configuration = Configuration(voters, learners=receivers[len(voters) :], observers=names[len(receivers) :])
        values = Limits(**{name: int(value) for name, value in limits.items()})
        self.cluster = TracedCluster(0, self.shown.append, limits=values, configuration=configuration, spare=int(spare))

    def do_voters(self, name: str, new: str, old: str = "") -> None:
        node = self._node(name)
        present = tuple(old.split(",")) if old else node.core.configuration.voters
        self._change(node, lambda: node.core.update_voters(present, new.split(","), {}, self.cluster.now))

    def do_role(self, name: str, who: str, role: str) -> None:
        node = self._node(name)
        self._change(node, lambda: node.core.convert_role(NodeId(who), role, "", self.cluster.now))

    def do_prefer(self, name: str, who: str) -> None:
        node = self._node(name)
        self._change(node, lambda: node.core.set_preferred_leader(NodeId(who), self.cluster.now))

    def _change(self, node: Node, ask: Callable[[], Index]) -> None:
        try:
            self.shown.append(f"index {ask()}")
        except (Busy, ChangeRefused, NotLeader) as error:
            self.shown.append(f"refused: {error}")
        node.run()

    def do_cut(self, link: str) -> None:
        sender, to = link.split("->")
        self.cluster.cut.add((NodeId(sender), NodeId(to)))

    def do_pause(self, name: str) -> None:
        self._node(name).paused = True

    def do_resume(self, name: str) -> None:
        self._node(name).paused = False

    def do_forge(self, link: str, kind: str, term: str, last: str = "0/0") -> None:
        sender, to = link.split("->")
        index, last_term = map(int, last.split("/"))
        message = {
            "prevote": VoteRequest(Term(int(term)), Index(index), Term(last_term), True),
            "vote": VoteRequest(Term(int(term)), Index(index), Term(last_term)),
            "heartbeat": Heartbeat(Term(int(term)), Index(index), 1),
            "timeoutnow": TimeoutNow(Term(int(term))),
        }.get(kind)
        if kind == "snapshot":
            meta = self._node(sender).disk.snapshot
            assert meta is not None, f"{sender} has no snapshot"
            message = SnapshotChunk(Term(int(term)), meta, 0, b"")
        assert message is not None, kind
        self.cluster.hand(NodeId(sender), NodeId(to), message)

    def do_members(self) -> None:
        for node in self.cluster.up():
            configuration = node.core.configuration
            halves = zip(("voters", "outgoing", "learners", "observers", "target"), configuration.fields, strict=False)
            said = [
                f"{half} {' '.join(map(str, names))}" for half, names in halves if isinstance(names, list) and names
            ]
            if configuration.preferred:
                said.append(f"preferred {configuration.preferred}")
            self.shown.append(f"{node.name} at {node.core.configuration_index}: {', '.join(said)}")

    def do_log(self, name: str, terms: str, term: str = "0") -> None:
        node = self._node(name)
        node.crash()
        node.disk.entries = chain(*map(int, terms.split(",")))
        last = node.disk.last.term
        node.disk.hard_state = HardState(Term(max(int(term), last)))
        node.start()

    def do_campaign(self, name: str) -> None:
        node = self._node(name)
        self.cluster.now = max(self.cluster.now, node.core._election_at())
        node.core.tick(self.cluster.now)
        node.run()

    def do_wait(self, seconds: str, how: str = "") -> None:
        self.cluster.wait(float(seconds))
        if how == "quiet":
            self.shown.clear()

    def do_propose(self, name: str, payload: str, count: str = "1") -> None:
        node = self._node(name)
        index = node.core.propose(payload.encode(), int(count), 0, self.cluster.now)
        self.shown.append(f"index {index}")
        node.run()

    def do_read(self, name: str, context: str, floor: str = "0") -> None:
        node = self._node(name)
        if not node.core.read(int(context), self.cluster.now, floor=Index(int(floor))):
            self.shown.append("no leader")
        node.run()

    def do_transfer(self, name: str, target: str) -> None:
        node = self._node(name)
        if not node.core.transfer(NodeId(target), self.cluster.now):
            self.shown.append("no")
        node.run()

    def do_deliver(self, link: str, count: str = "1000") -> None:
        for _ in range(int(count)):
            at = self._oldest(link)
            if at is None:
                return
            self.cluster.deliver(at)

    def do_drop(self, link: str, count: str = "1000") -> None:
        for _ in range(int(count)):
            at = self._oldest(link)
            if at is None:
                return
            sender, to, message = self.cluster.bag.pop(at)
            self.shown.append(f"lost: {sender}->{to} {describe(message)}")

    def do_repeat(self, link: str) -> None:
        at = self._oldest(link)
        assert at is not None, f"nothing on {link}"
        self.cluster.hand(*self.cluster.bag[at])

    def do_delay(self, link: str) -> None:
        at = self._oldest(link)
        assert at is not None, f"nothing on {link}"
        self.cluster.bag.append(self.cluster.bag.pop(at))

    def do_save(self, name: str, count: str = "1000") -> None:
        node = self._node(name)
        for _ in range(int(count)):
            if not node.writes:
                return
            node.save()
            node.run()

    def do_settle(self, how: str = "") -> None:
        self.cluster.settle()
        if how == "quiet":
            self.shown.clear()

    def do_crash(self, name: str, kept: str = "0") -> None:
        self._node(name).crash(writes_kept=int(kept))

    def do_restart(self, name: str) -> None:
        self._node(name).start()

    def do_damage(self, name: str, index: str) -> None:
        node = self._node(name)
        node.crash()
        node.withheld = node.disk.last.index
        node.disk.entries = [entry for entry in node.disk.entries if entry.last <= int(index)]
        node.start()

    def do_lost(self, name: str, peer: str) -> None:
        node = self._node(name)
        node.core.peer_lost(NodeId(peer), self.cluster.now)
        node.run()

    def do_isolate(self, name: str) -> None:
        self.cluster.isolate(int(name.removeprefix("n")))

    def do_heal(self) -> None:
        self.cluster.heal()

    def do_snapshot(self, name: str, keep: str = "0") -> None:
        node = self._node(name)
        node.snapshot(keep=int(keep))
        self.shown.append(f"log starts after {node.disk.start.index}/{node.disk.start.term}")

    def do_status(self) -> None:
        for node in self.cluster.nodes.values():
            if not node.up:
                self.shown.append(f"{node.name} down")
                continue
            core = node.core
            self.shown.append(
                f"{node.name} {core.role.value} term={core.term} leader={core.leader or '-'} "
                f"last={core.last_index} durable={core.durable} commit={core.commit} applied={core.applied}"
            )
            for peer in core.progress():
                self.shown.append(f"  {peer.peer} {peer.state.value} match={peer.match} next={peer.next}")

    def do_logs(self) -> None:
        for node in self.cluster.nodes.values():
            entries = " ".join(map(describe_entry, node.disk.entries))
            start = node.disk.start
            self.shown.append(f"{node.name} {start.index}/{start.term} | {entries}".rstrip())

    def do_bag(self) -> None:
        self.shown += [f"{sender}->{to} {describe(message)}" for sender, to, message in self.cluster.bag]

    def _node(self, name: str) -> Node:
        return self.cluster.nodes[NodeId(name)]

    def _oldest(self, link: str) -> int | None:
        sender, to = link.split("->")
        for at, (by, at_node, _) in enumerate(self.cluster.bag):
            if (by, at_node) == (sender, to):
                return at
        return None


def describe_entry(entry: Entry) -> str:
    span = f"{entry.first}" if entry.first == entry.last else f"{entry.first}-{entry.last}"
    return f"{span}/{entry.term}"


def describe(message: Message) -> str:
    """A message in one line, its term first."""
    term = f"term={message.term}"
    match message:
        case VoteRequest(last_index=index, last_term=last, pre=pre, transfer=transfer):
            return f"{'PreVote' if pre else 'Vote'} {term} last={index}/{last}{' transfer' if transfer else ''}"
        case VoteReply(granted=granted, pre=pre):
            return f"{'PreVoteReply' if pre else 'VoteReply'} {term} {'granted' if granted else 'refused'}"
        case Append():
            entries = "".join(" " + describe_entry(entry) for entry in message.entries)
            after = f"{message.previous_index}/{message.previous_term}"
            return f"Append {term} after={after} commit={message.commit}{' |' + entries if entries else ''}"
        case AppendReply(refused=True):
            hint = f"{message.hint_index}/{message.hint_term}"
            return f"AppendReply {term} refused={message.refused_previous} hint={hint}"
        case AppendReply():
            return f"AppendReply {term} match={message.match}"
        case Heartbeat():
            return f"Heartbeat {term} commit={message.commit} round={message.round}"
        case HeartbeatReply():
            return f"HeartbeatReply {term} round={message.round}"
        case TimeoutNow():
            return f"TimeoutNow {term}"
        case ReadRequest():
            return f"ReadRequest {term} context={message.context} floor={message.floor}"
        case ReadReply():
            return f"ReadReply {term} context={message.context} index={message.index}"
        case SnapshotChunk():
            return f"SnapshotChunk {term} {message.meta.position.index}/{message.meta.position.term}"
        case PullRequest():
            return f"PullRequest {term} after={message.after}{' wait' if message.wait else ''}"
        case PullReply():
            entries = "".join(" " + describe_entry(entry) for entry in message.entries)
            return f"PullReply {term} commit={message.commit}{' |' + entries if entries else ''}"
        case SnapshotReply():
            return f"SnapshotReply {term} {message.index}{' installed' if message.installed else ''}"
    raise AssertionError(message)
