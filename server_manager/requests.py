"""What every view asks of the request it answers: who calls, and with what."""

from __future__ import annotations

import json
from typing import TypeVar

import flask

from labcore.codec import decode
from labcore.errors import Conflict, Forbidden, UsageProblem
from labcore.names import check_name
from labcore.web import PRINCIPAL
from labcore.wire.lab import Desired
from server_manager.manager import Manager
from server_manager.secrets import ADMIN, SCALER_PREFIX

T = TypeVar("T")
Answer = dict[str, object] | tuple[dict[str, object], int]


def principal() -> str:
    """Whose token came with the request; "" for none."""
    return str(flask.request.environ.get(PRINCIPAL) or "")


def scaler_of() -> str | None:
    """The lab whose scaler calls; None: a person does."""
    caller = principal()
    return caller.removeprefix(SCALER_PREFIX) if caller.startswith(SCALER_PREFIX) else None


def check_admin() -> None:
    if principal() != ADMIN:
        raise Forbidden("a scaler may not do this")


def body(kind: type[T]) -> T:
    return decode(kind, json_body())


def json_body() -> object:
    raw = flask.request.get_data(cache=False)
    if not raw:
        raise UsageProblem("a JSON body is needed")
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageProblem(f"the body is not JSON: {error}") from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def number(name: str, default: float, most: float) -> float:
    text = flask.request.args.get(name)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**53:
        raise UsageProblem(f"{name}={text!r} is not a number from 0")
    return min(number, most)


class Views:
    """What the views of all parts share."""

    def __init__(self, manager: Manager) -> None:
        self.manager = manager
        self.core = manager.core

    def own(self, lab: str) -> str:
        """The lab of a route, if the caller may see it: any for a person, its own for a scaler."""
        caller = scaler_of()
        if caller is not None:
            if caller != lab:
                raise Forbidden(f"this token is for lab {caller!r}")
            self.manager.power.heard_from_scaler(lab)
        return check_name(lab, "lab")

    def own_changed(self, lab: str) -> str:
        """`own`, and no change by a scaler unless its lab is to be up."""
        self.own(lab)
        if scaler_of() and self.core.labs.get(lab).desired is not Desired.UP:
            raise Conflict(f"lab {lab!r} is not to be up")
        return lab
