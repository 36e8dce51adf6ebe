"""Every state of a VirtualBox machine: what it means to us, and what is done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from labcore.wire.lab import PowerState
from server_manager.drivers.virtualbox.machines import INACCESSIBLE

Start = Literal["nothing", "resume", "boot", "refuse"]
# "ask": the power button, then `poweroff`; "cut": `poweroff` at once; "discard": forget the saved
# memory
Stop = Literal["nothing", "ask", "cut", "discard", "refuse"]


@dataclass(frozen=True)
class Meaning:
    """What a state is to us. `problem` is told to people."""

    power: PowerState
    start: Start
    stop: Stop
    problem: str | None = None


_OFF = Meaning(PowerState.STOPPED, "boot", "nothing")
_BUSY_OFF = Meaning(
    PowerState.STOPPED, "boot", "nothing", "VirtualBox is working on its settings or snapshots"
)
_RUNNING = Meaning(PowerState.RUNNING, "nothing", "ask")
_PAUSED = Meaning(PowerState.PAUSED, "resume", "ask")
_COMING = Meaning(PowerState.STARTING, "nothing", "cut")
_GOING = Meaning(PowerState.STOPPING, "refuse", "cut")
UNHEARD = Meaning(
    PowerState.UNKNOWN, "refuse", "refuse", "VirtualBox gave it a state unknown to us"
)

MEANINGS: Mapping[str, Meaning] = {
    "poweroff": _OFF,
    "teleported": _OFF,
    "aborted": Meaning(PowerState.STOPPED, "boot", "nothing", "its process ended by itself"),
    "saved": Meaning(PowerState.SAVED, "boot", "discard"),
    "aborted-saved": Meaning(
        PowerState.SAVED, "boot", "discard", "its process ended while it came back; it can again"
    ),
    "running": _RUNNING,
    "livesnapshotting": _RUNNING,
    "onlinesnapshotting": _RUNNING,
    "deletingsnapshotlive": _RUNNING,
    "teleporting": _RUNNING,
    "paused": _PAUSED,
    "deletingsnapshotlivepaused": _PAUSED,
    "teleportingpausedvm": _PAUSED,
    # "stuck" is what the API calls it
    "gurumeditation": Meaning(
        PowerState.ERROR, "refuse", "cut", "its virtual CPU gave up (guru meditation)"
    ),
    "stuck": Meaning(PowerState.ERROR, "refuse", "cut", "its virtual CPU gave up"),
    "starting": _COMING,
    "restoring": _COMING,
    "teleportingin": _COMING,
    "stopping": _GOING,
    "saving": _GOING,
    "settingup": _BUSY_OFF,
    "snapshotting": _BUSY_OFF,
    "restoringsnapshot": _BUSY_OFF,
    "deletingsnapshot": _BUSY_OFF,
    INACCESSIBLE: Meaning(
        PowerState.ERROR, "refuse", "nothing", "VirtualBox cannot read its settings file"
    ),
}


def meaning(state: str) -> Meaning:
    """The row of a state; UNHEARD for a word that is in no version we know."""
    return MEANINGS.get(state, UNHEARD)
