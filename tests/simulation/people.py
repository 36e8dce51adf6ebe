"""What people and load do to a lab, of themselves and to order.

Each `person_...` does it now and says what it was; "" means that there was nothing to do it to.
`provoke` lets something happen, so that a fault that waits for it finds its victim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from labcore.errors import LabError
from labcore.wire.lab import Mode, PowerState

if TYPE_CHECKING:
    from tests.simulation.world import World

OUT = ("create", "start", "power on", "count")
IN = ("stop", "power off", "drain", "undrain")
FROZEN = ("pause", "resume", "power pause", "power standby")
LOWEST, HIGHEST = 5.0, 110.0  # demand, for each node of the maximum


def an_agent(world: World) -> str | None:
    """One that runs, if one does."""
    names = sorted(world.running())
    return world.rng.choice(names) if names else None


def any_node(world: World) -> str:
    """An agent that there is, or may be."""
    return f"agent-{world.rng.randint(1, world.scaling.max + world.scaling.standby)}"


def provoke(world: World, what: str) -> None:
    """Soon, have something happen in which `what` (an operation or an act) is likely."""
    if what == "destroy" and world.scaling.removal != "destroy":
        _soon(world, lambda: breaks(world))
    elif what in ("pause", "resume") and not world.scaling.standby:
        _freeze(world)
    elif what in IN or what == "destroy":
        _soon(world, lambda: resize(world, -1))
        if what == "undrain":  # a removal that is called off
            world.loop.later(world.rng.uniform(1.0, 3.5), lambda: resize(world, +1))
    elif what in OUT or what in FROZEN:
        _soon(world, lambda: resize(world, +1))
    else:
        _soon(world, lambda: resize(world, world.rng.choice((-1, +1))))


def breaks(world: World) -> str:
    """A server breaks: only making it again will help."""
    node = an_agent(world)
    if node is None:
        return ""
    world.driver.die(world.lab, node)
    world.driver.tell(world.lab, node, PowerState.ERROR)
    return f"{node} breaks"


def resize(world: World, by: int) -> None:
    """A load or a person asks for more nodes or for fewer; for the other if there can be none."""
    count, mode = world.wished
    if not world.scaling.min <= count + by <= world.scaling.max:
        by = -by
    if mode == "auto":
        most = HIGHEST * world.scaling.max
        world.agents.load.demand = most if by > 0 else LOWEST
        world.note(f"demand is {world.agents.load.demand:.0f} %")
    else:
        scale(world, count + by)


def scale(world: World, count: int) -> None:
    """A person asks the scaler for a count."""

    def ask() -> None:
        if not world.scaler.alive:
            return
        try:
            world.scaler.desk.scale(count, None)
        except LabError as error:
            world.note(f"a person is refused: {error.message}")

    world.loop.spawn(world.person, ask, cause="person")


def asks(world: World, work: Callable[[], object]) -> None:
    """A person asks the server-manager for something, and takes no for an answer."""

    def ask() -> None:
        try:
            world.host.call(work, cause="person", timeout_s=90.0)
        except LabError as error:
            world.note(f"a person is refused: {error.message}")

    world.loop.spawn(world.person, ask, cause="person")


def _freeze(world: World) -> None:
    """A person pauses an agent and lets it go on."""
    node = an_agent(world)
    if node is None:
        return

    def act(action: str) -> None:
        power = world.host.manager.power
        asks(world, lambda: power.act(power.find(node, world.lab), action))

    _soon(world, lambda: act("pause"))
    world.loop.later(world.rng.uniform(2.0, 6.0), lambda: act("resume"))


def _soon(world: World, event: Callable[[], object]) -> None:
    world.loop.later(world.rng.uniform(0.0, 2.0), event)


# ---------------------------------------------------------------------- of themselves


def person_scales(world: World) -> str:
    count = world.rng.randint(world.scaling.min, world.scaling.max)
    scale(world, count)
    return f"a person scales to {count}"


def person_sets_mode(world: World) -> str:
    modes: tuple[Mode, ...] = ("auto", "auto", "manual")
    mode = world.rng.choice(modes)
    manager = world.host.manager
    asks(world, lambda: manager.set_group(world.lab, "agent", None, mode))
    return f"a person sets mode {mode}"


def person_powers(world: World) -> str:
    node, action = any_node(world), world.rng.choice(("on", "off"))
    power = world.host.manager.power

    def work() -> None:
        target = power.find(node, world.lab)
        (power.on if action == "on" else power.off)(target, by_scaler=False)

    asks(world, work)
    return f"a person turns {action} {node}"


def person_acts(world: World) -> str:
    node = an_agent(world)
    action = world.rng.choice(("kill", "pause", "pause", "resume"))
    if node is None:
        return ""
    power = world.host.manager.power
    asks(world, lambda: power.act(power.find(node, world.lab), action))
    return f"a person's {action} of {node}"


def person_downs(world: World) -> str:
    """And up again a little later, maybe before it is down."""
    manager, host = world.host.manager, world.host

    def up_again() -> None:
        asks(world, lambda: host.manager.put(world.lab, world.file))

    asks(world, lambda: manager.down(world.lab))
    world.loop.later(world.rng.uniform(0.5, 10.0), up_again)
    return "a person's down"


def person_cancels(world: World) -> str:
    manager = world.host.manager
    asks(world, lambda: manager.cancel(world.lab))
    return "a person cancels what is on"


def person_ups(world: World) -> str:
    manager = world.host.manager
    asks(world, lambda: manager.put(world.lab, world.file))
    return "a person's up"


def person_plans(world: World) -> str:
    manager, lab = world.host.manager, world.lab

    def work() -> None:
        world.check_dry_run(lambda: manager.plan(lab))

    asks(world, work)
    return "a person asks for a plan"


def demand_changes(world: World) -> str:
    world.agents.load.demand = world.rng.uniform(5.0, 110.0 * world.scaling.max)
    return f"demand is {world.agents.load.demand:.0f} %"
