"""One seed from beginning to end: the storm, in which only safety is demanded, then the calm.

In the calm a random quorum is healed and the others stay broken, each in its own way, for ever. Within
twenty election timeouts the healed ones must have a leader, commit, agree and answer reads; and the leader
must then stay.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from journal.raft.core import Core
from journal.raft.ready import Role
from journal.values import Configuration
from tests.core_simulation.faults import Nemesis
from tests.core_simulation.ghost import Broken, broken, is_quorum
from tests.core_simulation.load import Load
from tests.core_simulation.node import Node
from tests.core_simulation.plan import Fault, Plan, draw_plan
from tests.core_simulation.world import World

CALM_TIMEOUTS = 20
STABLE_SECONDS = 2.0
STEP_SECONDS = 0.25
FOR_EVER = 1e9
HALVES = ("voters", "outgoing", "learners", "observers", "target")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed. `invariant` is empty when every promise was kept."""

    seed: int
    plan: Plan
    invariant: str
    detail: str
    simulated_seconds: float
    cpu_seconds: float
    calm_seconds: float
    """From the healing to a working cluster; 0 when none was demanded."""
    commits: int
    elections: int
    grants: int
    fingerprint: int
    counts: Counter[str]


def run_seed(seed: int, only: frozenset[Fault] | None = None, echo: Callable[[str], None] | None = None) -> Outcome:
    """Run a seed. `only` narrows its faults, `echo` gets each event as a line."""
    plan = draw_plan(seed, only)
    started = time.process_time()
    collecting = gc.isenabled()
    gc.disable()  # a run makes little rubbish with cycles, and is over in a second
    world = None
    invariant = detail = ""
    calm_seconds = 0.0
    try:
        world = World(plan, echo)
        calm_seconds = _play(world)
    except Broken as error:
        invariant, detail = error.invariant, str(error)
    except Exception as error:  # the top of a run: whatever the rules raise is a failure of this seed
        invariant, detail = type(error).__name__, _place(error)
    finally:
        if collecting:
            gc.enable()
    assert world is not None, detail
    ghost = world.ghost
    return Outcome(
        seed,
        plan,
        invariant,
        detail,
        world.now,
        time.process_time() - started,
        calm_seconds,
        len(ghost.committed),
        len(ghost.leaders),
        ghost.grants,
        world.fingerprint(),
        world.counts,
    )


def _play(world: World) -> float:
    load = Load(world)
    Nemesis(world)
    world.run_until(world.plan.storm_seconds)
    healed = _heal(world)
    if healed is None:
        world.count("safe halt")  # too many have lost what they had acknowledged
        return 0.0
    began = world.now
    end = began + CALM_TIMEOUTS * world.plan.timing.election_timeout
    while not _works(world, healed, load):
        if world.now >= end:
            broken("liveness", _why(world, healed))
    seconds = world.now - began
    _stays(world, healed)
    return seconds


def _heal(world: World) -> list[Node] | None:
    """Choose who is healed: a quorum that has lost nothing, and by chance some of the others."""
    random = Random(f"{world.plan.seed}/calm")
    nodes = list(world.nodes.values())
    random.shuffle(nodes)
    if random.random() < 0.5:  # a leader that stays broken is the harder case
        nodes.sort(key=lambda node: node.up and node.core.role is Role.LEADER)
    nodes.sort(key=lambda node: node.name == world.gone)
    healed: list[Node] = []
    enough = False
    for node in nodes:
        if not enough or (node.name != world.gone and random.random() < 0.4):
            healed.append(node)
        sound = {node.name for node in healed if not node.image.withheld_until}
        enough = enough or all(is_quorum(configuration, sound) for configuration in world.configurations())
    if not enough:
        return None
    world.calm = True
    world.network.calm()
    world.network.mend_all()
    for node in nodes:
        if node in healed:
            node.fuse = 0
            node.mend_disk()
            if not node.up:
                node.start()
            elif node.paused:
                node.resume()
        else:
            how = random.choice(("down", "cut off", "paused", "deaf", "mute", "hung disk"))
            _break_for_ever(world, node, "down" if node.name == world.gone else how)
    return healed


def _break_for_ever(world: World, node: Node, how: str) -> None:
    world.count(f"for ever {how}")
    world.trace(node.name, "for ever", how)
    others = [name for name in world.nodes if name != node.name]
    hears = [(other, node.name) for other in others]
    speaks = [(node.name, other) for other in others]
    node.fuse = 0
    if how == "down":
        if node.up:
            world.crash(node, None)
        return
    if how == "paused":
        if node.up:
            node.pause()
        return
    if how == "cut off":
        world.network.cut(hears + speaks)
    elif how == "deaf":
        world.network.cut(hears)
    elif how == "mute":
        world.network.cut(speaks)
    else:
        node.hung_until = FOR_EVER
    if not node.up:
        node.start()
    elif node.paused:
        node.resume()


def _works(world: World, healed: list[Node], load: Load) -> bool:
    """Whether the healed ones have one leader, agree on everything, and commit and read what is now asked."""
    for node in world.leaders():
        load.propose_to(node)  # a leader whose disk hangs can only know when it has something to write
    leader = _leader_of(healed)
    if leader is None:
        world.run_until(world.now + STEP_SECONDS)
        return False
    core, before = leader.core, world.ghost.grants
    load.read_from(leader)
    world.run_until(world.now + STEP_SECONDS)
    return (
        _leader_of(healed) is leader
        and world.ghost.grants > before
        and _is_settled(leader, healed)
        and all(_knows(node, core) for node in _findable(healed, core.configuration))
    )


def _is_settled(leader: Node, healed: list[Node]) -> bool:
    """Whether nothing that was begun is left half done; newcomers that stay broken may be waited for for ever."""
    present = leader.core.configuration
    if present.changing:
        return bool(present.learners) and not set(present.learners) <= {node.name for node in healed}
    return leader.name in present.voters


def _knows(node: Node, leader: Core) -> bool:
    """Whether a node is where its leader is; one that was removed need know no more than that."""
    core = node.core
    if node.name not in leader.configuration.members:
        return node.name not in core.committed_configuration.members and core.role is not Role.CANDIDATE
    return core.applied == core.commit == leader.last_index and core.role is not Role.CANDIDATE


def _findable(healed: list[Node], present: Configuration) -> list[Node]:
    """Everybody but those who know only nodes that are broken or as lost as they are: no rule can help them."""
    found = {node.name for node in healed if node.name in present.receivers}
    before = 0
    while before < len(found):
        before = len(found)
        found |= {node.name for node in healed if found.intersection(node.core.configuration.members)}
    return [node for node in healed if node.name in found]


def _leader_of(healed: list[Node]) -> Node | None:
    """The one that all healed ones follow."""
    leaders = [node for node in healed if node.core.role is Role.LEADER and node.core.serving]
    if len(leaders) != 1:
        return None
    (leader,) = leaders
    receivers = leader.core.configuration.receivers
    followed = all(
        (node.core.leader, node.core.term) == (leader.name, leader.core.term)
        for node in healed
        if node.name in receivers
    )
    return leader if followed else None


def _stays(world: World, healed: list[Node]) -> None:
    leader = _leader_of(healed)
    assert leader is not None
    term, configuration = leader.core.term, leader.core.configuration
    if configuration.changing or configuration.preferred or leader.name not in configuration.voters:
        return  # it may have good reason to go
    world.run_until(world.now + STABLE_SECONDS)
    if _leader_of(healed) is not leader or leader.core.term != term:
        broken("stability", f"{leader.name} led term {term} and was disturbed; {_why(world, healed)}")


def _why(world: World, healed: list[Node]) -> str:
    """What the nodes are, for whoever has to find out why they do not get on."""
    lines = [f"healed: {' '.join(node.name for node in healed)}"]
    for node in world.nodes.values():
        if not node.up:
            lines.append(f"{node.name} down")
            continue
        core = node.core
        lines.append(
            f"{node.name} {core.role.value} term={core.term} leader={core.leader} last={core.last_index} "
            f"durable={core.durable} commit={core.commit} applied={core.applied} withheld={core.withheld}"
        )
        members = {name: nodes for name, nodes in zip(HALVES, core.configuration.fields, strict=False) if nodes}
        lines.append(f"  at {core.configuration_index}: {members} preferred={core.configuration.preferred}")
        lines += [f"  {peer.peer} {peer.state.value} match={peer.match} next={peer.next}" for peer in core.progress()]
    return "\n".join(lines)


def _place(error: Exception) -> str:
    """The innermost place of an error: enough to know two failures as the same."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[:-4:-1])
    return f"{error!r} at {where}"
