"""`manual`: only people change the count."""

from __future__ import annotations

from control_node.policies.situation import Proposal, Situation
from labcore.errors import UsageProblem
from labcore.wire.lab import Scaling


def check(scaling: Scaling) -> None:
    """Raise UsageProblem: there is nothing to set."""
    if scaling.options:
        raise UsageProblem("scaling.options: policy 'manual' has none")


def propose(seen: Situation) -> Proposal:
    """As it is."""
    return Proposal(seen.desired, ("policy manual: only people change the count",))
