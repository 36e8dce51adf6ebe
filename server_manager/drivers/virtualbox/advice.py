"""Known troubles of VirtualBox: what they look like, and what to do. The one table of them."""

from __future__ import annotations

import re

_KNOWN: tuple[tuple[str, str], ...] = (
    (
        r"VERR_SUP_DRIVERLESS",
        "this host has no VirtualBox kernel driver for that network: set `network: nat`",
    ),
    (
        r"vboxdrv|VERR_VM_DRIVER_NOT_INSTALLED|terminated unexpectedly during startup",
        "load VirtualBox's kernel driver (`sudo /sbin/vboxconfig` on Linux), then try again",
    ),
    (
        r"VERR_SVM_IN_USE|VERR_VMX_IN_VMX_ROOT_MODE|VERR_VMX_IN_USE",
        "another hypervisor has the CPU: unload KVM (`sudo rmmod kvm_intel kvm_amd`)",
    ),
    (
        r"VERR_NEM_|WHv|Hyper-V",
        "turn Hyper-V off (`bcdedit /set hypervisorlaunchtype off`) or be patient: it is slow",
    ),
    (
        r"VERR_PLATFORM_ARCH_NOT_SUPPORTED|[Pp]latform architecture",
        "the image is for another processor: `labctl image build` makes one for this host",
    ),
    (r"VERR_DISK_FULL|ENOSPC|No space left", "free some disk space, then try again"),
    (r"VERR_NO_MEMORY|out of memory", "give the nodes less memory, or close other programs"),
    (
        r"already locked|while it is locked",
        "close this machine's window or settings in VirtualBox, then try again",
    ),
    (
        r"Machine settings file .* already exists",
        "remove the folder that another machine of that name left behind",
    ),
    (
        r"Failed to create the VirtualBox object|NS_ERROR_CALL_FAILED|NS_ERROR_SOCKET_FAIL",
        "VirtualBox's service VBoxSVC ended: try again",
    ),
    (r"E_ACCESSDENIED|VERR_ACCESS_DENIED|EACCES", "look at the permissions of the files it names"),
)
NO_ADVICE = "look at labctl doctor, then try again"


def advise(text: str) -> str:
    """What to do about the first known trouble in what VirtualBox said."""
    return next((advice for pattern, advice in _KNOWN if re.search(pattern, text)), NO_ADVICE)
