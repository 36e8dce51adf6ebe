"""The rules from which the scaler decides: pure functions of time, history and observation."""

from control_node.policies.decision import POLICIES, Policy, check, decide, find, remember
from control_node.policies.types import (
    Action,
    Daytime,
    History,
    NodeSample,
    Observation,
    Point,
    Verdict,
    Wish,
)

__all__ = [
    "POLICIES",
    "Action",
    "Daytime",
    "History",
    "NodeSample",
    "Observation",
    "Point",
    "Policy",
    "Verdict",
    "Wish",
    "check",
    "decide",
    "find",
    "remember",
]
