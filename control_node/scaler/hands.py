"""Carries operations out, in threads: power, drain, counts, the balancer; and posts events."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from control_node.balancer.model import LoadBalancer
from control_node.scaler.types import Done, Operation, Power, SetCount, TellDrain
from labcore.clock import Clock, rfc3339
from labcore.errors import Conflict, LabError
from labcore.http_client import call_json
from labcore.wire.event import Event, EventKind
from labcore.wire.lab import Lab, Mode

log = logging.getLogger(__name__)

POWER_AT_ONCE = 4  # many virtual machines started at the same moment fail
TELL_LIMIT_S = 2.0
MOST_WAITING_EVENTS = 1000
RETRY_EVENTS_S = 1.0


class Manager(Protocol):
    """What the scaler needs of the server-manager: labcore.manager_client.ManagerClient."""

    def lab(self, lab: str) -> Lab:
        """The lab as it is now."""
        ...

    def set_group(
        self, lab: str, group: str, *, desired_count: int | None = None, mode: Mode | None = None
    ) -> None:
        """Write a wish."""
        ...

    def power(self, server: str, action: str) -> str:
        """Turn a server on or off; may take seconds."""
        ...

    def server_action(self, lab: str, name: str, action: str) -> None:
        """Make a `standby` node of a server, or `pause` one that is; may take seconds."""
        ...

    def post_event(self, event: Event) -> None:
        """Add to the history."""
        ...


class Wishes:
    """The one way to the desired counts and modes. A person's wish beats a policy's older one."""

    def __init__(self, lab: str, manager: Manager, clock: Clock) -> None:
        self.lab = lab
        self._manager = manager
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}

    def by_person(self, group: str, count: int | None, mode: Mode) -> None:
        """Write what a person wants. Raises LabError."""
        with self._lock:
            self._manager.set_group(self.lab, group, desired_count=count, mode=mode)
            self._written[group] = self._clock.monotonic()

    def by_policy(self, wish: SetCount) -> None:
        """Write what a policy wants, unless a person wrote since it looked. Raises LabError."""
        with self._lock:
            if self._written.get(wish.group, -math.inf) >= wish.decided:
                raise Conflict("a person changed it meanwhile")
            self._manager.set_group(self.lab, wish.group, desired_count=wish.count)


class Hands:
    """Starts operations and reports their end to `done`, from some thread."""

    def __init__(
        self,
        manager: Manager,
        balancer: LoadBalancer,
        wishes: Wishes,
        agent_token: str,
        clock: Clock,
        done: Callable[[Done], None],
    ) -> None:
        self.manager = manager
        self.balancer = balancer
        self._wishes = wishes
        self._agent_token = agent_token
        self._clock = clock
        self._done = done
        self._power = threading.BoundedSemaphore(POWER_AT_ONCE)
        # A balancer is for one thread: it is polled here too.
        self.nginx = ThreadPoolExecutor(1, "nginx")
        self.quick = ThreadPoolExecutor(2, "quick")

    def begin(self, operation: Operation) -> None:
        """Start it; returns at once."""
        if isinstance(operation, Power):
            # A thread of its own that dies with us: it may take a minute, and a stop does not wait.
            name = f"power-{operation.node}"
            threading.Thread(
                target=self._run_power, args=(operation,), name=name, daemon=True
            ).start()
        elif isinstance(operation, SetCount | TellDrain):
            self.quick.submit(self._run, operation)
        else:
            self.nginx.submit(self._run, operation)

    def refuse(self, operation: Operation, problem: str) -> None:
        """Report it as failed without having begun it."""
        self._done(Done(operation, self._clock.monotonic(), problem))

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for: it is idempotent, and done again."""
        for pool in (self.nginx, self.quick):
            pool.shutdown(wait=False, cancel_futures=True)

    def _run_power(self, operation: Power) -> None:
        with self._power:
            self._run(operation)

    def _run(self, operation: Operation) -> None:
        problem: str | None = None
        code = ""
        try:
            self._carry_out(operation)
        except LabError as error:
            problem, code = error.message, error.code
        except Exception as error:  # a bug must not leave the operation open for ever
            log.exception("%s failed", operation)
            problem = f"{type(error).__name__}: {error}"
        self._done(Done(operation, self._clock.monotonic(), problem, code))

    def _carry_out(self, operation: Operation) -> None:
        if isinstance(operation, Power):
            self._change_power(operation)
        elif isinstance(operation, SetCount):
            self._wishes.by_policy(operation)
        elif isinstance(operation, TellDrain):
            url = f"http://{operation.address}/drain"
            body = {"draining": operation.draining}
            call_json("POST", url, body, token=self._agent_token, timeout_s=TELL_LIMIT_S)
        else:
            self.balancer.submit(operation.routing)

    def _change_power(self, operation: Power) -> None:
        if operation.to in ("on", "off"):
            self.manager.power(operation.node, operation.to)
        else:
            self.manager.server_action(self._wishes.lab, operation.node, operation.to)


class Poster:
    """Posts events in the background, in order. While nobody takes them it keeps the newest
    MOST_WAITING_EVENTS, and says afterwards how many were dropped."""

    def __init__(self, lab: str, manager: Manager, clock: Clock) -> None:
        self.dropped = 0
        self._lab = lab
        self._manager = manager
        self._clock = clock
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def post(self, event: Event) -> None:
        """Post it as soon as possible; returns at once."""
        log.info("%s", event.message)
        with self._changed:
            self._waiting.append(event)
            if len(self._waiting) > MOST_WAITING_EVENTS:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.notify()

    def close(self, limit_s: float) -> None:
        """Post what waits, for at most `limit_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                event = self._waiting[0]
            if not self._send(event):
                with self._changed:
                    if self._closed:
                        return
                    self._changed.wait(RETRY_EVENTS_S)
                continue
            with self._changed:
                if self._waiting and self._waiting[0] is event:
                    self._waiting.popleft()

    def _send(self, event: Event) -> bool:
        """Whether it need not be tried again."""
        try:
            self._manager.post_event(event)
            self._tell_dropped()
        except LabError as error:
            log.warning("event not taken: %s", error.message)
            # Refused for good (another version, say): it would block all those behind it.
            return error.code in ("usage", "not-found", "forbidden")
        return True

    def _tell_dropped(self) -> None:
        if not self.dropped:
            return
        message = f"{self.dropped} events of the scaler were dropped: nobody took them"
        data = {"code": "events-dropped", "message": message, "hint": ""}
        at = rfc3339(self._clock.now())
        self._manager.post_event(Event(0, at, self._lab, EventKind.PROBLEM, message, None, data))
        self.dropped = 0
