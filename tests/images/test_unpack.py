"""What kind of file a source is, and the disk out of an archive."""

import io
import json
import struct
import tarfile
from pathlib import Path

import pytest

from labcore.errors import UsageProblem
from server_manager.images.unpack import format_of, unpack
from tests.images.disks import MIB, mbr, vdi, write
from tests.images.test_download import Watcher

DISK = mbr(size=3)
VMDK = b"KDMV" + bytes(2 * MIB)
BOX = {"provider": "virtualbox", "format": "vmdk", "architecture": "amd64"}


def archive(path: Path, mode: str = "w", **members: bytes) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_files_are_told_by_what_they_begin_with(tmp_path: Path):
    cases = {
        "raw": DISK,
        "qcow2": b"QFI\xfb\0\0\0\3" + bytes(1000),
        "vdi": vdi(DISK),
        "vmdk": VMDK,
    }
    for kind, content in cases.items():
        assert format_of(write(tmp_path / "file.bin", content)) == kind
    descriptor = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\n'
    assert format_of(write(tmp_path / "file.bin", descriptor)) == "vmdk"
    for mode in ("w", "w:gz", "w:xz"):
        assert format_of(archive(tmp_path / "file.bin", mode, disk_raw=DISK)) == "archive"


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(2 * MIB), struct.pack("<I", 7) * 1000])
def test_what_is_no_disk_is_refused(tmp_path: Path, content: bytes):
    with pytest.raises(UsageProblem, match="no disk that can boot"):
        format_of(write(tmp_path / "file.bin", content))


def test_what_is_not_there_or_a_folder_is_refused(tmp_path: Path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageProblem, match="cannot read"):
            format_of(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_the_disk_comes_out_with_its_holes(tmp_path: Path, mode: str):
    source = archive(tmp_path / "a.tar", mode, disk_raw=DISK, README_txt=b"hello")
    out = tmp_path / "out"
    out.mkdir()
    watcher = Watcher()
    disk = unpack(source, out, watcher)
    assert disk.path == out / "source.raw"
    assert disk.path.read_bytes() == DISK
    assert disk.path.stat().st_blocks * 512 < len(DISK) / 2
    assert [path.name for path in out.iterdir()] == ["source.raw"]
    assert watcher.told


def test_a_box_and_an_ova_hold_a_vmdk(tmp_path: Path):
    metadata = json.dumps(BOX).encode()
    box = archive(tmp_path / "x.box", "w:gz", metadata_json=metadata, box_ovf=b"", d_vmdk=VMDK)
    disk = unpack(box, tmp_path, Watcher())
    assert (disk.path.name, disk.arch) == ("source.vmdk", "amd64")
    ova = archive(tmp_path / "x.ova", d_ovf=b"<x/>", d_vmdk=VMDK, d_mf=b"")
    assert unpack(ova, tmp_path, Watcher()).arch is None


def test_names_inside_lead_nowhere_else(tmp_path: Path):
    source = archive(tmp_path / "a.tar", __etc__evil_raw=DISK)
    out = tmp_path / "out"
    out.mkdir()
    assert unpack(source, out, Watcher()).path == out / "source.raw"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"README_txt": b"hello"}, "holds no disk"),
        ({"a_raw": DISK, "b_raw": DISK}, "several disks"),
        ({"metadata_json": b"{", "a_vmdk": VMDK}, "not JSON"),
        ({"metadata_json": b'{"provider": "libvirt"}', "a_img": DISK}, "box for 'libvirt'"),
    ],
)
def test_an_archive_without_a_disk_for_us(tmp_path: Path, members, message: str):
    source = archive(tmp_path / "a.tar", **members)
    with pytest.raises(UsageProblem, match=message):
        unpack(source, tmp_path, Watcher())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_that_ends_too_early(tmp_path: Path, mode: str):
    source = archive(tmp_path / "a.tar", mode, disk_raw=bytes(range(256)) * 8192)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageProblem, match="cannot be unpacked"):
        unpack(source, tmp_path, Watcher())
