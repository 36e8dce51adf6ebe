"""Downloads from a real server on loopback that breaks off, forgets, lies, or is not there."""

import errno
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labcore.clock import FakeClock
from labcore.errors import Interrupted, LabError, Unreachable, UsageProblem
from server_manager.images import download as downloading
from server_manager.images.cloud import default_url, host_arch, sum_in
from server_manager.images.download import download, fetch_text
from tests.images.disks import MIB
from tests.images.web import Web, serving

CONTENT = hashlib.shake_256(b"disk").digest(3 * MIB + 17)
SUM = hashlib.sha512(CONTENT).hexdigest()


class Watcher:
    """Takes progress in, and may want the end of it."""

    def __init__(self, stop_at: float | None = None) -> None:
        self.told: list[tuple[float, float]] = []
        self.stop_at = stop_at

    def progress(self, done: float, total: float) -> None:
        self.told.append((done, total))
        if self.stop_at is not None and done >= self.stop_at:
            raise Interrupted("enough")

    def line(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(CONTENT) as made:
        yield made


def get(web: Web, folder: Path, watcher: Watcher | None = None, sha512: str = SUM) -> Path:
    target = folder / "download"
    download(web.url, target, sha512, FakeClock(), watcher or Watcher())
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_its_progress(web: Web, tmp_path: Path):
    watcher = Watcher()
    assert get(web, tmp_path, watcher).read_bytes() == CONTENT
    assert watcher.told[-1][0] == watcher.told[-1][1] == pytest.approx(len(CONTENT) / MIB)
    assert names(tmp_path) == ["download"]


def test_what_is_there_is_not_asked_for_again(web: Web, tmp_path: Path):
    get(web, tmp_path)
    get(web, tmp_path)
    assert len(web.asked) == 1


def test_a_connection_that_breaks_is_gone_on_with(web: Web, tmp_path: Path):
    web.breaks, web.breaks_after = 2, MIB
    assert get(web, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
    assert web.sent == len(CONTENT)


def test_after_an_interruption_the_rest_comes(web: Web, tmp_path: Path):
    with pytest.raises(Interrupted):
        get(web, tmp_path, Watcher(stop_at=2.0))
    assert names(tmp_path) == ["download.part", "download.part.json"]
    assert get(web, tmp_path).read_bytes() == CONTENT
    assert web.asked[-1][1] == f"bytes={2 * MIB}-"


def test_without_ranges_it_begins_again(web: Web, tmp_path: Path):
    web.ranges, web.breaks, web.breaks_after = False, 1, MIB
    assert get(web, tmp_path).read_bytes() == CONTENT


def test_another_version_is_not_mixed_with_the_first(web: Web, tmp_path: Path):
    with pytest.raises(Interrupted):
        get(web, tmp_path, Watcher(stop_at=1.0))
    web.content, web.etag = CONTENT[::-1], '"two"'
    sha512 = hashlib.sha512(web.content).hexdigest()
    assert get(web, tmp_path, sha512=sha512).read_bytes() == web.content


def test_what_has_no_version_is_not_gone_on_with(web: Web, tmp_path: Path):
    web.etag, web.breaks, web.breaks_after = None, 1, MIB
    assert get(web, tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, None]


def test_a_server_that_always_breaks_off_is_given_up(web: Web, tmp_path: Path):
    web.breaks, web.breaks_after = 10_000, 0
    with pytest.raises(Unreachable, match="broke after 0 MiB") as failure:
        get(web, tmp_path)
    assert "labctl image build FILE" in failure.value.hint
    assert len(web.asked) == downloading.CONNECTIONS


def test_a_wrong_checksum_removes_the_file(web: Web, tmp_path: Path):
    with pytest.raises(LabError, match="its SHA-512 is"):
        get(web, tmp_path, sha512="0" * 128)
    assert names(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_url_that_leads_to_nothing(web: Web, tmp_path: Path, status: int):
    web.status = status
    with pytest.raises(UsageProblem, match=str(status)):
        get(web, tmp_path)


def test_nobody_there(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/disk.raw"
    with pytest.raises(Unreachable, match="does not answer") as failure:
        download(url, tmp_path / "download", SUM, FakeClock(), Watcher())
    assert "labctl image build FILE" in failure.value.hint


def test_too_little_room_is_told_before_a_byte_comes(web: Web, tmp_path: Path, mocker):
    mocker.patch("shutil.disk_usage").return_value.free = MIB
    with pytest.raises(LabError, match="is full: 1 MiB are free, 3 MiB are needed"):
        get(web, tmp_path)


def test_a_disk_that_fills_up_is_told_and_what_came_stays(web: Web, tmp_path: Path, mocker):
    real = downloading._copy
    calls = []

    def copy(answer, stream, have, total, teller):
        calls.append(have)
        if len(calls) > 1:
            real(answer, stream, have, total, teller)
            return
        stream.write(answer.read(MIB))
        raise OSError(errno.ENOSPC, "No space left on device")

    mocker.patch.object(downloading, "_copy", copy)
    with pytest.raises(LabError, match="is full"):
        get(web, tmp_path)
    assert get(web, tmp_path).read_bytes() == CONTENT
    assert calls == [0, MIB]


@pytest.mark.parametrize("url", ["ftp://x/y", "file:///etc/passwd", "http:///x", "disk.raw"])
def test_only_the_web_is_downloaded_from(tmp_path: Path, url: str):
    with pytest.raises(UsageProblem, match="no http or https URL"):
        download(url, tmp_path / "download", SUM, FakeClock(), Watcher())


@settings(max_examples=15)
@given(st.lists(st.integers(0, len(CONTENT)), max_size=4))
def test_however_often_it_breaks_the_file_is_whole(tmp_path_factory, breaks: list[int]):
    folder = tmp_path_factory.mktemp("whole")
    with serving(CONTENT) as web:
        for after in breaks:
            web.breaks, web.breaks_after = 1, after
            try:
                get(web, folder, Watcher(stop_at=after / MIB))
            except Interrupted:
                continue
        assert get(web, folder).read_bytes() == CONTENT


def test_the_published_sum_is_found_by_name():
    url = default_url("amd64")
    name = url.rpartition("/")[2]
    sums = f"{'a' * 128}  {name}.asc\n{'B' * 128}  {name}\n{'c' * 128} *other\n"
    assert sum_in(sums, url) == "b" * 128
    assert sum_in(sums, "https://x/other") == "c" * 128
    assert sum_in(sums, "https://x/none") is None


def test_machines_are_called_as_debian_calls_them():
    assert host_arch("x86_64") == host_arch("AMD64") == "amd64"
    assert host_arch("aarch64") == host_arch("arm64") == "arm64"
    with pytest.raises(UsageProblem, match="riscv64"):
        host_arch("riscv64")


def test_a_small_text(web: Web):
    web.content = b"sum  name\n"
    assert fetch_text(web.url) == "sum  name\n"
