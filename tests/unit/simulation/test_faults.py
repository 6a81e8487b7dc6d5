"""The faults: each kind happens, and what it leaves can be healed."""

from __future__ import annotations

import asyncio

from tests.simulation.acts import ACTS
from tests.simulation.plan import ALL_FAULTS, EVENT_FAULTS, Narrowing, draw
from tests.simulation.run import _Run, run_seed

CALM_SEED = 3
"""Draws no faults, and heals only a quorum."""
TRIES = 60
"""There is not always a leader to be hit: with a server gone for good, a partition may leave nobody a quorum, and it
lasts as long as chance will have it."""


def calm_run() -> _Run:
    plan = draw(CALM_SEED, Narrowing(frozenset(), roles=("registers", "locker"), servers=5, seconds=1.0))
    return _Run(plan, frozenset(), False, None)


def test_every_event_has_an_act() -> None:
    """A kind that is drawn and does nothing would be counted on."""
    assert set(ACTS) == set(EVENT_FAULTS) < set(ALL_FAULTS)


def test_every_act_happens_and_the_world_comes_right_after_all_of_them() -> None:
    """One after another in one world, and then everything is taken back."""
    run = calm_run()
    chaos = run._faults._chaos
    happened: set[str] = set()
    # Not together with damaged disks: how many of them may be damaged depends on who votes.
    # Backwards, for there must be snapshots before they can be damaged.
    kinds = [kind for kind in reversed(EVENT_FAULTS) if kind != "change_role"]

    async def everything(seconds: float) -> None:
        for kind in kinds:
            for attempt in range(TRIES):
                await asyncio.sleep(0.5)
                chaos.chance = run._world.chance.stream(f"{kind}/{attempt}")
                if ACTS[kind](chaos):
                    happened.add(kind)
                    break

    run._faults.rage = everything  # type: ignore[method-assign]
    failure = run.execute()
    assert failure is None, failure
    assert happened == set(kinds)


def test_roles_change() -> None:
    """Voters that observe for a while."""
    seed = next(
        seed
        for seed in range(1000)
        if "change_role" in (plan := draw(seed)).faults and (plan.servers, plan.fault_seconds) == (3, 0.4)
    )
    outcome = run_seed(seed, Narrowing(frozenset({"change_role"}), roles=("registers", "locker"), seconds=20.0))
    assert not outcome.invariant, outcome.detail
    assert outcome.counts.faults["change_role"] > 1


def test_a_random_quorum_is_enough_to_come_right() -> None:
    """The others stay broken for ever, and nobody may wait for them."""
    cores = set()
    for seed in [seed for seed in range(60) if draw(seed).random_core][:6]:
        plan = draw(seed, Narrowing(frozenset(), roles=("registers",), servers=3, seconds=1.0))
        assert plan.random_core
        run = _Run(plan, frozenset(), False, None)
        assert run.execute() is None
        assert len(run._faults.core) == 2
        assert sum(machine.abandoned for machine in run._world.machines.values()) == 1
        cores.add(tuple(machine.name for machine in run._faults.core))
    assert len(cores) > 1


def test_damaged_disks_are_a_minority_whatever_is_drawn() -> None:
    """With a majority of copies gone nothing could be demanded any more."""
    kinds = frozenset({"rot_log", "rot_snapshot"})
    for seed in (22, 24):
        plan = draw(seed, Narrowing(kinds, seconds=4.0))
        run = _Run(plan, frozenset(), False, None)
        assert run.execute() is None
        assert sum(machine.rotted for machine in run._world.machines.values()) <= (plan.servers - 1) // 2


def test_left_out_events_do_not_happen() -> None:
    """The shrinker takes them away one by one."""
    seed = 1
    whole = run_seed(seed, Narrowing(seconds=2.0))
    none = run_seed(seed, Narrowing(seconds=2.0, skip_events=frozenset(range(whole.events))))
    assert whole.events
    assert not set(none.counts.faults) & set(EVENT_FAULTS)
