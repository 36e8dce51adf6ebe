"""What Incus says of a lab, asked once for all who ask at the same time."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from labcore.clock import Clock
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerRef
from server_manager.drivers.incus import cluster, instances
from server_manager.drivers.incus.asking import Shared
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.cluster import Member
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.records import Records

REST_S = 0.1
# A look takes 0.05-1 s. While a member is silent, and the cluster has not noticed, Incus waits 20 s
# for it: who asks is told sooner that it is not known. One may have to wait for two looks.
LIMIT_S = 4.5


@dataclass(frozen=True)
class Look:
    """A lab's instances, and the members of the cluster (none where there is no cluster)."""

    lab: str
    instances: tuple[Instance, ...]
    members: Mapping[str, Member]

    def find(self, ref: ServerRef) -> Instance | None:
        """The instance of a server."""
        return next((i for i in self.instances if i.ref == ref), None)


class Looks:
    """One remote's; nothing is kept between two looks but whether it is a cluster."""

    def __init__(self, incus: Incus, records: Records, clock: Clock) -> None:
        self._records = records
        self._incus = incus
        self._clock = clock
        self._lock = threading.Lock()
        self._shared: dict[str, Shared[Look]] = {}
        self._is_cluster: bool | None = None

    def of(self, lab: str) -> Look:
        """What Incus says now; raises what asking it raises."""
        with self._lock:
            if lab not in self._shared:
                look = functools.partial(self._look, lab)
                self._shared[lab] = Shared(look, clock=self._clock, rest_s=REST_S)
            shared = self._shared[lab]
        return shared.ask()

    def everything(self) -> tuple[Instance, ...]:
        """The instances of all labs, whoever's."""
        return instances.parse(None, self._incus.get("/instances", recursion="1"), dict)

    def members(self) -> Mapping[str, Member]:
        """The members of the cluster; none where there is no cluster."""
        if self._is_cluster is None:
            environment = self._incus.get("")["environment"]
            self._is_cluster = bool(environment.get("server_clustered"))
        if not self._is_cluster:
            return {}
        told = self._incus.get("/cluster/members", recursion="1", limit_s=LIMIT_S)
        return cluster.parse(told)

    def _look(self, lab: str) -> Look:
        members = self.members()
        # A filter would hide those of which nothing can be told: they are not gone.
        label = "" if members else f"config.{instances.LAB} eq {lab}"
        told = self._incus.get("/instances", recursion="1", filter=label, limit_s=LIMIT_S)
        found = instances.parse(lab, told, lambda: self._records.of(lab))
        for instance in found:
            if instance.digest is not None and instance.member is not None:
                self._note(instance, members)
        return Look(lab, found, members)

    def _note(self, instance: Instance, members: Mapping[str, Member]) -> None:
        member = members.get(instance.member or "")
        if instance.state is not PowerState.ERROR and member is not None and member.is_online:
            self._records.note(dataclasses.replace(instance, status=""))
