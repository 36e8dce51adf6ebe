"""The folder of a server: whole or not there, and nobody else's is touched."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore import commands
from labcore.errors import Conflict, DriverFailed
from labcore.wire.lab import PowerState
from tests.contract.rigs import LAB, Rig, local_rig, make_spec

pytestmark = pytest.mark.local
ROOT = Path(__file__).parents[2]
SPEC = make_spec()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with local_rig(tmp_path) as made:
        yield made


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    return tmp_path / LAB / "nodes"


def test_a_crash_at_any_step_is_mended_by_the_next_call(tmp_path: Path):
    result = commands.run(
        (sys.executable, "-m", "tests.drivers.crash_steps", str(tmp_path)),
        timeout_s=120.0,
        cwd=ROOT,
    )
    result.check("crash steps")
    assert int(result.stdout) > 20


def test_a_folder_that_lost_its_server_file_is_broken_until_it_is_made_again(rig: Rig, nodes: Path):
    rig.driver.create(SPEC)
    rig.driver.start(SPEC.ref)
    (nodes / "agent-1" / "server.json").unlink()
    server = rig.driver.get(SPEC.ref)
    assert server.state is PowerState.ERROR
    assert "has no server.json" in str(server.problem)
    assert [s.state for s in rig.driver.servers(LAB)] == [PowerState.ERROR]
    with pytest.raises(DriverFailed, match="has no server"):
        rig.driver.start(SPEC.ref)
    rig.driver.create(SPEC)
    assert rig.driver.get(SPEC.ref).state is PowerState.STOPPED


def test_a_broken_folder_can_be_destroyed(rig: Rig, nodes: Path):
    rig.driver.create(SPEC)
    rig.driver.start(SPEC.ref)
    (nodes / "agent-1" / "server.json").unlink()
    rig.driver.destroy(SPEC.ref)
    assert rig.driver.get(SPEC.ref).state is PowerState.ABSENT
    assert list(nodes.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"ref": 3}', "\x00"])
def test_a_server_file_nobody_understands_is_unknown_and_can_be_destroyed(
    rig: Rig, nodes: Path, content
):
    rig.driver.create(SPEC)
    (nodes / "agent-1" / "server.json").write_text(content)
    server = rig.driver.get(SPEC.ref)
    assert server.state is PowerState.UNKNOWN
    assert "server.json" in str(server.problem)
    assert [s.state for s in rig.driver.servers(LAB)] == [PowerState.UNKNOWN]
    for call in (lambda: rig.driver.create(SPEC), lambda: rig.driver.start(SPEC.ref)):
        with pytest.raises(DriverFailed, match=r"server\.json"):
            call()
    rig.driver.stop(SPEC.ref)
    rig.driver.destroy(SPEC.ref)
    assert rig.driver.get(SPEC.ref).state is PowerState.ABSENT


@pytest.mark.parametrize("name", ["server.json", "supervisor.json"])
def test_what_may_not_be_read_is_unknown(rig: Rig, nodes: Path, name):
    rig.driver.create(SPEC)
    file = nodes / "agent-1" / name
    file.unlink(missing_ok=True)
    file.mkdir()  # even root cannot read a folder as a file
    assert rig.driver.get(SPEC.ref).state is PowerState.UNKNOWN
    shutil.rmtree(file)


def test_somebody_elses_folder_is_left_alone(rig: Rig, nodes: Path):
    thesis = nodes / "agent-1" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    for call in (lambda: rig.driver.create(SPEC), lambda: rig.driver.destroy(SPEC.ref)):
        with pytest.raises(Conflict, match="was not made by labctl"):
            call()
    assert thesis.read_text() == "years of work"
    shutil.rmtree(thesis.parent)


def test_a_copy_of_a_servers_folder_is_no_server(rig: Rig, nodes: Path):
    rig.driver.create(SPEC)
    shutil.copytree(nodes / "agent-1", nodes / "agent-9")
    assert [s.ref for s in rig.driver.servers(LAB)] == [SPEC.ref]
    copy = make_spec("agent-9")
    assert rig.driver.get(copy.ref).state is PowerState.ABSENT
    rig.driver.destroy(copy.ref)
    assert (nodes / "agent-9").exists()


def test_a_folder_removed_by_hand_under_a_running_server(rig: Rig, nodes: Path):
    ref = rig.running(SPEC)
    shutil.rmtree(nodes / "agent-1")
    server = rig.driver.get(ref)
    assert server.state is PowerState.ERROR
    assert "its folder is gone" in str(server.problem)
    rig.driver.destroy(ref)
    assert rig.driver.get(ref).state is PowerState.ABSENT


def test_a_file_where_a_folder_should_be_is_our_error(rig: Rig, tmp_path: Path):
    (tmp_path / LAB).write_text("")
    with pytest.raises(DriverFailed) as failure:
        rig.driver.create(SPEC)
    assert failure.value.__cause__ is not None
    (tmp_path / LAB).unlink()
