"""The HTTP API of the metrics service: `GET /metrics`, `GET /health`, `POST /drain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import flask

from agent.metrics.app_gauges import AppGauges
from agent.metrics.drain import DrainState
from agent.metrics.exposition import OPENMETRICS, TEXT, render
from agent.metrics.sampler import Sampler
from labcore import codec
from labcore.errors import Conflict, UsageProblem
from labcore.web import answer_errors_as_json
from labcore.wire.metrics import AgentMetrics

FIRST_SAMPLE_S = 2.0
GAUGES_S = 1.0


@dataclass(frozen=True)
class DrainRequest:
    """The body of `POST /drain`, and of its answer."""

    draining: bool


@dataclass(frozen=True)
class Sources:
    """Where the metrics come from."""

    node: str
    sampler: Sampler
    gauges: AppGauges
    drain: DrainState
    uptime_s: Callable[[], float]

    def metrics(self) -> AgentMetrics:
        """What there is to say now.

        While the node drains the app is asked anew, as somebody waits for `in_flight` to be 0;
        otherwise its last answer is at most a sample old. Raises Conflict if there is no sample.
        """
        sample = self.sampler.latest(wait_s=FIRST_SAMPLE_S)
        if sample is None:
            raise Conflict(f"{self.node} has no sample yet", "ask again in a second")
        draining = self.drain.draining
        gauges = self.gauges.refresh(GAUGES_S) if draining else self.gauges.latest
        return AgentMetrics(
            cpu=sample.cpu,
            memory=sample.memory,
            status="draining" if draining else "active",
            node=self.node,
            seq=sample.seq,
            uptime_s=round(self.uptime_s(), 3),
            in_flight=gauges.in_flight,
            gauges=gauges.others,
        )


def make_app(sources: Sources) -> flask.Flask:
    """The Flask app. Who may call is the guard's matter."""
    app = flask.Flask("agent.metrics")
    answer_errors_as_json(app)

    @app.get("/metrics")
    def metrics() -> flask.Response:
        now = sources.metrics()
        wanted = _wanted()
        if wanted is None:
            return flask.jsonify(codec.encode(now))
        text = render(now, openmetrics=wanted == OPENMETRICS)
        return flask.Response(text, content_type=wanted)

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "node": sources.node}

    @app.post("/drain")
    def drain() -> dict[str, object]:
        try:
            body = json.loads(flask.request.get_data())
        except ValueError as error:
            raise UsageProblem(f"the body is not JSON: {error}", '{"draining": true}') from error
        sources.drain.set(codec.decode(DrainRequest, body).draining)
        return {"draining": sources.drain.draining}

    return app


def _wanted() -> str | None:
    """The text format that the caller would rather have than JSON; None: JSON.

    Versions are left aside: both texts are the same in every version there is.
    """
    formats = {"text/plain": TEXT, "application/openmetrics-text": OPENMETRICS}
    for kind, quality in flask.request.accept_mimetypes:
        name = kind.partition(";")[0].strip().lower()
        if quality > 0 and name in (*formats, "application/json", "application/*", "*/*"):
            return formats.get(name)
    return None
