"""The fake driver with machines that somebody else made, to be adopted."""

from __future__ import annotations

import dataclasses

from labcore.clock import Clock
from labcore.errors import Conflict, NotFound
from labcore.wire.lab import PowerState
from server_manager.drivers.adopting import OutsideMachine
from server_manager.drivers.base import ServerRef, ServerSpec
from server_manager.drivers.fake import CAPABILITIES, FakeDriver
from server_manager.guest.network import GuestNetwork
from server_manager.guest.seed import Seed, make_seed

ADOPTING = dataclasses.replace(
    CAPABILITIES, shares_host_network=False, scope="system", access="ssh", members=False, adopt=True
)


class AdoptingFakeDriver(FakeDriver):
    """See Adopting; `machines` are those of others by their ids: change it as they would."""

    def __init__(self, clock: Clock, *, boot_s: float = 0.0) -> None:
        super().__init__(clock, capabilities=ADOPTING, boot_s=boot_s)
        self.machines: dict[str, OutsideMachine] = {}
        self.marks: dict[str, ServerRef] = {}

    def outside(self, machine: str) -> OutsideMachine:
        """See Adopting."""
        for known in self.machines.values():
            if machine in (known.id, known.name):
                return known
        raise NotFound(f"there is no machine {machine!r}")

    def adopt(self, spec: ServerSpec) -> None:
        """See Adopting."""

        def do() -> None:
            machine = self.outside(spec.ref.id)
            if self.marks.setdefault(machine.id, spec.ref) != spec.ref:
                raise Conflict(f"machine {machine.name!r} is another server")
            is_on = machine.state is PowerState.RUNNING
            self.take_in(spec, is_on=is_on)

        self._call("adopt", spec.ref, do)

    def release(self, ref: ServerRef) -> None:
        """See Adopting."""

        def do() -> None:
            self.marks.pop(ref.id, None)
            self.forget(ref)

        self._call("release", ref, do)

    def seed(self, spec: ServerSpec) -> Seed:
        """See Adopting."""
        network = GuestNetwork("10.0.2.2", (), ("10.0.2.0/24",))
        return make_seed(spec, self.capabilities(), network)
