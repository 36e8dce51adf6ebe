"""What befalls a lab: each fault is a function that does it now and says what it did.

"" means that there was nothing to do it to. Whatever lasts ends by itself, or with `end`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from labcore.errors import LabError
from labcore.wire.lab import Mode, PowerState
from server_manager.drivers.fake import Failure
from tests.simulation.machines import Illness, Lie

if TYPE_CHECKING:
    from tests.simulation.world import World


class Fault(Protocol):
    """See the module."""

    __name__: str

    def __call__(self, world: World) -> str:
        """Do it now."""
        ...


def _agent(world: World) -> str | None:
    names = sorted(world.running())
    return world.rng.choice(names) if names else None


def _any(world: World) -> str:
    return f"agent-{world.rng.randint(1, world.scaling.max + world.scaling.standby)}"


# ---------------------------------------------------------------------- the driver


def driver_fails(world: World) -> str:
    rng = world.rng
    operation = rng.choice(("create", "start", "start", "stop", "stop", "destroy", "get"))
    failure = rng.choice(tuple(Failure))
    node = _any(world) if rng.random() < 0.5 or operation == "get" else None
    times, limit_s = rng.randint(1, 3), rng.choice((1.0, 6.0, 25.0))
    world.driver.fail(operation, failure, node=node, times=times, limit_s=limit_s)
    return f"{times} x {operation} of {node or 'any'}: {failure} ({limit_s:g} s)"


def slow_boot(world: World) -> str:
    node, seconds = _any(world), world.rng.uniform(5.0, 30.0)
    world.driver.set_boot(world.lab, node, seconds)
    return f"{node} will boot for {seconds:.0f} s"


def boot_failure(world: World) -> str:
    node = _any(world)
    if world.rng.random() < 0.5:
        world.driver.bad_boots[node] = world.rng.uniform(0.0, 3.0)
        return f"{node} will die while it boots"
    world.agents.broken_boots.add(node)
    return f"{node} will boot, but its app will not come up"


def dies(world: World) -> str:
    node = _agent(world)
    if node is None:
        return ""
    world.driver.die(world.lab, node)
    return f"{node} dies"


def told_wrongly(world: World) -> str:
    node = _agent(world)
    if node is None:
        return ""
    state = world.rng.choice((PowerState.UNKNOWN, PowerState.UNKNOWN, PowerState.LOST))
    world.driver.tell(world.lab, node, state)
    seconds = world.rng.uniform(0.5, 15.0)

    def over() -> None:
        if (world.lab, node) in world.driver._servers:
            world.driver.tell(world.lab, node, None)

    world.loop.later(seconds, over)
    return f"{node} is {state} for {seconds:.1f} s"


# ---------------------------------------------------------------------- agents

LIES: tuple[Lie, ...] = (
    "zero", "full", "nan", "negative", "old", "stranger", "garbage", "half", "silent",
)  # fmt: skip
ILLNESSES: tuple[Illness, ...] = ("timeout", "error", "half")


def lies(world: World) -> str:
    nodes = [n for n in sorted(world.running()) if world.rng.random() < 0.6]
    lie, seconds = world.rng.choice(LIES), world.rng.uniform(1.0, 20.0)
    for node in nodes:
        world.agents[node].lie = lie

    def over() -> None:
        for node in nodes:
            world.agents[node].lie = None

    world.loop.later(seconds, over)
    return f"metrics of {' '.join(nodes)}: {lie} for {seconds:.1f} s" if nodes else ""


def falls_ill(world: World) -> str:
    node = _agent(world)
    if node is None:
        return ""
    illness, seconds = world.rng.choice(ILLNESSES), world.rng.uniform(0.5, 15.0)
    world.agents[node].illness = illness

    def over() -> None:
        world.agents[node].illness = None

    world.loop.later(seconds, over)
    return f"{node} is ill: {illness} for {seconds:.1f} s"


def is_deaf(world: World) -> str:
    node = _any(world)
    world.agents[node].deaf = True
    return f"{node} does not hear that it drains"


# ---------------------------------------------------------------------- the balancer


def test_refused(world: World) -> str:
    world.balancer.faults.refuse_tests = world.rng.randint(1, 3)
    return f"nginx -t fails {world.balancer.faults.refuse_tests} times"


def reload_ignored(world: World) -> str:
    world.balancer.faults.ignore_reloads = world.rng.randint(1, 2)
    return f"{world.balancer.faults.ignore_reloads} reloads are lost"


def workers_stay(world: World) -> str:
    world.balancer.faults.stuck_workers = 1
    return "old workers will not go"


def nginx_dies(world: World) -> str:
    if world.is_dark:
        return ""
    world.balancer.faults.down = True
    seconds = world.rng.uniform(0.1, 6.0)
    world.loop.later(seconds, world.start_nginx)
    return f"nginx dies, for {seconds:.1f} s"


# ---------------------------------------------------------------------- the scaler


def scaler_crashes(world: World) -> str:
    if not world.scaler.alive:
        return ""
    world.scaler.dies_at = world.scaler.crossed + world.rng.randint(1, 12)
    return "the scaler will die soon"


def scaler_disk_full(world: World) -> str:
    world.scaler.store.full = True
    seconds = world.rng.uniform(1.0, 10.0)

    def over() -> None:
        world.scaler.store.full = False

    world.loop.later(seconds, over)
    return f"the scaler's disk is full for {seconds:.1f} s"


# ---------------------------------------------------------------------- the server-manager


def manager_crashes(world: World) -> str:
    world.host.dies_at = world.host.crossed + world.rng.randint(1, 14)
    return "the server-manager will die soon"


def manager_killed(world: World) -> str:
    world.host.kill()
    return "kill -9 of the server-manager"


def manager_disk_full(world: World) -> str:
    world.host.disk_faults.full = True
    seconds = world.rng.uniform(1.0, 10.0)

    def over() -> None:
        world.host.disk_faults.full = False

    world.loop.later(seconds, over)
    return f"the server-manager's disk is full for {seconds:.1f} s"


def partition(world: World) -> str:
    world.client.unreachable = True
    seconds = world.rng.uniform(1.0, 15.0)

    def over() -> None:
        world.client.unreachable = False

    world.loop.later(seconds, over)
    return f"the scaler does not reach the server-manager for {seconds:.1f} s"


# ---------------------------------------------------------------------- people and load


def _asks(world: World, work: Callable[[], object]) -> None:
    """A person asks the server-manager for something, and takes no for an answer."""

    def ask() -> None:
        try:
            world.host.call(work, cause="person", timeout_s=90.0)
        except LabError as error:
            world.note(f"a person is refused: {error.message}")

    world.loop.spawn(world.person, ask, cause="person")


def person_scales(world: World) -> str:
    count = world.rng.randint(world.scaling.min, world.scaling.max)

    def ask() -> None:
        if not world.scaler.alive:
            return
        try:
            world.scaler.desk.scale(count, None)
        except LabError as error:
            world.note(f"a person is refused: {error.message}")

    world.loop.spawn(world.person, ask, cause="person")
    return f"a person scales to {count}"


def person_sets_mode(world: World) -> str:
    modes: tuple[Mode, ...] = ("auto", "manual")
    mode = world.rng.choice(modes)
    manager = world.host.manager
    _asks(world, lambda: manager.set_group(world.lab, "agent", None, mode))
    return f"a person sets mode {mode}"


def person_powers(world: World) -> str:
    node, action = _any(world), world.rng.choice(("on", "off"))
    power = world.host.manager.power

    def work() -> None:
        target = power.find(node, world.lab)
        (power.on if action == "on" else power.off)(target, by_scaler=False)

    _asks(world, work)
    return f"a person turns {action} {node}"


def person_acts(world: World) -> str:
    node = _agent(world)
    action = world.rng.choice(("kill", "pause", "pause", "resume"))
    if node is None:
        return ""
    power = world.host.manager.power
    _asks(world, lambda: power.act(power.find(node, world.lab), action))
    return f"a person's {action} of {node}"


def person_downs(world: World) -> str:
    """And up again a little later, maybe before it is down."""
    manager, host = world.host.manager, world.host

    def up_again() -> None:
        _asks(world, lambda: host.manager.put(world.lab, world.file))

    _asks(world, lambda: manager.down(world.lab))
    world.loop.later(world.rng.uniform(0.5, 10.0), up_again)
    return "a person's down"


def person_cancels(world: World) -> str:
    manager = world.host.manager
    _asks(world, lambda: manager.cancel(world.lab))
    return "a person cancels what is on"


def control_dies(world: World) -> str:
    if not world.control_runs():
        return ""
    world.driver.die(world.lab, "control")
    return "the control node dies"


def person_ups(world: World) -> str:
    manager = world.host.manager
    _asks(world, lambda: manager.put(world.lab, world.file))
    return "a person's up"


def person_plans(world: World) -> str:
    manager, lab = world.host.manager, world.lab

    def work() -> None:
        world.check_dry_run(lambda: manager.plan(lab))

    _asks(world, work)
    return "a person asks for a plan"


def demand_changes(world: World) -> str:
    world.agents.load.demand = world.rng.uniform(5.0, 110.0 * world.scaling.max)
    return f"demand is {world.agents.load.demand:.0f} %"


KINDS: tuple[Fault, ...] = (
    driver_fails, driver_fails, driver_fails, slow_boot, boot_failure, dies, dies, told_wrongly,
    told_wrongly, lies, lies, falls_ill, falls_ill, is_deaf, test_refused, reload_ignored,
    workers_stay, nginx_dies, scaler_crashes, scaler_crashes, scaler_disk_full, manager_crashes,
    manager_crashes, manager_killed, manager_disk_full, partition, person_scales, person_scales,
    person_sets_mode, person_powers, person_powers, person_acts, person_ups,
    person_downs, person_cancels, control_dies,
    person_plans,
)  # fmt: skip
CALM: tuple[Fault, ...] = (person_scales, person_plans)


def draw(rng: random.Random, length: float, *, calm: bool) -> list[tuple[float, Fault]]:
    """When what befalls: demand changes now and then, and a handful of faults."""
    kinds = CALM if calm else KINDS
    chosen: list[Fault] = [rng.choice(kinds) for _ in range(rng.randint(2, 12))]
    chosen += [demand_changes] * rng.randint(1, 3)
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
    world.scaler.dies_at = world.host.dies_at = None
    wanted = world.wanted()
    for node in world.names():
        if wanted.get(node) != "standby":
            world.driver._servers[world.lab, node].paused = False
