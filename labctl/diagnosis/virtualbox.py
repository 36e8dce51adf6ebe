"""What stands in the way of VirtualBox on this machine. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from labctl.diagnosis.check import DRIVERS, Check, usable
from labctl.diagnosis.facts import Facts
from server_manager.drivers.virtualbox.advice import advise, trouble_of_version

HOLDS_CPU_SINCE = (6, 12)  # from this Linux on, KVM holds VT-x while no VM of its runs
FIRST_ON_APPLE_SILICON = (7, 1)
NAME = "virtualbox"
SNAIL = "Snail execution mode is active"


def examine(facts: Facts, drivers: Sequence[Check]) -> Iterator[Check]:
    """Nothing where VirtualBox is not there at all: its driver's own check says that."""
    found = next((check for check in drivers if check.name == DRIVERS + NAME), None)
    if found is None:
        return
    version = version_in(found.text)
    if version is not None:
        yield from version_check(facts, version)
    if usable(drivers, NAME):
        yield from linux(facts)
        yield from windows(facts)


def version_in(text: str) -> tuple[int, int, int] | None:
    """The version in `VirtualBox 7.2.22r175245` and the like."""
    found = re.search(r"\b(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def version_check(facts: Facts, version: tuple[int, int, int]) -> Iterator[Check]:
    """Versions that are known to be troublesome on such a machine."""
    name, told = "virtualbox version", ".".join(map(str, version))
    apple = facts.system == "Darwin" and facts.machine == "arm64"
    if apple and version[:2] < FIRST_ON_APPLE_SILICON:
        text = f"{told} does not run on Apple silicon"
        yield Check(name, "bad", text, "install VirtualBox 7.1 or newer; images must be for arm64")
        return
    trouble = trouble_of_version(version)
    if trouble is not None:
        yield Check(name, "warning", f"{told}: {trouble.text}", trouble.advice)


def linux(facts: Facts) -> Iterator[Check]:
    """The kernel driver, and KVM, which may hold the processor."""
    if facts.system != "Linux":
        return
    if facts.vboxdrv:
        yield Check("virtualbox kernel driver", "ok", "/dev/vboxdrv")
    else:
        yield Check(
            "virtualbox kernel driver",
            "warning",
            "there is no /dev/vboxdrv: machines do not start, or are interpreted, 50 times slower",
            advise("vboxdrv", "Linux"),
        )
    if facts.kvm and kernel(facts.release) >= HOLDS_CPU_SINCE and facts.virt_at_load != "N":
        yield Check(
            "virtualbox and kvm",
            "warning",
            f"{facts.kvm[0]} holds the processor's virtualization on Linux {facts.release}",
            advise("VERR_VMX_IN_VMX_ROOT_MODE", "Linux"),
        )


def windows(facts: Facts) -> Iterator[Check]:
    """Hyper-V, by what Windows says and by what VirtualBox wrote into its logs."""
    if facts.system != "Windows":
        return
    slow = any(SNAIL in log for log in facts.vbox_logs)
    if slow or facts.hypervisor_present == "True":
        seen = "VBox.log says that machines run in snail mode" if slow else "Windows says it is on"
        text = f"{seen}: machines are several times slower"
        yield Check("virtualbox and hyper-v", "warning", text, advise("Hyper-V", "Windows"))
    elif facts.hypervisor_present:
        yield Check("virtualbox and hyper-v", "ok", "Hyper-V is off")


def kernel(release: str) -> tuple[int, int]:
    """The version in `6.12.3-amd64`; (0, 0) if there is none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)
