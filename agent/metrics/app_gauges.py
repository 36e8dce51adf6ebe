"""What the node's app says of itself: `GET /.labctl/gauges` on its own port, if it has that."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from labcore import http_client
from labcore.clock import Clock
from labcore.errors import Unreachable

PATH = "/.labctl/gauges"
IN_FLIGHT = "in_flight"
MOST_GAUGES = 64
ASK_AGAIN_S = 10.0
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Gauges:
    """One answer. `in_flight` is None if there was none, or not that number in it."""

    in_flight: int | None = None
    others: Mapping[str, float] = field(default_factory=dict)


class AppGauges:
    """Asks the app. Any thread may call; the last answer to come stands."""

    def __init__(self, app_address: str | None, clock: Clock) -> None:
        """`app_address` is where the app listens, `host:port`; None: the node has no app."""
        self._url = _url(app_address) if app_address else None
        self._clock = clock
        self._latest = Gauges()
        self._not_before = clock.monotonic()

    @property
    def latest(self) -> Gauges:
        """What the last `refresh` learned."""
        return self._latest

    def refresh(self, timeout_s: float) -> Gauges:
        """Ask the app now and return what it said: nothing, if it does not answer in time.

        An app that answers, but knows no gauges, is a user's own: it is asked every 10 s only,
        so as not to fill its log.
        """
        if self._url is None or self._clock.monotonic() < self._not_before:
            return self._latest
        gauges = self._ask(self._url, timeout_s)
        self._latest = gauges  # not what is returned: another thread may write an older one here
        return gauges

    def _ask(self, url: str, timeout_s: float) -> Gauges:
        try:
            status, body = http_client.call("GET", url, timeout_s=timeout_s)
        except Unreachable:
            return Gauges()
        gauges = parse(body) if status == 200 else None
        if gauges is None:
            self._not_before = self._clock.monotonic() + ASK_AGAIN_S
        return gauges or Gauges()


def parse(body: bytes) -> Gauges | None:
    """The gauges in a JSON object of names and numbers; None if the body is something else.

    What is no gauge in it (a name that Prometheus would refuse, a value that is no finite number,
    more than 64 of them) is left out.
    """
    try:
        given = json.loads(body)
    except ValueError:
        return None
    if not isinstance(given, Mapping):
        return None
    numbers = {k: v for k, v in given.items() if _NAME.fullmatch(k) and _is_number(v)}
    in_flight = numbers.pop(IN_FLIGHT, None)
    return Gauges(
        int(in_flight) if in_flight is not None and in_flight >= 0 else None,
        {name: float(numbers[name]) for name in sorted(numbers)[:MOST_GAUGES]},
    )


def _is_number(value: object) -> bool:
    # Integers beyond 2^53 are no gauges, and one of 400 digits has no float at all.
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53
    return whole or (isinstance(value, float) and math.isfinite(value))


def _url(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}{PATH}"  # noqa: S104 - compared, not bound
