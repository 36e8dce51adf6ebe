"""What happened in a lab: `GET/POST /api/v1/events`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class EventKind(StrEnum):
    """What an event is about; `data` has the fields named here."""

    LAB = "lab"  # state; run = seq of the wish (PUT, down, DELETE) that this ends
    GATE = "gate"  # gate (created|booted|ssh|configured|healthy|serving), seconds since begun
    SERVER = "server"  # operation, outcome (begun|done|failed)
    PORT = "port"  # service, wanted, port, holder: a documented port was taken, so another is used
    DECISION = "decision"  # a whole labcore.wire.scaler.Decision
    # change (joined|left|drain|drained|removed|lost|healed|standby), backends; with drained: cut,
    # how many requests were not finished in time, if the agent says so
    MEMBERSHIP = "membership"
    # run, and of its steps: step, outcome (begun|done), seconds, address; or done, total; or line.
    # Of its end: state (ready|broken|cancelled), code, hint, details
    IMAGE = "image"
    PROBLEM = "problem"  # code, message, hint


@dataclass(frozen=True)
class Event:
    """One thing that happened. `message` is a sentence for people, `data` is for programs."""

    seq: int  # given by the server-manager, rising; 0 in what is posted
    at: str  # RFC 3339 UTC
    lab: str  # or the `image_topic` of an image
    kind: EventKind
    message: str
    node: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)
