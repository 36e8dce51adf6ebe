"""Begins a run (up, down, destroy), follows it, and lets Ctrl-C stop it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from labcore.errors import Conflict, Interrupted, LabError, Unreachable
from labcore.waiting import NotYet, wait_until
from labcore.wire.event import Event
from labctl import wish
from labctl.follow import Run, follow, going_on
from labctl.session import Session
from labctl.ui import plain

Show = Callable[[Run, Event], None]
STOP_LIMIT_S = 120.0
ALL_GATES = ("created", "booted", "configured", "ssh", "healthy", "serving")


def gates_of(session: Session, driver: str) -> Sequence[str]:
    """The steps that a node of this driver passes; every known one if nobody says."""
    try:
        capabilities = wish.driver(session, driver).get("capabilities") or {}
    except LabError:
        return ALL_GATES
    return tuple(capabilities.get("gates") or ALL_GATES)


def carry_out(session: Session, lab: str, begin: Callable[[], int], show: Show) -> Run:
    """`begin` a run of `lab`, follow it to its end and give it back; raises what it failed with.

    The first Ctrl-C asks the server-manager to stop what is not begun and waits for that; the
    second leaves at once. Both raise Interrupted, which says how to go on.
    """
    run = None
    try:
        run = Run(lab, begin())
        follow(session.manager, run, show)
    except KeyboardInterrupt:
        _stop(session, lab, run, show)
    except Unreachable as error:
        hint = "the same command again goes on where it stopped"
        raise Unreachable(f"the server-manager died: {error.message}", hint) from error
    run.check()
    return run


def end_of_life(session: Session, lab: str, wish: Callable[[str], int]) -> int:
    """Begin `wish` (down or destroy) of a lab; what is still going on there is stopped first.

    An `up` goes on in the server-manager when its labctl was killed, and must not stand in the way
    of whoever cleans up. Raises TimedOut if it does not end.
    """
    asked = False

    def probe() -> int:
        nonlocal asked
        try:
            return wish(lab)
        except Conflict as error:
            if not asked:
                session.manager.cancel(lab)
                plain.note(f"{error.message}: stopping it")
            asked = True
            raise NotYet(error.message) from error

    name = f"the end of what goes on in lab {lab!r}"
    return wait_until(probe, name=name, limit_s=STOP_LIMIT_S, clock=session.clock)


def _stop(session: Session, lab: str, run: Run | None, show: Show) -> NoReturn:
    """`run` is None if the wish was not answered: it may have been heard all the same."""
    plain.note("stopping what has not begun; Ctrl-C again leaves at once")
    try:
        session.manager.cancel(lab)
        if run is not None:
            follow(session.manager, run, show)
    except KeyboardInterrupt:
        pass
    except LabError as error:
        plain.note(f"could not stop it: {error.message}")
    raise Interrupted(f"lab {lab!r}: interrupted", going_on(lab)) from None
