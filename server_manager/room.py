"""How many servers of a group may run: those that do, those that are to, and those that leave."""

from __future__ import annotations

from dataclasses import dataclass

from labcore.errors import LabError
from labcore.wire.lab import Group, PowerState, Wanted
from server_manager.core import Core
from server_manager.operations import OFF, Operations
from server_manager.registry import LabRecord, ServerRecord

_OFF_FOR_SURE = (*OFF, PowerState.SAVED, PowerState.ERROR, PowerState.LOST)


@dataclass(frozen=True)
class Seen:
    """What the driver says of a lab's servers, by their ids, before a wish is written."""

    lost: frozenset[str] = frozenset()  # their machine is positively gone: they do not count
    # may run, in whatever way; unknown ones and those that boot may too
    on: frozenset[str] = frozenset()


class Room:
    """Knows whether one more server may join a group."""

    def __init__(self, core: Core, operations: Operations) -> None:
        self._core = core
        self._operations = operations

    def look(self, lab: LabRecord) -> Seen:
        """Ask the driver; outside of transactions, as that may take a while. Raises LabError."""
        rows = self._core.servers.of(lab.name)
        booting = frozenset(s.id for s in rows if self._operations.may_boot(s))
        told = self._core.driver(lab).servers(lab.name)
        return Seen(
            lost=frozenset(s.ref.id for s in told if s.state is PowerState.LOST),
            on=booting | {s.ref.id for s in told if s.state not in _OFF_FOR_SURE},
        )

    def look_or_fear(self, lab: LabRecord) -> Seen:
        """The same; where the driver cannot say, everything may run."""
        try:
            return self.look(lab)
        except LabError:
            return Seen(on=frozenset(s.id for s in self._core.servers.of(lab.name)))

    def is_left(self, lab: LabRecord, group: Group, seen: Seen, besides: str = "") -> bool:
        """Whether one more may be wanted on, or the server `besides` be so. What is on its way out
        counts as long as it may run."""
        if group.scaling is None:
            return True
        others = self._others(lab, group, seen, besides)
        taken = sum(s.wanted is Wanted.ON or self._leaves(s, seen) for s in others)
        return taken < group.scaling.max

    def may_boot(self, lab: LabRecord, server: ServerRecord, seen: Seen) -> bool:
        """Whether one that is wanted on may be started. There may be more of those than there is
        room for, where a lost one is back beside its substitute: lower numbers go first."""
        group = lab.spec.group(server.group)
        if group.scaling is None or server.id in seen.on:
            return True
        others = self._others(lab, group, seen, server.name)
        first = sum(s.wanted is Wanted.ON and s.index < server.index for s in others)
        behind = sum(
            s.wanted is Wanted.ON and s.index > server.index and s.id in seen.on for s in others
        )
        leaving = sum(self._leaves(s, seen) for s in others)
        return first + behind + leaving < group.scaling.max

    def _others(
        self, lab: LabRecord, group: Group, seen: Seen, besides: str
    ) -> tuple[ServerRecord, ...]:
        return tuple(
            s
            for s in self._core.servers.of(lab.name)
            if s.group == group.name and s.name != besides and s.id not in seen.lost
        )

    def _leaves(self, server: ServerRecord, seen: Seen) -> bool:
        may_run = server.id in seen.on or self._operations.may_boot(server)
        return server.wanted is Wanted.OFF and may_run
