"""Copying over a real sshd, and what is refused of what a node sends."""

import io
import os
import posixpath
import pwd
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.errors import DriverFailed, LabError, NotFound, UsageProblem
from labctl.placing import place
from labctl.ssh.connection import Connection, connect
from labctl.ssh.copy import get, put
from labctl.ssh.unpack import unpack
from tests.ssh.sshd import Sshd


@pytest.fixture
def connection(server: Sshd) -> Iterator[Connection]:
    with connect(server.endpoint()) as made:
        yield made


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "there"
    made.mkdir()
    return made


def make_tree(root: Path) -> None:
    (root / "sub" / "deep er").mkdir(parents=True)
    (root / "a").write_bytes(os.urandom(300_000))
    (root / "sub" / "-x").write_text("dash")
    (root / "sub" / "run").write_text("#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "link").symlink_to("sub/-x")
    (root / "away").symlink_to("/etc/hostname")
    (root / "twin").hardlink_to(root / "a")
    (root / "empty").mkdir()


def tree_of(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): path.readlink()
        if path.is_symlink()
        else (path.read_bytes(), path.stat().st_mode & 0o777)
        if path.is_file()
        else None
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.local
def test_a_tree_comes_back_as_it_went(connection: Connection, there: Path, folder: Path) -> None:
    make_tree(folder)
    assert put(connection, folder, str(there)) == f"{there}/here"
    assert tree_of(there / "here") == tree_of(folder)
    back = folder.parent / "back"
    assert get(connection, f"{there}/here/", back) == back
    assert tree_of(back) == tree_of(folder)


@pytest.mark.local
def test_a_file_is_put_into_a_folder_or_under_a_name(
    connection: Connection, there: Path, folder: Path
) -> None:
    (folder / "a b").write_text("text")
    assert put(connection, folder / "a b", f"{there}") == f"{there}/a b"
    assert put(connection, folder / "a b", f"{there}/new/") == f"{there}/new/a b"
    assert put(connection, folder / "a b", f"{there}/other/name") == f"{there}/other/name"
    assert (there / "other" / "name").read_text() == "text"
    (folder / "a b").write_text("changed")
    put(connection, folder / "a b", f"{there}/other/name")
    assert (there / "other" / "name").read_text() == "changed"


@pytest.mark.local
def test_a_file_is_fetched_into_a_folder_or_under_a_name(
    connection: Connection, there: Path, folder: Path
) -> None:
    (there / "-a").write_text("text")
    assert get(connection, f"{there}/-a", folder) == folder / "-a"
    assert get(connection, f"{there}/-a", folder / "name") == folder / "name"
    assert (folder / "name").read_text() == "text"


@pytest.mark.local
def test_paths_begin_in_the_home_folder(connection: Connection) -> None:
    assert connection.run("pwd").stdout.strip() == pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.local
def test_what_cannot_be_copied_is_named(connection: Connection, there: Path, folder: Path) -> None:
    with pytest.raises(NotFound, match="nothing does not exist"):
        put(connection, folder / "nothing", str(there))
    with pytest.raises(NotFound, match=r"agent-1 has no .*/nothing"):
        get(connection, f"{there}/nothing", folder)
    with pytest.raises(NotFound, match="is no folder"):
        get(connection, str(there), folder / "no" / "where")
    with pytest.raises(UsageProblem, match="no name of its own"):
        get(connection, "/", folder)
    (there / "file").write_text("")
    (folder / "x").write_text("")
    with pytest.raises(DriverFailed, match=r"copying .* to agent-1:") as failed:
        put(connection, folder / "x", f"{there}/file/x")
    assert failed.value.details


def archive(*members: tarfile.TarInfo) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for member in members:
            made.addfile(member, io.BytesIO(b"x" * member.size))
    stream.seek(0)
    return stream


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 1
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = size if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "bad",
    [
        [member("/etc/passwd")],
        [member("base/../../x")],
        [member("../x")],
        [member("other")],
        [member("base", tarfile.DIRTYPE), member("base/l", tarfile.LNKTYPE, "/etc/passwd")],
        [member("base", tarfile.DIRTYPE), member("base/f", tarfile.FIFOTYPE)],
        [member("base", tarfile.DIRTYPE), member("base/d", tarfile.CHRTYPE)],
    ],
)
def test_a_node_cannot_write_outside(tmp_path: Path, bad: list[tarfile.TarInfo]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DriverFailed, match="refused"):
        unpack(archive(*bad), "base", tmp_path / "in" / "base")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_link_of_the_archive_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    base = member("base", tarfile.DIRTYPE)
    link = member("base/l", tarfile.SYMTYPE, str(tmp_path / "outside"))
    for _ in range(2):
        with pytest.raises((DriverFailed, LabError)):
            unpack(archive(base, link, member("base/l/x")), "base", tmp_path / "base")
        unpack(archive(base, link), "base", tmp_path / "base")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_that_was_there_is_never_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "base"
    target.mkdir()
    (target / "trap").symlink_to(outside)
    with pytest.raises(DriverFailed, match="through a link"):
        unpack(archive(member("base/trap/x")), "base", target)
    assert list(outside.iterdir()) == []


def test_what_is_no_archive_or_half_of_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(DriverFailed, match="no tar archive"):
        unpack(io.BytesIO(b"hello"), "base", tmp_path / "base")
    half = archive(member("base", size=100_000)).getvalue()[:50_000]
    with pytest.raises(DriverFailed, match="no tar archive"):
        unpack(io.BytesIO(half), "base", tmp_path / "base")


def test_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(LabError, match=r"cannot write .*base"):
        unpack(archive(member("base")), "base", tmp_path / "base")


names = st.text("ab. -", min_size=1).filter(lambda n: n not in (".", ".."))


@given(target=st.lists(names, min_size=1).map("/".join), name=names, absolute=st.booleans())
def test_a_target_is_kept_or_entered(target: str, name: str, absolute: bool) -> None:
    whole = "/" + target if absolute else target
    assert "/".join(place(whole, name, is_folder=True)) == f"{whole}/{name}"
    parent, base = place(whole, name, is_folder=False)
    assert posixpath.normpath(posixpath.join(parent, base)) == whole
    assert place(whole + "/", name, is_folder=False) == (whole, name)
