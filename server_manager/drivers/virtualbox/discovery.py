"""Where VBoxManage is: pure, so that each operating system is tested on any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath

from labcore.errors import DriverUnusable

# Set by VirtualBox's installers on Windows; the first by older ones, and by people.
INSTALL_VARIABLES = ("VBOX_INSTALL_PATH", "VBOX_MSI_INSTALL_PATH")
USUAL_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "Linux": ("/usr/bin", "/usr/local/bin", "/opt/VirtualBox", "/usr/lib/virtualbox"),
    "Darwin": ("/usr/local/bin", "/Applications/VirtualBox.app/Contents/MacOS"),
    "Windows": (r"C:\Program Files\Oracle\VirtualBox",),
}


def find_program(
    system: str, search_path: str, environ: Mapping[str, str], is_program: Callable[[str], bool]
) -> str:
    """VBoxManage by PATH, then where an installer said it is, then where it usually is.

    `system` is as `platform.system()` tells it. Raises DriverUnusable if it is nowhere.
    """
    for candidate in _candidates(system, search_path, environ):
        if is_program(candidate):
            return candidate
    raise DriverUnusable(
        "VBoxManage is not on PATH, nor where VirtualBox installs it",
        "install VirtualBox 7 (https://www.virtualbox.org) or add its folder to PATH",
    )


def _candidates(system: str, search_path: str, environ: Mapping[str, str]) -> Iterator[str]:
    windows = system == "Windows"
    path: type[PurePath] = PureWindowsPath if windows else PurePosixPath
    named = (environ.get(variable, "") for variable in INSTALL_VARIABLES)
    searched = search_path.split(";" if windows else ":")
    folders = (*searched, *named, *USUAL_FOLDERS.get(system, ()))
    for folder in folders:
        # An empty entry would mean the current folder: no place to run programs from.
        if folder:
            yield str(path(folder.strip('"')) / ("VBoxManage.exe" if windows else "VBoxManage"))
