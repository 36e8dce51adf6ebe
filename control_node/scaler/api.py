"""The scaler's HTTP API: `GET / /status /decisions`, `POST /scale /mode /reset`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

import flask

from control_node.scaler.desk import Desk
from labcore import codec
from labcore.errors import UsageProblem
from labcore.web import MOST_BODY_BYTES, Guard, WsgiApp, answer_errors_as_json
from labcore.wire.lab import Mode

T = TypeVar("T")
DEFAULT_DECISIONS = 20


@dataclass(frozen=True)
class ScaleRequest:
    """The body of `POST /scale`. Without a group: the only scaled one."""

    count: int
    group: str | None = None


@dataclass(frozen=True)
class ModeRequest:
    """The body of `POST /mode`."""

    mode: Mode
    group: str | None = None


@dataclass(frozen=True)
class ResetRequest:
    """The body of `POST /reset`."""

    group: str | None = None


def make_app(desk: Desk, hosts: frozenset[str], token: str) -> WsgiApp:
    """The app behind its guard: everything but `GET /` takes the lab's scaler-api-token."""
    app = flask.Flask("control_node.scaler")
    answer_errors_as_json(app)

    @app.get("/")
    def root() -> dict[str, object]:
        return {"service": "scaler-api", "status": "running"}

    @app.get("/status")
    def status() -> dict[str, object]:
        return codec.encode(desk.status())  # type: ignore[no-any-return]

    @app.get("/decisions")
    def decisions() -> dict[str, object]:
        limit = flask.request.args.get("limit", str(DEFAULT_DECISIONS))
        if not (limit.isascii() and limit.isdigit()):
            raise UsageProblem(f"limit {limit!r} is not a number")
        found = desk.decisions(flask.request.args.get("group"), int(limit))
        return {"decisions": codec.encode(found)}

    @app.post("/scale")
    def scale() -> dict[str, object]:
        wish = _body(ScaleRequest)
        return codec.encode(desk.scale(wish.count, wish.group))  # type: ignore[no-any-return]

    @app.post("/mode")
    def mode() -> dict[str, object]:
        wish = _body(ModeRequest)
        return codec.encode(desk.set_mode(wish.mode, wish.group))  # type: ignore[no-any-return]

    @app.post("/reset")
    def reset() -> dict[str, object]:
        return codec.encode(desk.reset(_body(ResetRequest).group))  # type: ignore[no-any-return]

    guard = Guard(
        hosts=hosts,
        tokens=lambda: {token: "admin"},
        is_open=lambda method, path: method in ("GET", "HEAD") and path == "/",
        most_body_bytes=MOST_BODY_BYTES,
    )
    return guard.wrap(app)


def _body(kind: type[T]) -> T:
    try:
        value = json.loads(flask.request.get_data())
    except (ValueError, RecursionError) as error:
        raise UsageProblem(f"the body is not JSON: {error}", '{"count": 3}') from error
    return codec.decode(kind, value)
