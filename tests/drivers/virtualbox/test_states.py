"""Every state of a machine, and what start, stop and destroy do about it."""

import pytest

from labcore.errors import Conflict, DriverFailed
from labcore.wire.lab import PowerState
from server_manager.drivers.virtualbox.settings import machine_uuid
from server_manager.drivers.virtualbox.states import MEANINGS
from tests.contract.rigs import make_spec

OFF_OR_ON = {"boot": PowerState.RUNNING, "resume": PowerState.RUNNING}
# Those in which the fake's machines have a session.
ON = ("running", "paused", "starting", "stopping", "gurumeditation")
SETTLED = ("poweroff", "aborted", "saved", "aborted-saved")


@pytest.fixture
def made(bench):
    spec = make_spec()
    bench.driver.create(spec)
    return spec.ref


@pytest.mark.parametrize("state", [*(s for s in MEANINGS if s != "inaccessible"), "dreaming"])
def test_get_and_servers_agree_on_every_state(bench, made, state):
    bench.put(machine_uuid(made), state=state)
    got = bench.driver.get(made)
    assert got.state is (MEANINGS[state].power if state in MEANINGS else PowerState.UNKNOWN)
    assert bench.driver.servers(made.lab) == (got,)
    bench.put(machine_uuid(made), state="poweroff")


@pytest.mark.parametrize("state", [*ON, *SETTLED])
def test_start(bench, made, state):
    bench.put(machine_uuid(made), state=state)
    what = MEANINGS[state].start
    if what == "refuse":
        with pytest.raises(Conflict):
            bench.driver.start(made)
        assert bench.driver.get(made).state is MEANINGS[state].power
    else:
        bench.driver.start(made)
        wanted = PowerState.STARTING if state == "starting" else PowerState.RUNNING
        assert bench.driver.get(made).state is wanted


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("state", [*ON, *SETTLED])
def test_stop(bench, made, state, force):
    bench.put(machine_uuid(made), state=state)
    bench.driver.stop(made, force=force)
    assert bench.driver.get(made).state is PowerState.STOPPED


def test_a_state_that_nobody_knows_is_not_meddled_with(bench, made):
    bench.put(machine_uuid(made), state="dreaming")
    with pytest.raises(DriverFailed, match="dreaming"):
        bench.driver.stop(made)
    with pytest.raises(DriverFailed):
        bench.driver.destroy(made)
    bench.put(machine_uuid(made), state="poweroff")


@pytest.mark.parametrize("state", [*ON, *SETTLED])
def test_destroy_leaves_nothing(bench, made, state):
    bench.put(machine_uuid(made), state=state)
    bench.driver.destroy(made)
    assert bench.driver.get(made).state is PowerState.ABSENT
    assert not (bench.root / "labs" / made.lab / "nodes" / made.name).exists()


def test_an_inaccessible_machine_is_an_error_and_can_be_destroyed(bench, made):
    with bench.world() as known:
        known.machines[machine_uuid(made)].file.unlink()
    assert bench.driver.get(made).state is PowerState.ERROR
    assert bench.driver.servers(made.lab)[0].state is PowerState.ERROR
    bench.driver.destroy(made)
    assert bench.driver.get(made).state is PowerState.ABSENT


def test_an_inaccessible_machine_of_others_disturbs_nobody(bench, made):
    vbox = bench.library.vbox
    vbox.change("createvm", "--name", "foreign", "--basefolder", str(bench.root), "--register")
    (bench.root / "foreign" / "foreign.vbox").unlink()
    assert bench.driver.servers(made.lab)[0].state is PowerState.STOPPED
    bench.driver.destroy(made)
    assert "foreign" not in bench.library.names().values()  # it has no name any more
    assert "<inaccessible>" in bench.library.names().values()
    with bench.world() as known:
        uuid = next(u for u, m in known.machines.items() if m.name == "foreign")
        del known.machines[uuid]
