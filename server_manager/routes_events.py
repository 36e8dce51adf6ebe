"""Views of what happened, and of what there is to make servers with."""

from __future__ import annotations

import threading
from collections.abc import Callable

import flask

from labcore.codec import encode
from labcore.errors import UsageProblem
from labcore.names import check_name
from labcore.wire.event import Event
from labcore.wire.image import is_image_topic
from server_manager.manager import Manager, driver_list
from server_manager.requests import Answer, Views, body, check_admin, number, scaler_of

# A long poll holds a thread. Beyond this many at once they are answered as they come.
MOST_LONG_POLLS = 8
LONGEST_POLL_S = 30.0
MOST_EVENTS = 1000


class EventViews(Views):
    """`/api/v1/events` and `/api/v1/drivers`."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager)
        self._polls = threading.Semaphore(MOST_LONG_POLLS)

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        """Rule, method and view of each."""
        return [
            ("/events", "GET", self.events),
            ("/events", "POST", self.post_event),
            ("/drivers", "GET", self.drivers),
        ]

    def events(self) -> Answer:
        lab = flask.request.args.get("lab") or scaler_of()
        if lab is not None and not (scaler_of() is None and is_image_topic(lab)):
            self.own(lab)
        after = int(number("after", 0, 2**53))
        limit = int(number("limit", MOST_EVENTS, MOST_EVENTS))
        wait_s = number("wait_s", 0, LONGEST_POLL_S)
        held = wait_s > 0 and self._polls.acquire(blocking=False)
        try:
            found = self.core.events.wait(after, lab, limit, wait_s if held else 0.0)
        finally:
            if held:
                self._polls.release()
        return {"events": encode(found)}

    def post_event(self) -> Answer:
        event = body(Event)
        self.own_changed(event.lab)
        self.core.labs.get(event.lab)
        if event.seq != 0:
            raise UsageProblem("$.seq: must be 0 in a new event")
        if event.node is not None:
            check_name(event.node, "node")
        return {"seq": self.core.events.add(event)}, 201

    def drivers(self) -> Answer:
        check_admin()
        only = flask.request.args.get("name")
        return {"drivers": driver_list(self.core, self.manager.images, only)}
