"""The members of an Incus cluster: which of them are there, and what their silence means.

A member that does not answer makes its servers UNKNOWN; only when the cluster itself has not heard
of it for 20 s are they LOST.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labcore.errors import DriverUnusable
from labcore.wire.lab import PowerState
from server_manager.drivers.base import DriverServer
from server_manager.drivers.incus.instances import Instance

LOST_AFTER_S = 20.0
ONLINE = "Online"
_SILENCE = re.compile(r"No heartbeat (?:for|since) (?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?")


@dataclass(frozen=True)
class Member:
    """One machine of a cluster, as the cluster told of it."""

    name: str
    status: str
    message: str
    groups: tuple[str, ...]

    @property
    def is_online(self) -> bool:
        """Whether it can be given servers."""
        return self.status == ONLINE

    @property
    def silent_s(self) -> float | None:
        """For how long nobody heard of it; None if nobody says so."""
        found = _SILENCE.search(self.message)
        if self.is_online or found is None:
            return None
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds


def parse(told: Any) -> Mapping[str, Member]:
    """The members by their names."""
    return {
        str(one["server_name"]): Member(
            str(one["server_name"]),
            str(one.get("status", "")),
            str(one.get("message", "")),
            tuple(one.get("groups") or ()),
        )
        for one in told or ()
    }


def judge(instance: Instance, members: Mapping[str, Member], remote: str) -> DriverServer:
    """What a server is, given what its member is; `remote` is that of the cluster, with a colon."""
    state, problem, fix = instance.state, None, ""
    member = members.get(instance.member or "")
    if member is not None and not member.is_online:
        state, problem = _away(member)
        fix = (
            f"start {member.name}, or if it is gone for good: incus cluster remove --force"
            f" {remote}{member.name}; then try again"
        )
    elif state is PowerState.ERROR:
        # Until a cluster notices that a member is away, this is what it says of its instances.
        state = PowerState.ERROR if instance.member is None else PowerState.UNKNOWN
        problem = f"Incus calls it {instance.status or 'nothing at all'}"
    if instance.digest is None and state in (PowerState.STOPPED, PowerState.RUNNING):
        state, problem = PowerState.ERROR, "it is half made"
    return DriverServer(
        instance.ref,
        state,
        endpoints=instance.endpoints(),
        problem=problem,
        fix=fix,
        member=instance.member,
    )


def _away(member: Member) -> tuple[PowerState, str]:
    silent_s = member.silent_s
    if silent_s is not None and silent_s >= LOST_AFTER_S:
        why = f"member {member.name} is offline, not heard of for {silent_s:.0f} s"
        return PowerState.LOST, why
    return PowerState.UNKNOWN, f"member {member.name} is {member.status}: {member.message}"


def check_quorum(members: Mapping[str, Member]) -> None:
    """Raise DriverUnusable if nothing can be placed anywhere."""
    if members and not any(member.is_online for member in members.values()):
        names = ", ".join(sorted(members))
        raise DriverUnusable(
            f"no member of the Incus cluster is online ({names})", "start one of them"
        )
