"""VBoxManage is found where each operating system has it."""

import pytest

from labcore.errors import DriverUnusable
from server_manager.drivers.virtualbox.discovery import find_program

WINDOWS = r"C:\Program Files\Oracle\VirtualBox\VBoxManage.exe"
MAC = "/Applications/VirtualBox.app/Contents/MacOS/VBoxManage"


@pytest.mark.parametrize(
    ("system", "path", "environ", "there"),
    [
        ("Linux", "/home/me/bin:/usr/bin", {}, "/home/me/bin/VBoxManage"),
        ("Linux", "", {}, "/usr/bin/VBoxManage"),
        ("Linux", ":/usr/games", {}, "/opt/VirtualBox/VBoxManage"),
        ("Darwin", "/usr/bin:/bin", {}, MAC),
        ("Windows", r"C:\Windows;D:\VBox", {}, r"D:\VBox\VBoxManage.exe"),
        ("Windows", r'C:\Windows;"D:\My VBox"', {}, r"D:\My VBox\VBoxManage.exe"),
        ("Windows", "", {}, WINDOWS),
        (
            "Windows",
            r"C:\Windows",
            {"VBOX_MSI_INSTALL_PATH": "E:\\VirtualBox\\"},
            r"E:\VirtualBox\VBoxManage.exe",
        ),
        ("Linux", "/bin", {"VBOX_INSTALL_PATH": "/srv/vbox"}, "/srv/vbox/VBoxManage"),
    ],
)
def test_where_it_is(system, path, environ, there):
    assert find_program(system, path, environ, lambda name: name == there) == there


def test_path_comes_first():
    assert find_program("Linux", "/a:/b", {}, lambda _: True) == "/a/VBoxManage"


def test_nowhere():
    with pytest.raises(DriverUnusable) as refusal:
        find_program("Plan9", "/bin", {}, lambda _: False)
    assert "install VirtualBox" in refusal.value.hint


def test_an_empty_entry_of_path_is_not_the_current_folder():
    tried: list[str] = []

    def note(name: str) -> bool:
        tried.append(name)
        return False

    with pytest.raises(DriverUnusable):
        find_program("Linux", "::", {}, note)
    assert all(name.startswith("/") for name in tried)
