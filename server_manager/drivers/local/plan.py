"""What a supervisor is told, in `units.json`: which programs to run, and in which order."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence
from dataclasses import dataclass

from labcore.errors import UsageProblem
from labcore.services import Unit

UNITS_FILE = "units.json"
SUPERVISOR_FILE = "supervisor.json"  # {"pid": of the supervisor}, written by itself
LOGS = "logs"  # folder; one <service>.log each
SUPERVISOR_MODULE = "server_manager.drivers.local.supervisor"
# In the environment of every process of a server; its value is the server's id.
MARK = "LABCTL_SERVER_ID"


@dataclass(frozen=True)
class Plan:
    """All that one supervisor runs. Each unit's `env` is its whole environment."""

    launcher: tuple[str, ...]  # put in front of each argv; may be empty
    units: tuple[Unit, ...]


def start_order(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units, each behind those it is `after`; names that are not here do not count.

    Raises UsageProblem if they wait for one another.
    """
    by_name = {unit.name: unit for unit in units}
    graph = {unit.name: [name for name in unit.after if name in by_name] for unit in units}
    try:
        return tuple(by_name[name] for name in graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        circle = " after ".join(reversed(error.args[1]))
        raise UsageProblem(f"services wait for one another: {circle}") from error
