"""Begins a run (up, down, destroy), follows it, and lets Ctrl-C stop it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labcore.errors import Interrupted, LabError, Unreachable
from labcore.wire.event import Event
from labctl.follow import Run, follow, going_on
from labctl.session import Session
from labctl.ui import plain

Show = Callable[[Run, Event], None]
ALL_GATES = ("created", "booted", "ssh", "configured", "healthy", "serving")


def gates_of(session: Session, driver: str) -> Sequence[str]:
    """The steps that a node of this driver passes; every known one if nobody says."""
    try:
        answer = session.manager.request("GET", "/drivers")
    except LabError:
        return ALL_GATES
    for entry in answer.get("drivers", []) if isinstance(answer, dict) else []:
        capabilities = entry.get("capabilities") or {}
        if entry.get("name") == driver and capabilities.get("gates"):
            return tuple(capabilities["gates"])
    return ALL_GATES


def carry_out(session: Session, lab: str, number: int, show: Show) -> Run:
    """Follow run `number` of `lab` to its end and give it back; raises what it failed with.

    The first Ctrl-C asks the server-manager to stop what is not begun and waits for that; the
    second leaves at once. Both raise Interrupted, which says how to go on.
    """
    run = Run(lab, number)
    try:
        follow(session.manager, run, show)
    except KeyboardInterrupt:
        _stop(session, run, show)
    except Unreachable as error:
        raise Unreachable(
            f"the server-manager died: {error.message}", f"labctl up --lab {lab} goes on"
        ) from error
    run.check()
    return run


def _stop(session: Session, run: Run, show: Show) -> None:
    plain.note("stopping what has not begun; Ctrl-C again leaves at once")
    try:
        session.manager.cancel(run.lab)
        follow(session.manager, run, show)
    except KeyboardInterrupt:
        pass
    except LabError as error:
        plain.note(f"could not stop it: {error.message}")
    raise Interrupted(f"lab {run.lab!r}: interrupted", going_on(run.lab)) from None
