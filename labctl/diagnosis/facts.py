"""What is read of this machine for those checks that are pure. The only part that reads."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labcore.commands import run
from labcore.errors import LabError
from labcore.files import tail
from server_manager.paths import StatePaths

ASK_LIMIT_S = 20.0  # PowerShell alone may take five
MOST_LOGS = 20
LOG_LINES = 3000
KVM_MODULES = ("kvm_intel", "kvm_amd")
HYPERVISOR_PRESENT = "(Get-CimInstance Win32_ComputerSystem).HypervisorPresent"


@dataclass(frozen=True)
class Facts:
    """A machine. Texts are as programs and files gave them, empty where there were none."""

    system: str = "Linux"  # as platform.system() has it: Linux, Darwin, Windows
    machine: str = "x86_64"
    release: str = ""  # of its kernel
    vboxdrv: bool = True  # Linux: VirtualBox's kernel driver is loaded
    kvm: tuple[str, ...] = ()  # Linux: which of KVM_MODULES are there
    virt_at_load: str = ""  # Linux: kvm's parameter of that name
    hypervisor_present: str = ""  # Windows: what PowerShell answers
    inotify_instances: int = 0  # Linux: how many one user may have, containers included; 0: unknown
    synchronized: str = ""  # Linux: what timedatectl says of the clock
    newest_file: datetime | None = None  # in the state directory
    vbox_logs: tuple[str, ...] = ()  # VBox.log of machines of ours, the newest first
    free_disk_mib: int = 0
    free_memory_mib: int = 0


def read_facts(paths: StatePaths) -> Facts:
    """Those of this machine."""
    import psutil

    system = platform.system()
    there = next(p for p in (paths.root, *paths.root.parents) if p.exists())
    files = sorted(_files(paths), key=_changed_at, reverse=True)
    return Facts(
        system=system,
        machine=platform.machine(),
        release=platform.release(),
        vboxdrv=Path("/dev/vboxdrv").exists(),
        kvm=tuple(name for name in KVM_MODULES if Path("/sys/module", name).exists()),
        virt_at_load=_text("/sys/module/kvm/parameters/enable_virt_at_load"),
        hypervisor_present=_windows(system),
        inotify_instances=int(_text("/proc/sys/fs/inotify/max_user_instances") or 0),
        synchronized=_said(("timedatectl", "show", "--property=NTPSynchronized", "--value")),
        newest_file=datetime.fromtimestamp(_changed_at(files[0]), UTC) if files else None,
        vbox_logs=_logs(paths),
        free_disk_mib=shutil.disk_usage(there).free >> 20,
        free_memory_mib=psutil.virtual_memory().available >> 20,
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _windows(system: str) -> str:
    ask = ("powershell", "-NoProfile", "-NonInteractive", "-Command", HYPERVISOR_PRESENT)
    return _said(ask) if system == "Windows" else ""


def _said(argv: Sequence[str]) -> str:
    """What a program says; nothing if it is not there, fails or hangs."""
    try:
        result = run(argv, timeout_s=ASK_LIMIT_S, env={"LC_ALL": "C"})
    except LabError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _files(paths: StatePaths) -> Iterator[Path]:
    if paths.root.is_dir():
        yield from (path for path in paths.root.iterdir() if path.is_file())


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # gone meanwhile


def _logs(paths: StatePaths) -> tuple[str, ...]:
    found = sorted(paths.labs.glob("*/nodes/*/**/VBox.log"), key=_changed_at, reverse=True)
    return tuple("\n".join(tail(path, LOG_LINES, most_bytes=1 << 20)) for path in found[:MOST_LOGS])
