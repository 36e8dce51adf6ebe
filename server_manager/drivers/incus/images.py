"""How the driver `incus` makes images: a builder is an instance, published when it is sealed.

What is ours is known by the label or property `labctl.image` and the id; names decide nothing. An
image is of the machine that made it: a lab elsewhere brings it there (`making`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from labcore.clock import Clock
from labcore.errors import Conflict, DriverFailed, LabError, NotFound, UsageProblem
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.imaging import (
    BuilderState,
    DriverImage,
    ImageBuild,
    ImageRef,
    Teller,
)
from server_manager.drivers.incus.advice import AlreadyThere, NoSuchImage, NoSuchInstance
from server_manager.drivers.incus.client import Incus
from server_manager.drivers.incus.instances import NESTING, PREFIX, STATES, UUID

IMAGE, IMAGE_ID = f"{PREFIX}image", f"{PREFIX}image-id"  # labels of a builder
NAME_PROPERTY, ID_PROPERTY = "labctl.image", "labctl.id"  # properties of an image
FOLDER = "/root/labctl-build"
FETCH_LIMIT_S = 1800.0  # the source may have to be downloaded
PROVISION_LIMIT_S = 1800.0
PUBLISH_LIMIT_S = 900.0
READY_LIMIT_S = 60.0
STOP_GRACE_S = 40
CONSOLE_LINES = 20
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
_NAMESPACE = uuid.UUID("0f2f3ff1-58d1-5a6e-8f0c-53e2f80b1f16")


class IncusImages:
    """See ImageMaking."""

    def __init__(self, incus: Incus, clock: Clock) -> None:
        self._incus = incus
        self._clock = clock

    def prepare_image(self, build: ImageBuild, teller: Teller) -> DriverImage:
        """See ImageMaking. The source is an image of this Incus, or `remote:image`."""
        self._incus.settle()
        made = self._image(build.ref)
        if made is not None:
            raise Conflict(f"image {build.ref.name!r} is finished", "remove it first")
        if self._builder(build.ref) is not None:
            self._remove_builder(build.ref)
        teller.line(f"making a container of {build.source}")
        limits = {
            "limits.cpu.allowance": f"{build.cpus * 100}ms/100ms",
            "limits.memory": f"{build.memory_mib}MiB",
        }
        if build.app_image is not None:  # podman loads it
            limits[NESTING] = "true"
        marks = {IMAGE: build.ref.name, IMAGE_ID: build.ref.id, UUID: _uuid_of(build.ref)}
        options = [f"-c{key}={value}" for key, value in {**limits, **marks}.items()]
        settings = self._incus.settings
        where = (f"{self._incus.remote}{_name_of(build.ref)}", "-p", settings.profile)
        try:
            self._incus.run(
                *("create", "-q", "--project", settings.project, build.source, *where, *options),
                limit_s=FETCH_LIMIT_S,
            )
        except NoSuchImage as error:
            raise UsageProblem(
                f"Incus has no image {build.source!r}",
                "incus image list shows its images, incus image list images: those of others",
                error.details,
            ) from error
        return DriverImage(build.ref, None, self._arch())

    def boot_builder(self, build: ImageBuild) -> None:
        """See ImageMaking."""
        self._existing_builder(build.ref)
        self._change_builder(build.ref, "start")

    def provision_builder(self, build: ImageBuild, archive: bytes, teller: Teller) -> None:
        """See ImageMaking."""
        name = _name_of(build.ref)
        self._wait_ready(name, teller)
        self._do(name, ("mkdir", "-p", FOLDER))
        self._do(name, ("tar", "-xf", "-", "-C", FOLDER, "--no-same-owner"), archive)
        if build.app_image is not None:
            content = build.app_image.read_bytes()
            self._incus.push(name, f"{FOLDER}/app-image.tar", content)
        argv = ("sh", f"{FOLDER}/build.sh")
        result = self._incus.follow(name, argv, teller.line, limit_s=PROVISION_LIMIT_S)
        result.check(f"provisioning {build.ref.name}", "the last lines say what is missing")

    def builder(self, ref: ImageRef) -> BuilderState:
        """See ImageMaking."""
        try:
            told = self._builder(ref)
        except LabError as error:
            return BuilderState(PowerState.UNKNOWN, error.message)
        if told is None:
            return BuilderState(PowerState.ABSENT)
        status = str(told.get("status"))
        state = STATES.get(status, PowerState.ERROR)
        problem = f"Incus calls it {status}" if state is PowerState.ERROR else None
        return BuilderState(state, problem)

    def stop_builder(self, ref: ImageRef, *, force: bool = False) -> None:
        """See ImageMaking."""
        told = self._builder(ref)
        if told is not None and told.get("status") != "Stopped":
            self._change_builder(ref, "stop", timeout=STOP_GRACE_S, force=force)

    def finish_image(self, ref: ImageRef) -> DriverImage:
        """See ImageMaking."""
        made = self._image(ref)
        if made is None:
            told = self._existing_builder(ref)
            if told.get("status") != "Stopped":
                raise Conflict(f"the builder of {ref.name!r} is {told.get('status')}", "stop it")
            source = {"type": "instance", "name": _name_of(ref)}
            properties = {
                NAME_PROPERTY: ref.name,
                ID_PROPERTY: ref.id,
                "description": f"labctl {ref.name}",
            }
            body = {
                "source": source,
                "properties": properties,
                "aliases": [{"name": _alias_of(ref)}],
            }
            self._incus.change("POST", "/images", body, limit_s=PUBLISH_LIMIT_S)
            made = self._image(ref)
        if made is None:
            raise DriverFailed(f"Incus published no image {ref.name!r}", "incus image list")
        self._remove_builder(ref)
        return made

    def remove_image(self, ref: ImageRef) -> None:
        """See ImageMaking. Servers need no image once they are made."""
        self._remove_builder(ref)
        for told in self._published():
            if told["properties"].get(ID_PROPERTY) == ref.id:
                self._incus.change("DELETE", f"/images/{told['fingerprint']}")

    def images(self) -> tuple[DriverImage, ...]:
        """See ImageMaking."""
        finished = [_driver_image(told) for told in self._published()]
        ids = {image.ref.id for image in finished}
        building = [
            DriverImage(ImageRef(config[IMAGE], config[IMAGE_ID]), None, self._arch())
            for told in self._incus.get("/instances", recursion="1")
            if (config := told.get("config") or {}).get(IMAGE_ID) and config.get(IMAGE)
        ]
        return (*finished, *(image for image in building if image.ref.id not in ids))

    # ------------------------------------------------------------------ inside

    def _published(self) -> list[Mapping[str, Any]]:
        told = self._incus.get("/images", recursion="1") or []
        return [one for one in told if (one.get("properties") or {}).get(ID_PROPERTY)]

    def _image(self, ref: ImageRef) -> DriverImage | None:
        found = (_driver_image(told) for told in self._published())
        return next((image for image in found if image.ref == ref), None)

    def _builder(self, ref: ImageRef) -> Mapping[str, Any] | None:
        """The instance, if it is that of this image."""
        try:
            told: Mapping[str, Any] = self._incus.get(f"/instances/{_name_of(ref)}")
        except NoSuchInstance:
            return None
        config = told.get("config") or {}
        is_ours = config.get(IMAGE_ID) == ref.id and config.get(UUID) == _uuid_of(ref)
        return told if is_ours else None

    def _existing_builder(self, ref: ImageRef) -> Mapping[str, Any]:
        told = self._builder(ref)
        if told is None:
            raise NotFound(f"image {ref.name!r} has no builder", "labctl image build makes one")
        return told

    def _remove_builder(self, ref: ImageRef) -> None:
        told = self._builder(ref)
        if told is None:
            return
        if told.get("status") != "Stopped":
            self._change_builder(ref, "stop", force=True)
        self._incus.change("DELETE", f"/instances/{_name_of(ref)}")

    def _change_builder(
        self, ref: ImageRef, action: str, *, timeout: int = -1, force: bool = False
    ) -> None:
        body = {"action": action, "timeout": timeout, "force": force}
        path = f"/instances/{_name_of(ref)}/state"
        try:
            self._incus.change("PUT", path, body, limit_s=60.0 + max(0, timeout))
        except AlreadyThere:
            return

    def _wait_ready(self, name: str, teller: Teller) -> None:
        """Until systemd has brought it up, and it has an address."""
        look = "systemctl is-system-running --wait; ip -4 -o address show scope global"

        def probe() -> None:
            teller.line("waiting for the container to be up")
            result = self._incus.execute(name, ("sh", "-c", look), limit_s=READY_LIMIT_S)
            state, _, addresses = result.stdout.partition("\n")
            if state not in ("running", "degraded") or not addresses.strip():
                raise NotYet(
                    f"{state or result.stderr.strip()}, {addresses.strip() or 'no address'}"
                )

        wait_until(
            probe,
            name=f"{name} to be up",
            limit_s=READY_LIMIT_S,
            clock=self._clock,
            hint=f"incus exec {name} -- journalctl -b",
            interval_s=0.1,
        )

    def _do(self, name: str, argv: tuple[str, ...], stdin: bytes | None = None) -> None:
        result = self._incus.execute(name, argv, stdin=stdin)
        result.check(f"{' '.join(argv[:2])} in {name}")

    def _arch(self) -> str | None:
        environment = self._incus.get("")["environment"]
        return ARCHES.get(str(environment.get("kernel_architecture", "")))


def _name_of(ref: ImageRef) -> str:
    return f"labctl-image-{ref.name}"


def _alias_of(ref: ImageRef) -> str:
    return f"labctl-{ref.name}-{_uuid_of(ref)[:8]}"


def _uuid_of(ref: ImageRef) -> str:
    return str(uuid.uuid5(_NAMESPACE, ref.id))


def _driver_image(told: Mapping[str, Any]) -> DriverImage:
    properties = told["properties"]
    ref = ImageRef(str(properties.get(NAME_PROPERTY)), str(properties[ID_PROPERTY]))
    mib = round(int(told.get("size", 0)) / 1024 / 1024)
    arch = ARCHES.get(str(told.get("architecture")))
    return DriverImage(ref, _alias_of(ref), arch, mib)
