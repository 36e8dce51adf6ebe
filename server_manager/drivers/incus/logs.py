"""What systemd inside an instance has of our services."""

from __future__ import annotations

import json
from collections.abc import Sequence

from labcore.errors import LabError, NotFound
from labcore.wire.lab import PowerState
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.instances import Instance
from server_manager.guest.units import PREFIX, SEED_UNIT, unit_name

SEED = "seed"  # what labctl-seed said while it booted
FIELDS = "UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,MESSAGE"


def read(
    incus: Incus, found: Instance, source: str | None, known: Sequence[str], lines: int
) -> tuple[str, ...]:
    """The last lines of a service, or of this boot's journal; see ConsoleLog."""
    sources = (SEED, *known)
    if source is not None and source not in sources:
        names = ", ".join(sources)
        raise NotFound(f"{found.ref.name} has no log {source!r}", f"known: {names}")
    if lines <= 0 or found.state is not PowerState.RUNNING:
        return ()
    argv = ["journalctl", "-q", "-b", "-o", "json", "-n", str(lines), f"--output-fields={FIELDS}"]
    if source is not None:
        argv.append(f"--unit={_unit(source)}")
    try:
        result = incus.execute(found.name, argv)
    except LabError:
        return ()  # it may be on its way down
    entries = [_entry(line) for line in result.stdout.splitlines()]
    if source is not None:
        return tuple(text for _, text in entries)
    return tuple(f"{name} | {text}" for name, text in entries)


def _unit(name: str) -> str:
    return SEED_UNIT if name == SEED else unit_name(name)


def _entry(line: str) -> tuple[str, str]:
    try:
        told = json.loads(line)
        unit = str(next((told[f] for f in FIELDS.split(",") if f in told), ""))
        text = told.get("MESSAGE")
    except (ValueError, AttributeError):
        return "", line
    name = unit.removeprefix(PREFIX).removesuffix(".service")
    return name, text if isinstance(text, str) else str(text)
