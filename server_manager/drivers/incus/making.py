"""Making an instance: address, member, instance, seed, and last the mark that it is whole."""

from __future__ import annotations

import dataclasses
import threading
import zlib
from typing import Any

from labcore.errors import LabError, NotFound, TimedOut
from server_manager.drivers.base import Capabilities, ServerSpec
from server_manager.drivers.incus import instances, placement
from server_manager.drivers.incus import network as networks
from server_manager.drivers.incus.advice import NoSuchImage
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.instances import Instance
from server_manager.drivers.incus.look import Look
from server_manager.drivers.incus.network import Network
from server_manager.drivers.incus.settings import IncusSettings
from server_manager.guest.seed import make_seed

SEED_TAR = "/var/lib/labctl/seed.tar"
BRING_LIMIT_S = 600.0
MAKE_LIMIT_S = 180.0  # the first on a member may have to fetch the image from another one


class Maker:
    """Of one remote and project."""

    def __init__(self, incus: Incus, capabilities: Capabilities, own: networks.Own) -> None:
        self._incus = incus
        self._capabilities = capabilities
        self._own = own
        self._addresses = networks.Addresses()
        self._network: Network | None = None
        self._bringing = threading.Lock()
        self._placer = placement.Placer(incus)

    def network(self) -> Network:
        """The network of the lab; looked for once, as nobody changes it under living servers."""
        if self._network is None:
            self._network = networks.find(self._incus, self._own)
        return self._network

    def make(self, spec: ServerSpec, look: Look) -> None:
        """Make a stopped instance. After a failure there is none, or one that is half made."""
        network = self.network()
        member = self._placer.choose(spec, look.members, look.instances)
        try:
            address = self._address(network, spec, look)
            seed = make_seed(spec, self._capabilities, network.guest(spec, address))
            self._add(self._body(spec, network, address), member)
            name = instances.name_of(spec.ref, self._incus.settings.project)
            self._incus.push(name, SEED_TAR, seed.tar())
            whole = {"config": {instances.DIGEST: instances.digest_of(spec)}}
            self._incus.change("PATCH", f"/instances/{name}", whole)
        except BaseException:
            self._placer.forget(spec.ref)
            raise
        finally:
            self._addresses.free(spec.ref)

    def move(self, found: Instance, look: Look) -> Instance:
        """Give a stopped instance another address, as somebody has taken its own."""
        network = self.network()
        taken = networks.taken(self._incus, network, look.instances)
        # Far from the one that is taken: whoever has it has those beside it, too, and is maybe
        # of a project whose addresses are not shown to us.
        far = zlib.crc32(found.address.encode())
        address = self._addresses.choose(network, found.ref, far, {*taken, found.address})
        devices = {**found.devices, instances.NIC: network.nic(found.ref, address)}
        body = {"config": {instances.ADDRESS: address}, "devices": devices}
        try:
            self._incus.change("PATCH", f"/instances/{found.name}", body)
        finally:
            self._addresses.free(found.ref)
        return dataclasses.replace(found, address=address, devices=devices)

    def _address(self, network: Network, spec: ServerSpec, look: Look) -> str:
        taken = networks.taken(self._incus, network, look.instances)
        return self._addresses.choose(network, spec.ref, spec.number, taken)

    def _body(self, spec: ServerSpec, network: Network, address: str) -> dict[str, Any]:
        settings = self._incus.settings
        if spec.image is None:
            raise NotFound(
                f"{spec.ref.name} has no image to be made from",
                "labctl image build --driver incus",
            )
        return {
            "name": instances.name_of(spec.ref, settings.project),
            "type": "virtual-machine" if settings.type == "vm" else "container",
            "source": {"type": "image", "alias": spec.image},
            "profiles": [settings.profile],
            "config": {
                **instances.labels(spec, address),
                **instances.limits(spec, settings),
            },
            "devices": {instances.NIC: network.nic(spec.ref, address)},
        }

    def _add(self, body: dict[str, Any], member: str | None) -> None:
        try:
            self._post(body, member)
        except NoSuchImage:
            if not self._bring_image(str(body["source"]["alias"])):
                raise
            self._post(body, member)

    def _bring_image(self, alias: str) -> bool:
        """Copy an image from where images are made, this machine, to where the lab is; False if
        that is the same. Servers that are made at the same time wait for one copy."""
        settings, home, project = self._incus.settings, self._incus.home, IncusSettings().project
        if (settings.remote, settings.project) == (home, project):
            return False
        with self._bringing:
            known = self._incus.get("/images/aliases")
            if any(str(path).rpartition("/")[2] == alias for path in known or ()):
                return True
            self._incus.run(
                *("image", "copy", "-q", f"{home}:{alias}", self._incus.remote),
                *("--alias", alias, "--mode", "relay"),
                *("--project", project, "--target-project", settings.project),
                limit_s=BRING_LIMIT_S,
            )
        return True

    def _post(self, body: dict[str, Any], member: str | None) -> None:
        target = {} if member is None else {"target": member}
        try:
            self._incus.change("POST", "/instances", body, limit_s=MAKE_LIMIT_S, **target)
        except TimedOut:
            # Incus may be at it still: what comes of it is half made, and goes at the next try.
            self._undo(str(body["name"]), str(body["config"][instances.UUID]))
            raise

    def _undo(self, name: str, uuid: str) -> None:
        try:
            told = self._incus.get(f"/instances/{name}")
            if told.get("config", {}).get(instances.UUID) == uuid:
                self._incus.change("DELETE", f"/instances/{name}")
        except LabError:
            return
