"""Scaling by a person: always through the scaler, which is the only writer of membership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labcore.errors import Conflict, NotFound, Unreachable, UsageProblem
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import Group, Lab, Mode
from labcore.wire.scaler import ScalerStatus
from labctl.clients.scaler import ScalerClient
from labctl.session import Session

LIMIT_S = 300.0  # to wait for a scale; a slow machine may boot, fail and boot again for longer


def scaled_group(lab: Lab, name: str | None) -> Group:
    """The scaled group of that name, or the only one. Raises NotFound or UsageProblem."""
    scaled = {group.name: group for group in lab.groups if group.scaling is not None}
    known = ", ".join(scaled) or "none"
    if name is not None and name not in scaled:
        raise NotFound(f"lab {lab.lab!r} scales no group {name!r}", f"it scales: {known}")
    if name is None and len(scaled) != 1:
        raise UsageProblem(f"lab {lab.lab!r} scales {len(scaled)} groups", f"--group, of: {known}")
    return scaled[name] if name is not None else next(iter(scaled.values()))


def scale(
    session: Session,
    lab: Lab,
    name: str | None,
    count: int,
    *,
    limit_s: float | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Ask for `count` nodes and wait until exactly so many serve; None: as long as a boot may take.

    Raises Conflict naming the limits if `count` is not within them, Unreachable if the scaler is
    away, TimedOut with what was seen last. `tell` gets a sentence whenever the number changes.
    """
    group = scaled_group(lab, name)
    limits = group.scaling
    if limits is not None and not limits.min <= count <= limits.max:
        which = f"minimum is {limits.min}" if count < limits.min else f"maximum is {limits.max}"
        raise Conflict(
            f"cannot scale {group.name} to {count}: its {which}",
            f"change scaling in the lab file (or --set) and run labctl up --lab {lab.lab}",
        )
    scaler = session.scaler(lab)
    scaler.scale(count, group.name)
    if limit_s is None:
        limit_s = max(LIMIT_S, 2.0 * lab.boot_limit_s)
    _wait(session, scaler, group.name, count, limit_s, tell)
    return {"lab": lab.lab, "group": group.name, "count": count, "mode": "manual"}


def set_mode(session: Session, lab: Lab, name: str | None, mode: Mode) -> None:
    """Let the policy decide, or people."""
    session.scaler(lab).set_mode(mode, scaled_group(lab, name).name)


def reset(session: Session, lab: Lab, name: str | None) -> None:
    """Let the scaler make nodes again at once, although many failed to boot."""
    session.scaler(lab).reset(scaled_group(lab, name).name)


def modes(lab: Lab, name: str | None) -> list[dict[str, Any]]:
    """Who decides about each scaled group, or about the one named."""
    groups = [scaled_group(lab, name)] if name else [g for g in lab.groups if g.scaling]
    return [
        {
            "group": group.name,
            "mode": group.mode,
            "policy": group.scaling.policy,
            "count": group.desired_count,
            "min": group.scaling.min,
            "max": group.scaling.max,
        }
        for group in groups
        if group.scaling is not None
    ]


def _wait(
    session: Session,
    scaler: ScalerClient,
    group: str,
    count: int,
    limit_s: float,
    tell: Callable[[str], None],
) -> None:
    told = ""

    def probe() -> None:
        nonlocal told
        try:
            seen = _seen(scaler.status(), group, count)
        except Unreachable as error:  # it may restart while we wait
            seen = error.message
        if seen and seen != told:
            tell(seen)
        told = seen or told
        if seen:
            raise NotYet(seen)

    wait_until(
        probe,
        name=f"{count} serving nodes in {group}",
        limit_s=limit_s,
        clock=session.clock,
        hint="labctl status shows where each node is, labctl events what happened",
        interval_s=0.025,
    )


def _seen(status: ScalerStatus, group: str, count: int) -> str:
    """What is still missing, as a sentence; empty if nothing is."""
    told = next((g for g in status.groups if g.group == group), None)
    if told is None:
        return f"the scaler does not know group {group} yet"
    busy = [
        f"{node.node} {node.phase}"
        for node in status.nodes
        if node.group == group and node.phase in ("booting", "draining", "unhealthy")
    ]
    if told.serving == count and told.desired_count == count and told.removal is None:
        return ""
    return ", ".join([f"{told.serving} of {count} serve", *busy])
