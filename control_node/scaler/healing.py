"""Power: as many servers as wished for, none that is dead or lost, none that never gets healthy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from control_node.scaler import standby
from control_node.scaler.roster import DOWN, Roster, free_names
from control_node.scaler.scene import Scene
from control_node.scaler.types import Power, Publish, Step
from labcore.wire.lab import LabState, PowerState, Server, Wanted

# How long a running server may be unhealthy before it is given up: no less than its lab lets one
# boot. Doubles each time the same node is given up again, up to so many times as long.
BOOT_LIMIT_S = 120.0
MOST_TIMES = 8.0


@dataclass
class _Ailing:
    since: float
    times: float = 1.0
    given_up: bool = False


class Healer:
    """Decides which servers to turn on, and which to give up.

    One that is given up is replaced first, if there is room, and then turned off; its number is
    free again after that, so where there is no other it is a power cycle. The server-manager
    lets nobody turn a server off below the minimum, hence the order.

    It keeps only how long a node has been unhealthy; that may be forgotten at any time.
    """

    def __init__(self) -> None:
        self._ailing: dict[str, _Ailing] = {}

    @property
    def given_up(self) -> frozenset[str]:
        """The nodes that are not capacity any more, unless they get healthy after all."""
        return frozenset(name for name, ailing in self._ailing.items() if ailing.given_up)

    def steps(self, scene: Scene) -> list[Step]:
        """What to do now; nothing while the server-manager is away or wants the lab down."""
        if not scene.may_change:
            return []
        steps: list[Step] = []
        for roster in scene.rosters:
            for name in roster.staying:
                scene.ledger.forgive(Power(name, roster.group.name, "on"))
            steps += _dead(scene, roster)
            steps += _missing(scene, roster)
            steps += _lost(scene, roster)
            steps += self._ill(scene, roster)
        return steps

    def _ill(self, scene: Scene, roster: Roster) -> Iterator[Step]:
        for server in roster.servers:
            ailing = self._examine(scene, server)
            if ailing is None:
                continue
            limit_s = ailing.times * max(BOOT_LIMIT_S, scene.lab.boot_limit_s)
            if not ailing.given_up and scene.now - ailing.since >= limit_s:
                ailing.given_up = True
                yield _given_up(scene, server, scene.now - ailing.since)
            if ailing.given_up:
                yield from _off(scene, roster, server)

    def _examine(self, scene: Scene, server: Server) -> _Ailing | None:
        """What is remembered of a node that runs and should be healthy, and is not."""
        probe = scene.probe(server.name)
        if probe is not None and probe.health == "ok":
            self._ailing.pop(server.name, None)
            return None
        if server.state is PowerState.RUNNING and server.wanted is not Wanted.OFF:
            ailing = self._ailing.setdefault(server.name, _Ailing(scene.now))
            return ailing if server.operation is None else None
        ailing = self._ailing.get(server.name)  # type: ignore[assignment]
        if ailing is not None:
            times = ailing.times * 2.0 if ailing.given_up else ailing.times
            self._ailing[server.name] = _Ailing(scene.now, min(times, MOST_TIMES))
        return None


def _given_up(scene: Scene, server: Server, waited_s: float) -> Publish:
    return scene.problem(
        "never-healthy",
        server.name,
        f"{server.name} runs, but has not been healthy for {waited_s:.0f} s: it is replaced",
        f"labctl logs {server.name}",
    )


def _off(scene: Scene, roster: Roster, server: Server) -> Iterator[Step]:
    wanted = [s for s in roster.servers if s.wanted is Wanted.ON and s.state is not PowerState.LOST]
    off = Power(server.name, roster.group.name, "off")
    spare = server.wanted is Wanted.STANDBY or len(wanted) > roster.minimum
    may = spare and scene.ledger.may(off, scene.now)
    if may and scene.is_unreachable_by_nginx(server.name):
        yield scene.ledger.begin(off)


def _dead(scene: Scene, roster: Roster) -> Iterator[Step]:
    """Servers that should run and do not. What the server-manager works on is left to it."""
    if scene.lab.state is LabState.CONVERGING:
        return
    surplus = max(0, roster.count - roster.desired)
    for server in roster.active[: len(roster.active) - surplus]:
        if server.state in DOWN and server.operation is None:
            yield from _on(scene, roster, server.name)


def _missing(scene: Scene, roster: Roster) -> Iterator[Step]:
    """New servers, never more than there is room for: standby nodes, then the lowest free
    numbers."""
    there = roster.count + _may_be_back(scene, roster)
    missing = min(roster.desired - there, roster.maximum - roster.occupied)
    if missing > 0:
        names = [*standby.next_ones(scene, roster), *free_names(roster)]
        for name in names[:missing]:
            yield from _on(scene, roster, name)


def _may_be_back(scene: Scene, roster: Roster) -> bool:
    """Whether somebody turned the leaving node on again while it was being turned off: the answer
    to the power-off is not there yet, but it is wanted on."""
    server = roster.server(roster.leaving) if roster.leaving else None
    if server is None or scene.ledger.power(server.name) is None:
        return False
    return server.wanted is Wanted.ON


def _on(scene: Scene, roster: Roster, name: str) -> Iterator[Step]:
    power = Power(name, roster.group.name, "on")
    if scene.ledger.may(power, scene.now):
        yield scene.ledger.begin(power)


def _lost(scene: Scene, roster: Roster) -> Iterator[Step]:
    """Say of lost servers that they are not wanted any more, so that they are stopped if they
    come back; a new one takes their place."""
    for server in roster.servers:
        name = server.name
        lost = server.state is PowerState.LOST and server.wanted is not Wanted.OFF
        off = Power(name, roster.group.name, "off")
        if lost and scene.ledger.may(off, scene.now) and scene.is_unreachable_by_nginx(name):
            message = f"{name} is lost: its machine is offline; replacing it"
            yield scene.membership("lost", name, message)
            yield scene.ledger.begin(off)
