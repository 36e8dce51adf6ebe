"""What must hold at every moment of every simulation, each a function with its sentence.

A function returns "" while its sentence holds, else the figures that break it. All look at what
really is (the fake driver's servers, the balancer's configuration), not at what anybody believes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control_node.scaler.state import State
from control_node.scaler.types import Operation, TellDrain
from labcore.wire.event import Event
from labcore.wire.lab import Desired, Lab, LabState, PowerState, Wanted
from server_manager.drivers.base import ServerRef
from tests.simulation.loop import Broken
from tests.simulation.machines import ON

if TYPE_CHECKING:
    from tests.simulation.world import World

# So long after a fault has ended somebody may still act on what he saw of it.
LATE_S = 10.0
CALLED_OFF = "stays after all: it is needed again"
OFFS = ("stop", "destroy", "pause")
OURS = ("scaler", "recovery", "run")  # on whose behalf servers must not be taken from under nginx


@dataclass
class Watch:
    """What the invariants remember."""

    had_minimum: bool = False
    serving: frozenset[str] = frozenset()
    harmed: dict[str, float] = field(default_factory=dict)  # node -> until when, at least
    lost: set[str] = field(default_factory=set)
    stopped_by_us: set[str] = field(default_factory=set)
    removing: dict[str, None] = field(default_factory=dict)
    spare: set[str] = field(default_factory=set)  # as what they were last wanted, if at all
    foreign: dict[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)

    # ------------------------------------------------------------------ what it is told

    def begin(self, world: World) -> None:
        """The foreign servers are as they should stay."""
        self.foreign = foreign_servers(world)
        self.look(world)

    def effect(self, world: World, operation: str, ref: ServerRef, cause: str) -> None:
        """A driver call is about to change a server. Raises Broken."""
        why = foreign_call(world, ref, cause) or off_while_routed(world, operation, ref, cause)
        if why:
            raise Broken(why)
        if operation in ("stop", "destroy"):
            self.lost.discard(ref.name)
        if operation in OFFS and cause in OURS:
            self.stopped_by_us.add(ref.name)
        elif operation in ("start", "resume"):
            self.stopped_by_us.discard(ref.name)

    def begins(self, world: World, operation: Operation) -> None:
        """The scaler begins an operation. Raises Broken."""
        if not isinstance(operation, TellDrain):
            return
        if operation.draining:
            self.removing[operation.node] = None
        else:
            self.removing.pop(operation.node, None)
        why = one_removal(world)
        if why:
            raise Broken(why)

    def told(self, event: Event) -> None:
        """The scaler says something: a removal that is called off is over, even if the agent can
        only be told of it later."""
        if event.node is not None and event.message.endswith(CALLED_OFF):
            self.removing.pop(event.node, None)

    def scaler_starts(self, saved: State | None) -> None:
        """Only what was saved goes on."""
        going = saved.removal.node if saved and saved.removal else None
        self.removing = {} if going is None else {going: None}

    # ------------------------------------------------------------------ bookkeeping

    def look(self, world: World) -> None:
        """Take note of who serves, and of who does not because of a fault."""
        loaded = world.loaded()
        serving = world.agents.serving(loaded)
        running = world.running()
        self._note_wanted(world)
        for node in world.names():
            self._note_told(world, node)
            if node not in running or node in self.spare:
                self.removing.pop(node, None)  # however it ended
        self._note_harm(world, loaded, serving)
        self.serving = serving
        if world.desired is not Desired.UP:
            self.had_minimum = False
        elif len(serving) >= world.scaling.min:
            self.had_minimum = True

    def _note_harm(self, world: World, loaded: frozenset[str], serving: frozenset[str]) -> None:
        now = world.loop.now
        silent = loaded - serving - self.stopped_by_us
        gone = self.serving - self.stopped_by_us if world.is_dark else frozenset()
        for node in silent | gone:
            self.harmed[node] = now + LATE_S  # what was seen of it may have its effect later
        for node in [n for n in self.harmed if n in serving and self.harmed[n] <= now]:
            del self.harmed[node]

    def _note_wanted(self, world: World) -> None:
        """Who is not wanted any more leaves as what it was."""
        for node, wanted in world.wanted().items():
            if wanted == "standby":
                self.spare.add(node)
            elif wanted == "on":
                self.spare.discard(node)

    def _note_told(self, world: World, node: str) -> None:
        told = world.driver.told(world.lab, node)
        if told is PowerState.LOST:
            self.lost.add(node)
            self.removing.pop(node, None)
        if told is not None or world.agents[node].illness is not None:
            self.harmed[node] = world.loop.now + LATE_S

    def check(self, world: World) -> None:
        """Raise Broken if an invariant does not hold now."""
        self.look(world)
        for sentence, holds in ALWAYS.items():
            why = holds(world)
            if why:
                raise Broken(f"{sentence}: {why}")


def serving_minimum(world: World) -> str:
    """Never fewer serving than min once they existed, but for those that a fault took away."""
    watch, least = world.watch, world.scaling.min
    spoilt = set(watch.harmed) - watch.serving
    if not watch.had_minimum or len(watch.serving) + len(spoilt) >= least:
        return ""
    return f"{len(watch.serving)} of {least} serve ({_names(watch.serving)})"


def below_maximum(world: World) -> str:
    """Never more than max; booting, draining, paused and unknown ones count, lost ones do not, and
    standby ones are counted apart."""
    most, spare = world.scaling.max, world.scaling.standby
    on = [n for n in world.running() if n not in world.watch.lost]
    if len(on) > most + spare:
        return f"{len(on)} of {most} and {spare} on standby"
    if len(on) <= most:
        return ""
    joined = [n for n in on if n not in world.watch.spare]
    return f"{len(joined)} of {most} ({_names(joined)})" if len(joined) > most else ""


def off_while_routed(world: World, operation: str, ref: ServerRef, cause: str) -> str:
    """No power-off (or pause) by us of a backend that the loaded configuration names."""
    if operation not in OFFS or ref.lab != world.lab or cause not in OURS:
        return ""
    if world.desired is not Desired.UP or world.driver.told(ref.lab, ref.name) is not None:
        return ""
    is_on = world.driver.truth(ref.lab, ref.name) in ON
    if not is_on or ref.name not in world.loaded():
        return ""
    return f"no power-off of a loaded backend: {operation} of {ref.name} for {cause}"


def foreign_call(world: World, ref: ServerRef, cause: str) -> str:
    """Nothing of another lab or owner is touched."""
    mine = ref.lab == world.lab and ref.name != world.stray
    return (
        ""
        if mine or not world.watch.foreign
        else f"nothing foreign is touched: {ref.lab}/{ref.name} for {cause}"
    )


def foreign_servers(world: World) -> dict[tuple[str, str], tuple[object, ...]]:
    """The servers that are not of our lab, as they are."""
    return {
        key: (server.on_since, server.paused, server.spec)
        for key, server in world.driver._servers.items()
        if key[0] != world.lab or key[1] == world.stray
    }


def foreign_untouched(world: World) -> str:
    """Nothing of another lab or owner is touched."""
    now = foreign_servers(world)
    changed = [key for key, was in world.watch.foreign.items() if now.get(key) != was]
    return f"{changed[0][0]}/{changed[0][1]} changed" if changed else ""


def one_removal(world: World) -> str:
    """At most one removal is in flight."""
    going = [n for n in world.watch.removing if n in world.running()]
    return f"at most one removal is in flight: {_names(going)} at once" if len(going) > 1 else ""


def settled(world: World) -> str:
    """Constant load ends in silence: why it has not yet; "" once it has."""
    lab = world.seen()
    if lab is None or lab.state is LabState.CONVERGING:
        return "a run has not ended" if lab else "the server-manager is away"
    why = _not_as_wished(world, lab)
    if not why and world.scaler.controller.state.removal is not None:
        return "a removal has not ended"
    if not why and world.scaler.controller.busy:
        return "the scaler is busy"
    return why


def _not_as_wished(world: World, lab: Lab) -> str:
    group = lab.group("agent")
    count = group.desired_count if group else 0
    members = lab.members("agent")
    wanted = sorted(s.name for s in members if s.wanted is Wanted.ON)
    spare = [s.name for s in members if s.wanted is Wanted.STANDBY]
    serving = sorted(world.agents.serving(world.loaded()))
    if len(serving) != count or serving != wanted:
        return f"{_names(serving)} serve, {_names(wanted)} are wanted, {count} wished"
    if len(spare) != world.scaling.standby:
        return f"{_names(spare)} on standby"
    if sorted(world.running()) != sorted(serving + spare):
        return f"{_names(world.running())} run, {_names(serving + spare)} should"
    drains = [n for n in serving if world.agents[n].draining]
    return f"{_names(drains)} still drain" if drains else ""


def _names(nodes: object) -> str:
    names = sorted(nodes)  # type: ignore[call-overload]
    return " ".join(names) or "none"


ALWAYS: dict[str, Callable[[World], str]] = {
    "never below min": serving_minimum,
    "never above max": below_maximum,
    "nothing foreign is touched": foreign_untouched,
}
