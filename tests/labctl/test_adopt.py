"""adopt: which machines, how it logs in, what it gives them; against the double and a real sshd."""

import dataclasses
import getpass
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labcore.errors import NotFound, UsageProblem
from labcore.wire.event import Event, EventKind
from labctl import adopting
from labctl.adopting import Outsider
from server_manager.paths import StatePaths
from server_manager.ssh_keys import USER_KEY, make_pair
from tests.labctl import double as doubles
from tests.labctl.conftest import Labctl
from tests.labctl.double import Double
from tests.ssh import sshd

HARDWARE = "5f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f"
TURNED = "3c2d1e5f-5a4b-9746-8879-6a5b4c3d2e1f"  # the same, in the other order of bytes

GUEST = """\
#!/bin/sh
# What the machine does with the commands that adopt sends.
echo "$USER $SSH_ORIGINAL_COMMAND" >>{folder}/commands
case $SSH_ORIGINAL_COMMAND in
*product_uuid*) cat {folder}/answer; exit "$(cat {folder}/provisioned)" ;;
*seed.tar*) cat >{folder}/seed; echo "labctl-seed: applied 123" >&2; exit "$(cat {folder}/taken)" ;;
esac
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@dataclass
class Guest:
    """A machine that lets one key in, whose sudo is pretended."""

    sshd: sshd.Sshd
    folder: Path

    def say(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def seed(self) -> str:
        path = self.folder / "seed"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    if sshd.PROGRAM is None:
        pytest.skip("there is no sshd (Debian: openssh-server)")
    folder = tmp_path / "guest"
    folder.mkdir()
    started = sshd.start(folder)
    stub = folder / "stub"
    stub.write_text(GUEST.format(folder=folder))
    stub.chmod(0o755)
    public = (folder / "authorized").read_text()
    (folder / "authorized").write_text(f'command="{stub}" {public}')
    guest = Guest(started, folder)
    for name, text in (("answer", HARDWARE), ("provisioned", "0"), ("taken", "0")):
        guest.say(name, text)
    # The login user of a lab is one that this machine need not have.
    monkeypatch.setattr(adopting, "LOGIN_USER", getpass.getuser())
    yield guest
    started.end()


@pytest.fixture
def adopted(double: Double, guest: Guest) -> Double:
    """One machine, which the double adopts as agent-1 and whose lab comes up."""
    double.labs = [dataclasses.replace(double.labs[0], adopted=True)]
    told = {"node": "agent-1", "machine": "vm", "id": "vm-id", "hardware_id": HARDWARE}
    double.adopted = [{**told, "ssh_port": guest.sshd.port}]
    double.events = [doubles.end(2, "up")]
    ssh = StatePaths.find().ssh("demo")
    write(ssh / "host_agent-1.pub", "ssh-ed25519 AAAA not the one it has yet\n")
    write(ssh / USER_KEY, guest.sshd.key_file.read_text())
    return double


def adopt(labctl: Labctl, guest: Guest, *more: str):
    return labctl(
        "adopt", "--lab", "demo", "--vm", "agent-1=vm", "--ssh-user", getpass.getuser(),
        "--ssh-key", str(guest.sshd.key_file), *more,
    )  # fmt: skip


@pytest.mark.local
def test_it_registers_delivers_and_follows_the_lab_up(labctl, adopted: Double, guest: Guest):
    done = adopt(labctl, guest, "-o", "json")
    assert done.code == 0, done.err
    paths = [f"{method} {path}" for method, path, _ in adopted.asked]
    assert paths == ["PUT /api/v1/labs/demo/adoption", "POST /api/v1/labs/demo/adoption/finish"]
    body = adopted.asked[0][2]
    assert body["machines"] == {"agent-1": "vm"}
    assert (body["file"]["lab"], body["file"]["driver"]) == ("demo", "virtualbox")
    assert guest.seed() == "seed of agent-1"
    assert "agent-1: labctl-seed: applied 123" in done.err
    assert json.loads(done.out)["lab"] == "demo"


@pytest.mark.local
@pytest.mark.parametrize("answer", [TURNED, "unknown"])
def test_firmware_may_turn_the_id_round_or_have_none(labctl, adopted, guest: Guest, answer):
    guest.say("answer", answer)
    assert adopt(labctl, guest).code == 0
    assert guest.seed()


@pytest.mark.local
def test_another_machine_behind_the_port_gets_nothing(labctl, adopted: Double, guest: Guest):
    guest.say("answer", "00000000-0000-4000-8000-000000000001")
    done = adopt(labctl, guest)
    assert done.code == 4
    assert "not 'vm' answers at 127.0.0.1" in done.err
    assert "half adopted" in done.err
    assert guest.seed() == ""
    assert not any("finish" in path for _, path, _ in adopted.asked)


@pytest.mark.local
def test_a_machine_that_is_not_provisioned_is_told_so(labctl, adopted, guest: Guest):
    guest.say("provisioned", "1")
    done = adopt(labctl, guest)
    assert done.code == 1
    assert "is not provisioned" in done.err
    assert "vagrant provision" in done.err


@pytest.mark.local
def test_a_seed_that_is_not_taken_shows_what_the_machine_said(labctl, adopted, guest: Guest):
    guest.say("taken", "1")
    done = adopt(labctl, guest)
    assert done.code == 1
    assert "  labctl-seed: applied 123" in done.err


@pytest.mark.local
def test_again_it_expects_the_key_that_the_seed_brought(labctl, adopted, guest: Guest):
    assert adopt(labctl, guest).code == 0
    ssh = StatePaths.find().ssh("demo")
    assert guest.sshd.host_key.public.split()[1] in (ssh / "first_vm-id.pub").read_text()
    # The seed is applied: the machine answers with the key that we made, and lets our user in.
    write(ssh / "host_agent-1.pub", guest.sshd.host_key.public)
    write(ssh / "first_vm-id.pub", "ssh-ed25519 AAAA gone\n")
    assert adopt(labctl, guest, "--ssh-key", "/nonexistent").code == 0


@pytest.mark.local
def test_again_a_third_key_is_refused(labctl, adopted, guest: Guest):
    other = make_pair("other").public
    write(StatePaths.find().ssh("demo") / "first_vm-id.pub", other + "\n")
    write(StatePaths.find().ssh("demo") / "host_agent-1.pub", other + "\n")
    done = adopt(labctl, guest)
    assert done.code == 4
    assert "another host key" in done.err
    assert guest.seed() == ""


def test_release_is_for_adopted_labs_only(labctl, double: Double):
    done = labctl("adopt", "--release", "--lab", "demo")
    assert (done.code, double.asked) == (4, [])
    assert "labctl made it itself" in done.err
    double.labs = [dataclasses.replace(double.labs[0], adopted=True)]
    double.events = [Event(2, doubles.AT, "demo", EventKind.LAB, "gone", None,
                           {"run": 1, "state": "destroyed"})]  # fmt: skip
    done = labctl("adopt", "--release", "--lab", "demo")
    assert done.code == 0, done.err
    assert "its machines stay as they are" in done.err
    assert [(method, path) for method, path, _ in double.asked] == [("DELETE", "/api/v1/labs/demo")]
    assert labctl("adopt", "--release", "--lab", "other").code == 3


# ------------------------------------------------------------------------ which machines


def vagrant(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / f".vagrant/machines/{name}/virtualbox/id", f"id-of-{name}")


def test_vagrants_machines_are_those_that_exist(tmp_path: Path):
    vagrant(tmp_path, "control", "agent-1")
    (tmp_path / ".vagrant/machines/agent-2/virtualbox").mkdir(parents=True)  # destroyed
    write(tmp_path / ".vagrant/machines/agent-1/virtualbox/private_key", "k")
    home = tmp_path / "home"
    found = adopting.of_vagrant(tmp_path, {"VAGRANT_HOME": str(home)})
    own = tmp_path / ".vagrant/machines/agent-1/virtualbox/private_key"
    assert found == {
        "control": Outsider("id-of-control", "vagrant", home / "insecure_private_key"),
        "agent-1": Outsider("id-of-agent-1", "vagrant", own),
    }


def test_vagrants_folder_may_be_elsewhere(tmp_path: Path):
    vagrant(tmp_path / "dots", "control")
    with pytest.raises(NotFound):
        adopting.of_vagrant(tmp_path, {})
    moved = adopting.of_vagrant(tmp_path, {"VAGRANT_DOTFILE_PATH": "dots/.vagrant"})
    assert set(moved) == {"control"}


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        ([], None, "which machines"),
        (["agent-1"], Path("k"), "not like agent-1=NAME"),
        (["agent-1="], Path("k"), "not like agent-1=NAME"),
        (["Agent=vm"], Path("k"), "not a name"),
        (["agent-1=vm"], None, "without a key"),
    ],
)
def test_words_that_say_no_machine(words, key, said):
    with pytest.raises(UsageProblem, match=said):
        adopting.of_words(words, "vagrant", key)
