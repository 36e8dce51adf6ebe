"""Power: as many servers as wished for, none that is dead or lost, none that never gets healthy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from control_node.scaler.roster import DOWN, TAKES_ROOM, Roster
from control_node.scaler.scene import Scene
from control_node.scaler.types import Power, Step
from labcore.names import node_name
from labcore.wire.lab import LabState, PowerState, Server, Wanted

# How long a running server may be unhealthy before it is power-cycled; doubles with each cycle of
# the same node. Longer than a cold boot on a slow host.
BOOT_LIMIT_S = 120.0
LONGEST_BOOT_LIMIT_S = 960.0
HIGHEST_INDEX = 99  # the port formula ends there


@dataclass
class _Ailing:
    since: float
    cycles: int = 0


class Healer:
    """Decides which servers to turn on and which to power-cycle.

    It keeps only how long a node has been unhealthy; that may be forgotten at any time.
    """

    def __init__(self) -> None:
        self._ailing: dict[str, _Ailing] = {}

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
        for server in roster.active:
            if self._cycle_is_due(scene, roster, server):
                ailing = self._ailing[server.name]
                waited = scene.now - ailing.since
                ailing.since, ailing.cycles = scene.now, ailing.cycles + 1
                yield scene.problem(
                    "never-healthy",
                    server.name,
                    f"{server.name} runs, but has not been healthy for {waited:.0f} s: "
                    "turning it off and on",
                    f"labctl logs {server.name}",
                )
                yield scene.ledger.begin(Power(server.name, roster.group.name, "off"))

    def _cycle_is_due(self, scene: Scene, roster: Roster, server: Server) -> bool:
        name = server.name
        probe = scene.probe(name)
        if probe is not None and probe.health == "ok":
            self._ailing.pop(name, None)
            return False
        settled = server.state is PowerState.RUNNING and server.operation is None
        if not settled or scene.ledger.power(name) is not None:
            if name in self._ailing:
                self._ailing[name].since = scene.now
            return False
        ailing = self._ailing.setdefault(name, _Ailing(scene.now))
        limit = min(BOOT_LIMIT_S * 2.0**ailing.cycles, LONGEST_BOOT_LIMIT_S)
        return (
            scene.now - ailing.since >= limit
            and scene.ledger.may(Power(name, roster.group.name, "off"), scene.now)
            and scene.is_unreachable_by_nginx(name)
        )


def _dead(scene: Scene, roster: Roster) -> Iterator[Step]:
    """Servers that should run and do not. What the server-manager works on is left to it."""
    if scene.lab.state is LabState.CONVERGING:
        return
    surplus = max(0, roster.count - roster.desired)
    for server in roster.active[: len(roster.active) - surplus]:
        if server.state in DOWN and server.operation is None:
            yield from _on(scene, roster, server.name)


def _missing(scene: Scene, roster: Roster) -> Iterator[Step]:
    """New servers, lowest free numbers first, never more than there is room for."""
    missing = roster.desired - roster.count
    room = roster.maximum - roster.occupied
    for name in _free_names(roster)[: max(0, min(missing, room))]:
        yield from _on(scene, roster, name)


def _free_names(roster: Roster) -> list[str]:
    by_name = {s.name: s for s in roster.servers}
    names = (node_name(roster.group.name, index) for index in range(1, HIGHEST_INDEX + 1))
    return [
        name
        for name in names
        if name not in roster.coming and (name not in by_name or _is_free(by_name[name]))
    ]


def _is_free(server: Server) -> bool:
    taken = server.state in TAKES_ROOM or server.state is PowerState.LOST
    return server.wanted is Wanted.OFF and not taken


def _on(scene: Scene, roster: Roster, name: str) -> Iterator[Step]:
    power = Power(name, roster.group.name, "on")
    if scene.ledger.may(power, scene.now):
        yield scene.ledger.begin(power)


def _lost(scene: Scene, roster: Roster) -> Iterator[Step]:
    """Say of lost servers that they are not wanted any more, so that they are stopped if they
    come back; a new one takes their place."""
    for server in roster.servers:
        name = server.name
        lost = server.state is PowerState.LOST and server.wanted is Wanted.ON
        off = Power(name, roster.group.name, "off")
        if lost and scene.ledger.may(off, scene.now) and scene.is_unreachable_by_nginx(name):
            message = f"{name} is lost: its machine is offline; replacing it"
            yield scene.membership("lost", name, message)
            yield scene.ledger.begin(off)
