"""Gathers what `status` shows, once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labcore.errors import Conflict, LabError, NotFound
from labcore.wire.lab import Lab
from labctl import view
from labctl.session import Session

REFRESH_S = 2.0


def gather(session: Session, lab: Lab) -> dict[str, Any]:
    """The view of a lab now; a scaler that does not answer is one of its problems."""
    try:
        return view.compose(lab, session.scaler(lab).status(), None, session.manager.url)
    except Conflict:
        return view.compose(lab, None, None, session.manager.url)
    except LabError as error:
        return view.compose(lab, None, error, session.manager.url)


def gather_all(session: Session) -> list[dict[str, Any]]:
    """One short line of data for each lab, those of others behind one's own."""
    ours = [
        {
            "lab": lab.lab,
            "driver": lab.driver,
            "state": str(lab.state),
            "url": lab.load_balancer_url,
        }
        for lab in session.manager.labs()
    ]
    others = [
        {"lab": o.lab, "driver": o.driver, "state": "elsewhere", "url": None, "nodes": o.servers}
        for o in session.manager.elsewhere()
    ]
    return [*ours, *others]


def views(session: Session, name: str) -> Iterator[dict[str, Any]]:
    """The view of a lab every two seconds, until the lab is gone or somebody stops asking."""
    while True:
        try:
            yield gather(session, session.manager.lab(name))
        except NotFound:
            return
        session.clock.sleep(REFRESH_S)
