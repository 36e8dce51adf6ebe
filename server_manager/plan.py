"""What `up` would do, told before it is done. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labcore.wire.lab import Lab, PowerState, Wanted
from server_manager.labspec import LabSpec, member_name

PlannedAction = Literal["create", "start", "resume", "recreate", "keep", "leave"]


@dataclass(frozen=True)
class Step:
    """One server and what becomes of it."""

    node: str
    action: PlannedAction
    reason: str


_ACTIONS: dict[PowerState, PlannedAction] = {
    PowerState.ABSENT: "create",
    PowerState.STOPPED: "start",
    PowerState.SAVED: "start",
    PowerState.STOPPING: "start",
    PowerState.PAUSED: "resume",
    PowerState.ERROR: "recreate",
    PowerState.RUNNING: "keep",
    PowerState.STARTING: "keep",
}


def steps_of_file(spec: LabSpec) -> tuple[Step, ...]:
    """A lab that does not exist yet: everything is created."""
    return tuple(
        Step(member_name(group, index), "create", "it does not exist")
        for group in spec.groups
        for index in range(1, group.desired_count + 1)
    )


def steps_of_lab(lab: Lab) -> tuple[Step, ...]:
    """A lab that stands: what each of its servers lacks."""
    steps = []
    for server in lab.servers:
        if server.wanted is Wanted.ON:
            # Not known, or lost: left alone until the driver can say what is there.
            action = _ACTIONS.get(server.state, "leave")
            steps.append(Step(server.name, action, server.problem or f"it is {server.state}"))
        else:
            steps.append(Step(server.name, "leave", f"it is wanted {server.wanted}"))
    return tuple(steps)
