"""On which member of a cluster a new server goes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from labcore.errors import DriverUnusable
from server_manager.drivers.base import ServerRef, ServerSpec
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.cluster import Member
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.settings import IncusSettings

MEMBER = "member:"


def choose(
    spec: ServerSpec,
    settings: IncusSettings,
    members: Mapping[str, Member],
    lab: Iterable[tuple[str, str | None]],
) -> str | None:
    """The name of the member; None where there is no cluster. Pure. Raises DriverUnusable.

    `lab` are the other servers of the lab: node and member. `spread` puts a server where fewest of
    its group are, then fewest of the lab; `pack` where most of the lab are.
    """
    named = settings.placement.removeprefix(MEMBER)
    if not members:
        if named != settings.placement:
            raise DriverUnusable(
                f"remote {settings.remote!r} is no cluster, so there is no member {named!r}",
                "leave `incus.placement` out of lab.yaml",
            )
        return None
    possible = _possible(spec, settings, members)
    if named != settings.placement:
        return _named(named, possible, members)
    others = [(node, member) for node, member in lab if member in possible]
    of_lab = Counter(member for _, member in others)
    of_group = Counter(m for node, m in others if node.rpartition("-")[0] == spec.group)
    if settings.placement == "pack":
        return min(possible, key=lambda name: (-of_lab[name], name))
    return min(possible, key=lambda name: (of_group[name], of_lab[name], name))


def _possible(
    spec: ServerSpec, settings: IncusSettings, members: Mapping[str, Member]
) -> list[str]:
    group = settings.regions.get(spec.region)
    inside = [m for m in members.values() if group is None or group in m.groups]
    online = sorted(m.name for m in inside if m.is_online)
    if online:
        return online
    where = f" of group {group!r} (region {spec.region})" if group else ""
    raise DriverUnusable(
        f"no member{where} of the Incus cluster {settings.remote!r} is online",
        f"incus cluster list {settings.remote}: shows them; start one, or change `incus.regions`",
    )


def _named(name: str, possible: list[str], members: Mapping[str, Member]) -> str:
    if name in possible:
        return name
    state = members[name].status if name in members else "unknown"
    raise DriverUnusable(
        f"member {name!r} of the Incus cluster cannot be used: it is {state}",
        f"`incus.placement` may be spread, pack or {' or '.join(MEMBER + m for m in possible)}",
    )


class Placer:
    """Chooses for servers that are made at the same time: each knows of those chosen before."""

    def __init__(self, incus: Incus) -> None:
        self._incus = incus
        self._lock = threading.Lock()
        self._chosen: dict[ServerRef, str] = {}  # until a look shows them

    def choose(
        self, spec: ServerSpec, members: Mapping[str, Member], seen: Iterable[Instance]
    ) -> str | None:
        """See `choose`; `seen` are the instances of the lab as Incus says now."""
        known = {instance.ref: instance.member for instance in seen}
        with self._lock:
            self._chosen = {ref: m for ref, m in self._chosen.items() if ref not in known}
            of_lab = {r: m for r, m in self._chosen.items() if r.lab == spec.ref.lab} | known
            others = [(ref.name, m) for ref, m in of_lab.items() if ref != spec.ref]
            member = choose(spec, self._incus.settings, members, others)
            if member is not None:
                self._chosen[spec.ref] = member
            return member

    def forget(self, ref: ServerRef) -> None:
        """It was not made."""
        with self._lock:
            self._chosen.pop(ref, None)
