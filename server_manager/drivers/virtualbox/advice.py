"""Known troubles of VirtualBox: what they look like, and what to do. The one table of them."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """One known trouble: how to recognise it, and what to do about it."""

    pattern: str  # in what VirtualBox said, or the version
    advice: str
    system: str = ""  # on which hosts, as `platform.system()` has it; empty: on all
    text: str = ""  # what it is, where the pattern is only a version
    seen: str = ""  # where it was reported


_KNOWN = (
    Trouble(
        r"VERR_SUP_DRIVERLESS",
        "this host has no VirtualBox kernel driver for that network: set `network: nat`",
    ),
    Trouble(
        r"vboxdrv|VERR_VM_DRIVER_NOT_INSTALLED|terminated unexpectedly during startup",
        "load VirtualBox's kernel driver (sudo /sbin/vboxconfig; with Secure Boot, sign it first),"
        " then try again",
        "Linux",
    ),
    Trouble(
        r"VERR_VM_DRIVER_NOT_INSTALLED|terminated unexpectedly during startup",
        "install VirtualBox again, restart this machine, then try again",
    ),
    Trouble(
        r"VERR_SVM_IN_USE|VERR_VMX_IN_VMX_ROOT_MODE|VERR_VMX_IN_USE",
        "another hypervisor has the CPU: sudo rmmod kvm_intel kvm_amd; for good: boot with"
        " kvm.enable_virt_at_load=0",
        "Linux",
        seen="https://github.com/VirtualBox/virtualbox/issues/141",
    ),
    Trouble(
        r"VERR_SVM_IN_USE|VERR_VMX_IN_VMX_ROOT_MODE|VERR_VMX_IN_USE",
        "another hypervisor has the CPU: end the other program that runs machines",
    ),
    Trouble(
        r"VERR_NEM_|WHv|Hyper-V|Snail execution mode",
        "turn Hyper-V off (as administrator: bcdedit /set hypervisorlaunchtype off; Memory"
        " integrity off; restart), or be patient",
        "Windows",
        seen="https://github.com/hashicorp/vagrant/issues/11853",
    ),
    Trouble(
        r"VERR_PLATFORM_ARCH_NOT_SUPPORTED|[Pp]latform architecture",
        "the image is for another processor: `labctl image build` makes one for this host",
    ),
    Trouble(r"VERR_DISK_FULL|ENOSPC|No space left", "free some disk space, then try again"),
    Trouble(r"VERR_NO_MEMORY|out of memory", "give the nodes less memory, or close other programs"),
    Trouble(
        r"already locked|while it is locked",
        "close this machine's window or settings in VirtualBox, then try again",
    ),
    Trouble(
        r"Machine settings file .* already exists",
        "remove the folder that another machine of that name left behind",
    ),
    Trouble(
        r"Failed to create the VirtualBox object|NS_ERROR_CALL_FAILED|NS_ERROR_SOCKET_FAIL",
        "VirtualBox's service VBoxSVC ended: try again",
    ),
    Trouble(
        r"E_ACCESSDENIED|VERR_ACCESS_DENIED|EACCES",
        "look at the permissions of the files it names",
    ),
)
_VERSIONS = (
    Trouble(
        r"7\.2\.[0-3]",
        "install VirtualBox 7.2.4 or newer",
        text="machines with several port forwards lose connections",
        seen="https://github.com/VirtualBox/virtualbox/issues/232",
    ),
)
NEWEST_KNOWN = (7, 2)
NO_ADVICE = "look at labctl doctor, then try again"


def advise(text: str, system: str = "") -> str:
    """What to do about the first known trouble in what VirtualBox said, on such a host (empty: on
    whichever this is)."""
    here = system or platform.system()
    for trouble in _KNOWN:
        if trouble.system in ("", here) and re.search(trouble.pattern, text):
            return trouble.advice
    return NO_ADVICE


def trouble_of_version(version: tuple[int, int, int]) -> Trouble | None:
    """What is known of a version of VirtualBox; that it is newer than any we know counts."""
    told = ".".join(map(str, version))
    for trouble in _VERSIONS:
        if re.fullmatch(trouble.pattern, told):
            return trouble
    if version[:2] > NEWEST_KNOWN:
        return Trouble(
            told, "tell us how it goes", text="newer than any that labctl was tried with"
        )
    return None
