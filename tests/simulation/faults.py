"""What befalls a lab. Each fault has a name under which `World.fired` counts how often it really
took effect: not that it was planned, but that a call failed, a process died, a lie was told.

Every life meets one certain fault, by its seed, and is provoked until that has taken effect; the
others are drawn. So any run of as many lives as there are faults meets all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from labcore.wire.lab import PowerState
from server_manager.drivers.fake import Failure
from tests.simulation import people
from tests.simulation.deaths import Crossings
from tests.simulation.machines import Illness, Lie
from tests.simulation.people import an_agent, any_node

if TYPE_CHECKING:
    from tests.simulation.world import World

Act = Callable[["World"], str]
CALLS = ("create", "start", "stop", "destroy", "pause", "resume")
WRITES = ("a write", "a journal's begin", "a journal's end")
ACTS = (
    "power on", "power off", "power standby", "power pause", "route", "drain", "undrain", "count",
)  # fmt: skip
LIES: tuple[Lie, ...] = (
    "zero", "full", "nan", "negative", "old", "stranger", "garbage", "half", "silent",
)  # fmt: skip
ILLNESSES: tuple[Illness, ...] = ("timeout", "error", "half")


@dataclass(frozen=True)
class Fault:
    """`begin` plans it and says what it did; "" means that there was nothing to do it to.

    Whatever lasts ends by itself, or with `end`. `provokes` is what makes it take effect.
    """

    fires: str
    begin: Act
    provokes: str = ""


def _at_once(act: Act) -> Fault:
    """A fault that takes effect when it begins."""
    name = getattr(act, "__name__", "").lstrip("_")

    def begin(world: World) -> str:
        text = act(world)
        world.fired[name] += bool(text)
        return text

    return Fault(name, begin)


# ---------------------------------------------------------------------- the driver


def _call_fails(operation: str, failure: Failure, world: World) -> str:
    rng = world.rng
    node = any_node(world) if rng.random() < 0.2 or operation == "get" else None
    times, limit_s = rng.randint(1, 3), rng.choice((1.0, 6.0, 25.0))
    world.driver.fail(operation, failure, node=node, times=times, limit_s=limit_s)
    return f"{times} x {operation} of {node or 'any'}: {failure} ({limit_s:g} s)"


def _boots_slowly(world: World) -> str:
    node, seconds = any_node(world), world.rng.uniform(5.0, 30.0)
    world.driver.set_boot(world.lab, node, seconds)
    _boots_soon(world, node)
    return f"{node} will boot for {seconds:.0f} s"


def _dies_booting(world: World) -> str:
    node = any_node(world)
    world.driver.bad_boots[node] = world.rng.uniform(0.0, 3.0)
    _boots_soon(world, node)
    return f"{node} will die while it boots"


def _has_no_app(world: World) -> str:
    node = any_node(world)
    world.agents.broken_boots.add(node)
    _boots_soon(world, node)
    return f"{node} will boot, but its app will not come up"


def _boots_soon(world: World, node: str) -> None:
    if node in world.running():
        world.driver.die(world.lab, node, after_s=world.rng.uniform(0.0, 2.0))
    else:
        people.provoke(world, "create")


def _dies(world: World) -> str:
    node = an_agent(world)
    if node is None:
        return ""
    world.driver.die(world.lab, node)
    return f"{node} dies"


def _control_dies(world: World) -> str:
    if not world.control_runs():
        return ""
    world.driver.die(world.lab, "control")
    return "the control node dies"


def _is_told(state: PowerState, world: World) -> str:
    node = an_agent(world)
    if node is None:
        return ""
    world.driver.tell(world.lab, node, state)
    seconds = world.rng.uniform(0.5, 15.0)

    def over() -> None:
        if (world.lab, node) in world.driver._servers:
            world.driver.tell(world.lab, node, None)

    world.loop.later(seconds, over)
    return f"{node} is {state} for {seconds:.1f} s"


# ---------------------------------------------------------------------- agents


def _lies(lie: Lie, world: World) -> str:
    running = sorted(world.running())
    nodes = [n for n in running if world.rng.random() < 0.6] or running[:1]
    seconds = world.rng.uniform(1.0, 20.0)
    for node in nodes:
        world.agents[node].lie = lie

    def over() -> None:
        for node in nodes:
            world.agents[node].lie = None

    world.loop.later(seconds, over)
    return f"metrics of {' '.join(nodes)}: {lie} for {seconds:.1f} s" if nodes else ""


def _falls_ill(illness: Illness, world: World) -> str:
    node = an_agent(world)
    if node is None:
        return ""
    seconds = world.rng.uniform(0.5, 15.0)
    world.agents[node].illness = illness

    def over() -> None:
        world.agents[node].illness = None

    world.loop.later(seconds, over)
    return f"{node} is ill: {illness} for {seconds:.1f} s"


def _is_deaf(world: World) -> str:
    for node in world.names():
        world.agents[node].deaf = True
    return "agents do not hear that they drain"


# ---------------------------------------------------------------------- the balancer


def _test_fails(world: World) -> str:
    world.balancer.faults.refuse_tests = world.rng.randint(1, 3)
    return f"nginx -t fails {world.balancer.faults.refuse_tests} times"


def _reload_is_ignored(world: World) -> str:
    world.balancer.faults.ignore_reloads = world.rng.randint(1, 2)
    return f"{world.balancer.faults.ignore_reloads} reloads are lost"


def _workers_stay(world: World) -> str:
    world.balancer.faults.stuck_workers = 1
    return "old workers will not go"


def _nginx_dies(world: World) -> str:
    if world.is_dark:
        return ""
    world.balancer.faults.down = True
    seconds = world.rng.uniform(0.1, 6.0)
    world.loop.later(seconds, world.start_nginx)
    return f"nginx dies, for {seconds:.1f} s"


# ---------------------------------------------------------------------- the two processes of ours


def _dies_at(which: Callable[[World], Crossings], where: str, world: World) -> str:
    which(world).plan(where)
    return f"a death {where}"


def _scaler_dies_soon(world: World) -> str:
    world.scaler.crossings.plan(None, world.rng.randint(1, 12))
    return "the scaler will die soon"


def _manager_dies_soon(world: World) -> str:
    world.host.crossings.plan(None, world.rng.randint(1, 14))
    return "the server-manager will die soon"


def _manager_is_killed(world: World) -> str:
    world.host.kill()
    return "kill -9 of the server-manager"


def _disk_is_full(whose: str, world: World) -> str:
    disk = world.scaler.store if whose == "scaler" else world.host.disk_faults
    disk.full = True
    seconds = world.rng.uniform(1.0, 10.0)

    def over() -> None:
        disk.full = False

    world.loop.later(seconds, over)
    return f"the {whose}'s disk is full for {seconds:.1f} s"


def _is_parted(world: World) -> str:
    world.client.unreachable = True
    seconds = world.rng.uniform(1.0, 15.0)

    def over() -> None:
        world.client.unreachable = False

    world.loop.later(seconds, over)
    return f"the scaler does not reach the server-manager for {seconds:.1f} s"


def _answers_are_cut(world: World) -> str:
    """Half-closed HTTP: what was asked for is done, but whoever asked does not hear of it."""
    world.client.cuts = world.rng.randint(1, 4)
    return f"{world.client.cuts} answers of the server-manager are cut"


# ---------------------------------------------------------------------- all of them


def _deaths(process: str, which: Callable[[World], Crossings], places: list[str]) -> list[Fault]:
    return [
        Fault(
            f"{process} dies {where}",
            partial(_dies_at, which, where),
            where.removeprefix("before ").removeprefix("after "),
        )
        for where in places
    ]


_MANAGER_PLACES = [
    *(f"{when} {what}" for when in ("before", "before the commit of", "after") for what in WRITES),
    *(f"{when} {what}" for when in ("before", "after") for what in CALLS),
]
_SCALER_PLACES = [
    f"{when} {what}" for when in ("before", "after") for what in ("its state is saved", *ACTS)
]
# How often each family is drawn, and who is in it.
FAMILIES: tuple[tuple[int, list[Fault]], ...] = (
    (4, [
        Fault(f"{call}: {failure}", partial(_call_fails, call, failure), call)
        for call in (*CALLS, "get")
        for failure in Failure
    ]),
    (3, [
        Fault("a slow boot", _boots_slowly),
        Fault("a death while it boots", _dies_booting),
        Fault("a boot without an app", _has_no_app),
    ]),
    (2, [_at_once(_dies)]),
    (1, [_at_once(_control_dies)]),
    (1, [Fault("told error", people.breaks)]),
    (2, [
        Fault(f"told {state}", partial(_is_told, state))
        for state in (PowerState.UNKNOWN, PowerState.LOST)
    ]),
    (2, [Fault(f"metrics: {lie}", partial(_lies, lie)) for lie in LIES]),
    (2, [Fault(f"health: {illness}", partial(_falls_ill, illness)) for illness in ILLNESSES]),
    (1, [Fault("a drain that is not heard", _is_deaf, "drain")]),
    (3, [
        Fault("nginx -t fails", _test_fails, "route"),
        Fault("a reload is ignored", _reload_is_ignored, "route"),
        Fault("old workers stay", _workers_stay, "route"),
        Fault("nginx does not run", _nginx_dies),
    ]),
    (2, _deaths("the scaler", lambda world: world.scaler.crossings, _SCALER_PLACES)),
    (1, [_at_once(_scaler_dies_soon)]),
    (2, _deaths("the server-manager", lambda world: world.host.crossings, _MANAGER_PLACES)),
    (1, [_at_once(_manager_dies_soon)]),
    (1, [_at_once(_manager_is_killed)]),
    (2, [
        Fault(f"the {whose}'s disk is full", partial(_disk_is_full, whose), "start")
        for whose in ("scaler", "server-manager")
    ]),
    (2, [
        Fault("the server-manager is not reached", _is_parted),
        Fault("the server-manager's answer is cut", _answers_are_cut, "drain"),
    ]),
    (9, [
        _at_once(act)
        for act in (
            people.person_scales, people.person_sets_mode, people.person_powers,
            people.person_acts, people.person_ups, people.person_downs, people.person_cancels,
            people.person_plans,
        )
    ]),
)  # fmt: skip
ALL: tuple[Fault, ...] = tuple(fault for _, family in FAMILIES for fault in family)
CALM: tuple[Fault, ...] = (_at_once(people.person_scales), _at_once(people.person_plans))
DEMAND = _at_once(people.demand_changes)


def certain(seed: int) -> Fault:
    """The fault that this life meets whatever else befalls it."""
    return ALL[seed % len(ALL)]


def draw(rng: random.Random, length: float, *, calm: bool) -> list[tuple[float, Fault]]:
    """When what befalls: demand changes now and then, and a handful of faults."""
    families = [(1, list(CALM))] if calm else FAMILIES
    weights = [weight for weight, _ in families]
    drawn = rng.choices([family for _, family in families], weights, k=rng.randint(2, 12))
    chosen = [rng.choice(family) for family in drawn] + [DEMAND] * rng.randint(1, 3)
    return [(rng.uniform(0.0, length), fault) for fault in chosen]


def end(world: World) -> None:
    """No faults any more, and what was broken is mended."""
    world.driver.forget_plans()
    world.agents.broken_boots.clear()
    for agent in world.agents.by_name.values():
        agent.lie, agent.illness, agent.deaf, agent.never_up = None, None, False, False
    faults = world.balancer.faults
    faults.refuse_tests = faults.ignore_reloads = faults.stuck_workers = 0
    world.start_nginx()
    world.scaler.store.full = world.host.disk_faults.full = world.client.unreachable = False
    world.client.cuts = 0
    world.scaler.crossings.forget()
    world.host.crossings.forget()
    thaw(world)


def thaw(world: World) -> None:
    """What a person has paused goes on."""
    wanted = world.wanted()
    for node in world.names():
        if wanted.get(node) != "standby":
            world.driver._servers[world.lab, node].paused = False
