"""The one tree of errors. Raise where the cause is known; turn into text or JSON at the edge.

LabError                    code            exit  http
├── UsageProblem            usage              2   400   bad input: what, where, allowed values
├── NotFound                not-found          3   404
├── Conflict                conflict           4   409   not now, and why
├── Unauthorized            unauthorized       1   401
├── Forbidden               forbidden          1   403
├── DriverUnusable          driver-unusable    5   503   a back end or program that is not there
├── DriverFailed            driver-failed      1   500   a back end that tried and failed
├── TimedOut                timed-out          6   504   which wait, how long, last evidence
├── Unreachable             unreachable        1   502   a process of ours does not answer
└── Interrupted             interrupted      130   499
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class LabError(Exception):
    """Anything that goes wrong on purpose. `message` says what and which; `hint` says what to do.

    `details` are further lines (the last output of a command, all problems of a lab file).
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def to_wire(self) -> dict[str, object]:
        """The JSON body of an error answer: `{"error": {code, message, hint[, details]}}`."""
        error: dict[str, object] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}


class UsageProblem(LabError):
    """Input that cannot be used; nothing was started."""

    code = "usage"
    exit_code = 2
    http_status = 400


class NotFound(LabError):
    """A lab, server, group or decision that does not exist."""

    code = "not-found"
    exit_code = 3
    http_status = 404


class Conflict(LabError):
    """The request is fine, but not now or not in this state."""

    code = "conflict"
    exit_code = 4
    http_status = 409


class Unauthorized(LabError):
    """No token, or a wrong one."""

    code = "unauthorized"
    http_status = 401


class Forbidden(LabError):
    """A token that is right, but may not do this."""

    code = "forbidden"
    http_status = 403


class DriverUnusable(LabError):
    """A back end, or a program it needs, is missing or unfit on this machine."""

    code = "driver-unusable"
    exit_code = 5
    http_status = 503


class DriverFailed(LabError):
    """A back end was asked and failed; `details` hold the last lines it printed."""

    code = "driver-failed"


class TimedOut(LabError):
    """A wait with a name ended without its condition."""

    code = "timed-out"
    exit_code = 6
    http_status = 504


class Unreachable(LabError):
    """One of labctl's own processes does not answer."""

    code = "unreachable"
    http_status = 502


class Interrupted(LabError):
    """Somebody pressed Ctrl-C or asked us to stop."""

    code = "interrupted"
    exit_code = 130
    http_status = 499


_BY_CODE: dict[str, type[LabError]] = {
    cls.code: cls
    for cls in (
        LabError,
        UsageProblem,
        NotFound,
        Conflict,
        Unauthorized,
        Forbidden,
        DriverUnusable,
        DriverFailed,
        TimedOut,
        Unreachable,
        Interrupted,
    )
}


def from_wire(body: object, fallback: str) -> LabError:
    """Rebuild the error that `to_wire` wrote; `fallback` is the message for any other body."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return LabError(fallback)
    details = error.get("details")
    return _BY_CODE.get(str(error.get("code")), LabError)(
        str(error.get("message") or fallback),
        str(error.get("hint") or ""),
        tuple(str(line) for line in details) if isinstance(details, list) else (),
    )
