"""The real balancer: render → `nginx -t` → rename → HUP, and then looking at what answers.

    submit                                        poll, until
    ──────▶ candidate.conf ─ nginx -t ─▶ balancer.json ─▶ nginx.conf ─▶ HUP ─▶ answered ─▶ drained
            refused: all as it was       generation, backends,                 N fresh    no worker
                                         workers to outlive                    answers    of before

A crash between any two of these is repaired by the next `submit`: a generation that does not
answer is signalled again.
"""

from __future__ import annotations

import dataclasses
import os
import signal

from control_node.balancer.layout import Layout, check, settings_for
from control_node.balancer.model import Routing, View
from control_node.balancer.render import Settings, generation_of, render
from control_node.balancer.state import State, digest_of, read_state
from control_node.balancer.workers import Worker, find_master, workers_of
from labcore import files, http_client
from labcore.clock import Clock
from labcore.errors import LabError, Unreachable
from labcore.web import split_address
from labcore.wire.node import NodeConfig

CONFIRMATIONS = 5  # old and new workers accept side by side for 0.1 s, so one answer says little
ANSWER_LIMIT_S = 0.5
RELOAD_LIMIT_S = 5.0  # after this a reload that is not seen to happen is signalled again


class NginxBalancer:
    """LoadBalancer over the nginx whose prefix is `layout.directory`. For one thread.

    `submit` takes 20-60 ms and at most 4 s, `poll` a few ms and at most 0.5 s.
    """

    def __init__(self, layout: Layout, program: str, settings: Settings, clock: Clock) -> None:
        self._layout = layout
        self._program = program
        self._settings = settings
        self._clock = clock
        self._signalled_at: float | None = None

    @classmethod
    def of_node(cls, node: NodeConfig, clock: Clock) -> NginxBalancer:
        """The balancer of a control node; raises DriverUnusable if it has no usable nginx."""
        return cls(Layout.of_node(node), node.nginx, settings_for(node), clock)

    def submit(self, routing: Routing) -> str:
        """See LoadBalancer."""
        generation = generation_of(routing, self._settings)
        state = read_state(self._layout.state)
        if generation == state.submitted and self._on_its_way(state):
            return generation
        text = render(routing, self._settings)
        files.write_atomic(self._layout.candidate, text)
        check(self._program, self._layout, self._layout.candidate)
        master = find_master(self._layout.pid, self._layout.directory)
        self._remember(state, generation, routing, text, master)
        files.write_atomic(self._layout.conf, text)
        self._reload(master)
        return generation

    def _on_its_way(self, state: State) -> bool:
        if self._foreign(state):
            return False
        if self._answered() == state.submitted:
            return True
        at = self._signalled_at
        return at is not None and self._clock.monotonic() - at < RELOAD_LIMIT_S

    def _remember(
        self, state: State, generation: str, routing: Routing, text: str, master: int | None
    ) -> None:
        """Before the file it speaks of: an unknown generation must never answer."""
        running = workers_of(master) if master is not None else ()
        still = tuple(w for w in state.old_workers if w not in running and w.alive())
        dataclasses.replace(
            state,
            submitted=generation,
            digest=digest_of(text.encode()),
            old_workers=(*still, *running),
            known=state.remembering(generation, routing.backends),
        ).write(self._layout.state)

    def _reload(self, master: int | None) -> None:
        self._signalled_at = None
        try:
            if master is None:
                raise ProcessLookupError
            os.kill(master, signal.SIGHUP)
        except ProcessLookupError:
            raise Unreachable(
                f"nginx is not running in {self._layout.directory}",
                "its supervisor starts it again, with the new configuration, which is in place",
            ) from None
        self._signalled_at = self._clock.monotonic()

    def poll(self) -> View:
        """See LoadBalancer."""
        state = read_state(self._layout.state)
        answered = self._answered()
        backends = state.backends_of(answered)
        old = self._old_workers(state)
        return View(
            submitted=state.submitted,
            answered=answered,
            backends=backends,
            old_workers=tuple(worker.pid for worker in old),
            problem=self._problem(state, answered, backends is not None),
        )

    def _answered(self) -> str | None:
        """What every one of several fresh connections answers; None if they differ or fail."""
        host, port = split_address(self._settings.listen)
        reached = "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 - compared, not bound
        url = f"http://{reached}:{port}/.labctl/generation"
        first: str | None = None
        for _ in range(CONFIRMATIONS):
            try:
                status, raw = http_client.call("GET", url, timeout_s=ANSWER_LIMIT_S)
            except LabError:
                return None
            text = raw.decode(errors="replace")
            if status != 200 or text != (first or text):
                return None
            first = text
        return first

    def _old_workers(self, state: State) -> tuple[Worker, ...]:
        """Those that ran before the last reload, and any that is shutting down.

        The second catches a worker that crashed and was started again with the earlier
        configuration between our look at the process table and the reload.
        """
        recorded = tuple(worker for worker in state.old_workers if worker.alive())
        master = find_master(self._layout.pid, self._layout.directory)
        leaving = workers_of(master, leaving_only=True) if master is not None else ()
        return (*recorded, *(worker for worker in leaving if worker not in recorded))

    def _problem(self, state: State, answered: str | None, known: bool) -> str | None:
        if find_master(self._layout.pid, self._layout.directory) is None:
            return "nginx is not running"
        if self._foreign(state):
            return "nginx.conf was changed by somebody else; the next change replaces it"
        if answered is not None and not known:
            return "nginx answers with a configuration that labctl did not write"
        at = self._signalled_at
        late = at is not None and self._clock.monotonic() - at >= RELOAD_LIMIT_S
        if late and answered != state.submitted:
            return f"nginx did not follow a reload within {RELOAD_LIMIT_S:g} s; see its log"
        return None

    def _foreign(self, state: State) -> bool:
        """Whether nginx.conf is not what we wrote."""
        try:
            return digest_of(self._layout.conf.read_bytes()) != state.digest
        except OSError:
            return True
