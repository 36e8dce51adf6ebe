"""labctl image, from the command line to a real sshd: a server-manager over the fake driver."""

import getpass
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import psutil
import pytest

from labcore.errors import UsageProblem
from labcore.files import write_json
from labcore.web import MOST_BODY_BYTES, make_server
from labcore.wire.image import ImageState, ImageStep
from labctl.cli.main import main
from labctl.images import choice
from labctl.images.login import BOX_KEY, BOX_USER, choose
from server_manager.app import make_app
from server_manager.guest import provisioning
from server_manager.metrics import Metrics
from server_manager.paths import StatePaths
from server_manager.ssh_keys import make_pair
from tests.images.workshop import NAME, Workshop
from tests.ssh import sshd

SCRIPT = """\
echo "building as $(id -un)"
cat "$(dirname "$0")/app-image.tar" 2>/dev/null || echo "no app image"
echo "then: $1" >&2
touch {done}
exit {code}
"""


class Run:
    """labctl in this process, and what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = main(["image", *arguments])
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def labctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "80")
    return Run(capsys)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """A server-manager that labctl finds in this test's state directory."""
    paths = StatePaths.find()
    shop = Workshop(tmp_path, paths.root)
    manager = shop.parts.manager
    server = make_server(
        make_app(manager, Metrics()), "127.0.0.1:0", most_body_bytes=MOST_BODY_BYTES
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    process = psutil.Process(os.getpid())
    url = f"http://127.0.0.1:{server.effective_port}"
    write_json(paths.manager, {"pid": process.pid, "created": process.create_time(), "url": url})
    yield shop
    shop.end_all()
    shop.parts.core.events.close()
    server.close()
    thread.join(5)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Gives the next builder a real sshd, and a `build.sh` that touches nothing but a mark."""
    if sshd.PROGRAM is None:
        pytest.skip("there is no sshd (Debian: openssh-server)")
    started: list[sshd.Sshd] = []
    threads: list[threading.Thread] = []

    def give(shop: Workshop, code: int = 0) -> None:
        script = SCRIPT.format(done=tmp_path / "done", code=code).encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo(provisioning.BUILD)
            member.size = len(script)
            tar.addfile(member, io.BytesIO(script))
        monkeypatch.setattr(provisioning, "archive", buffer.getvalue)
        monkeypatch.setattr("labctl.images.provision.FOLDER", str(tmp_path / "unpacked"))

        def start() -> None:
            shop.at(ImageStep.PROVISION)
            address = shop.parts.core.images.get("fake", NAME).address or ""
            folder = tmp_path / "sshd"
            folder.mkdir()
            started.append(sshd.start(folder, port=int(address.rpartition(":")[2]), user=KEYS))

        threads.append(threading.Thread(target=start))
        threads[0].start()

    yield give
    for thread in threads:
        thread.join()
    for one in started:
        one.end()


KEYS = make_pair("user")


def given(shop: Workshop, tmp_path: Path) -> list[str]:
    key = tmp_path / "key"
    sshd.write_key(key, KEYS)
    login = ["--ssh-user", getpass.getuser(), "--ssh-key", str(key)]
    return ["build", str(shop.disk), "--driver", "fake", "--name", NAME, *login]


def test_a_build_ends_with_an_image(labctl: Run, shop: Workshop, builder, tmp_path: Path):
    builder(shop)
    app = tmp_path / "app.tar"
    app.write_text("the app\n")
    assert labctl(*given(shop, tmp_path), "--app-image", str(app), "-o", "json") == 0, labctl.err
    assert json.loads(labctl.out)["state"] == "ready"
    for line in ("fetch begun", "building as", "the app", "then: then-power-off", "snapshot done"):
        assert line in labctl.err
    assert (tmp_path / "done").exists()
    assert not StatePaths.find().image_login("fake", NAME).exists()
    assert labctl("list") == 0
    assert labctl.out.splitlines()[1].startswith("base  fake    ready  amd64  100 MiB")
    assert max(map(len, labctl.out.splitlines())) <= 80
    assert labctl("remove", NAME) == 0
    assert labctl("list") == 0
    assert "there is no image" in labctl.err


def test_scripts_that_fail_are_told_with_their_last_lines(
    labctl: Run, shop: Workshop, builder, tmp_path: Path
):
    builder(shop, code=7)
    assert labctl(*given(shop, tmp_path)) == 1
    assert "ended with 7" in labctl.err
    assert "then: then-power-off" in labctl.err
    assert labctl("list", "-o", "json") == 0
    (image,) = json.loads(labctl.out)["images"]
    assert (image["state"], image["step"]) == ("broken", "provision")


def test_a_build_whose_labctl_was_killed_is_gone_on_with(
    labctl: Run, shop: Workshop, builder, tmp_path: Path
):
    run = shop.begin()
    shop.at(ImageStep.PROVISION)
    builder(shop)
    assert labctl(*given(shop, tmp_path), "-o", "json") == 0, labctl.err
    assert json.loads(labctl.out)["run"] == run
    assert (tmp_path / "done").exists()


def test_only_one_labctl_provisions_and_the_other_follows(
    labctl: Run, shop: Workshop, tmp_path: Path
):
    shop.begin()
    shop.at(ImageStep.PROVISION)
    lock = StatePaths.find().image("fake", NAME) / "provision.lock"
    with filelock.FileLock(lock):
        other = threading.Timer(0.5, shop.provision)
        other.start()
        assert labctl(*given(shop, tmp_path)) == 0, labctl.err
        other.join()
    assert "another labctl provisions it" in labctl.err


def test_a_live_image_is_told_as_one(labctl: Run, shop: Workshop, builder, tmp_path: Path):
    builder(shop)
    assert labctl(*given(shop, tmp_path), "--live") == 0, labctl.err
    assert "live done" in labctl.err
    assert labctl.out.splitlines()[1].startswith("base  fake    ready, live  amd64")


def test_a_ready_image_is_not_built_again(labctl: Run, shop: Workshop, tmp_path: Path):
    built = shop.built()
    assert labctl(*given(shop, tmp_path), "-o", "json") == 0
    assert json.loads(labctl.out)["id"] == built.id
    assert labctl(*given(shop, tmp_path), "--memory-mib", "2048") == 4
    assert "labctl image remove base" in labctl.err


def test_an_import_needs_no_login(labctl: Run, shop: Workshop):
    assert labctl("import", str(shop.disk), "--driver", "fake") == 0
    assert shop.images.one("fake", "disk").state is ImageState.READY


def test_ctrl_c_stops_the_build(labctl: Run, shop: Workshop, monkeypatch, tmp_path: Path):
    def interrupted(*_: object) -> None:
        shop.at(ImageStep.PROVISION)
        raise KeyboardInterrupt

    monkeypatch.setattr("labctl.images.build._do_our_part", interrupted)
    assert labctl(*given(shop, tmp_path)) == 130
    assert "labctl image remove base" in labctl.err
    assert shop.ended().state is ImageState.BROKEN
    assert shop.driver.images() == ()


def test_an_image_that_labs_use_is_kept(labctl: Run, shop: Workshop):
    assert labctl("import", str(shop.disk), "--driver", "fake", "--name", NAME) == 0
    shop.parts.up()
    assert labctl("remove", NAME) == 4
    assert "labctl destroy --lab demo" in labctl.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("build", "--driver", "vmware"), 2, "no such driver"),
        (("build", "--ssh-user", "root"), 2, "with which key"),
        (("build", "--ssh-key", "/no/key"), 2, "no such file"),
        (("build", "--app-image", "/no/tar"), 2, "no such file"),
        (("build", "--cpus", "none"), 2, "not a number"),
        (("build",), 5, "no driver that makes images"),
        (("build", "/no/disk.raw", "--driver", "fake"), 2, "cannot read"),
        (("build", "https://x/d.raw", "--driver", "fake"), 2, "SHA-512 is needed"),
        (("remove", "nothing"), 3, "no image 'nothing'"),
    ],
)
def test_bad_input(labctl: Run, shop: Workshop, arguments, code: int, message: str):
    assert labctl(*arguments) == code
    assert message in labctl.err


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (None, "debian-12"),
        ("/home/Guest.vdi", "guest"),
        ("https://x.org/a/debian-12-generic-amd64.tar.xz?x=1", "debian-12-generic-amd64"),
        ("images:debian/12/cloud", "cloud"),
        ("bento_ubuntu-24.04.box", "bento-ubuntu-24-04"),
        ("x" * 60 + ".raw", "x" * 31),
    ],
)
def test_a_name_is_made_of_the_source(source: str | None, name: str):
    assert choice.name_for(source) == name


def test_a_source_without_a_name_needs_one():
    with pytest.raises(UsageProblem, match="no name"):
        choice.name_for("/home/12.raw")


def test_boxes_let_vagrants_key_in_and_cloud_images_one_of_ours():
    box = choose("x.box", None, None)
    assert (box.user, box.key, box.kind) == (BOX_USER, BOX_KEY, "given")
    assert choose("x.raw", None, None).kind == "seed"
    assert choose(None, None, None).key is None
