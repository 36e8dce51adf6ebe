"""What VirtualBox does silently, or does wrong, is noticed and named."""

import socket
import threading

import pytest

from labcore.errors import Conflict, DriverFailed, LabError, TimedOut
from labcore.wire.lab import PowerState
from server_manager.drivers.base import Forward
from server_manager.drivers.virtualbox.settings import machine_uuid
from tests.contract.rigs import make_spec
from tests.contract.virtualbox_rigs import remains


@pytest.fixture
def spec():
    return make_spec()


@pytest.fixture
def made(bench, spec):
    bench.driver.create(spec)
    return spec.ref


def test_a_port_that_nobody_listens_on_is_named_with_its_holder(bench):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        spec = make_spec(host_port=port)
        bench.driver.create(spec)
        with pytest.raises(Conflict) as failure:
            bench.driver.start(spec.ref)
    assert f"port {port} is held by" in failure.value.message
    assert "pid" in failure.value.message
    assert bench.driver.get(spec.ref).state is PowerState.STOPPED  # it must not half serve
    bench.driver.start(spec.ref)  # the port is free again
    assert bench.driver.get(spec.ref).state is PowerState.RUNNING


def test_a_value_that_was_stored_otherwise_is_named(bench, spec):
    import dataclasses

    wrong = dataclasses.replace(spec, forwards=(Forward("sleeper", 70000, 5000),))
    with pytest.raises(DriverFailed, match="stored other settings") as failure:
        bench.driver.create(wrong)
    assert "4464" in failure.value.details[0]
    assert bench.driver.get(spec.ref).state is PowerState.ERROR  # half made
    bench.driver.create(spec)
    assert bench.driver.get(spec.ref).state is PowerState.STOPPED


def test_a_machine_that_dies_at_once_is_told_with_its_log(bench, made):
    bench.plan("startvm", "dies")
    with pytest.raises(DriverFailed, match="though VBoxManage says that it started") as failure:
        bench.driver.start(made)
    assert any(line.startswith("VBox.log | ") for line in failure.value.details)
    assert any("No bootable medium" in line for line in failure.value.details)
    assert bench.driver.get(made).problem == "its process ended by itself"


@pytest.mark.parametrize("what", ["svc-died", "error-at-0"])
def test_a_start_that_was_done_though_it_failed_is_a_start(bench, made, what):
    bench.plan("startvm", what)
    bench.driver.start(made)
    assert bench.driver.get(made).state is PowerState.RUNNING


def test_a_call_that_hangs_is_a_time_out_and_nothing_is_believed(bench, made):
    bench.plan("startvm", "hang")
    with pytest.raises(LabError):
        bench.driver.start(made)
    assert bench.driver.get(made).state is PowerState.STOPPED
    bench.plan("*", "hang", times=9)
    assert bench.driver.get(made).state is PowerState.UNKNOWN
    with pytest.raises(TimedOut):
        bench.driver.servers(made.lab)


@pytest.mark.parametrize("what", ["not-created", "busy", "warning", "german"])
def test_what_passes_by_itself_is_waited_for(bench, spec, what):
    bench.plan("*", what, times=3)
    bench.driver.create(spec)
    bench.driver.start(spec.ref)
    assert bench.driver.get(spec.ref).state is PowerState.RUNNING


def test_a_full_disk_is_told_with_advice(bench, spec):
    bench.plan("clonevm", "refused")
    with pytest.raises(DriverFailed, match="VERR_DISK_FULL") as failure:
        bench.driver.create(spec)
    assert "free some disk space" in failure.value.hint


STEPS = ("clonevm", "modifyvm", "storagectl", "storageattach", "setextradata")


@pytest.mark.parametrize("what", ["refused", "svc-died", "error-at-0", "skipped"])
@pytest.mark.parametrize("step", STEPS)
def test_after_a_failure_at_any_step_create_makes_it_whole(bench, spec, step, what):
    bench.plan(step, what)
    try:
        bench.driver.create(spec)
    except LabError:
        assert bench.driver.get(spec.ref).state in (PowerState.ERROR, PowerState.ABSENT)
        bench.driver.create(spec)
    bench.driver.start(spec.ref)
    assert bench.driver.get(spec.ref).state is PowerState.RUNNING


@pytest.mark.parametrize("step", STEPS)
def test_after_a_failure_at_any_step_destroy_leaves_nothing(bench, spec, step):
    bench.plan(step, "refused")
    with pytest.raises(LabError):
        bench.driver.create(spec)
    bench.driver.destroy(spec.ref)
    assert remains(bench.root / "labs", bench.library) == []
    assert not (bench.root / "labs" / "contract" / "nodes" / "agent-1").exists()


@pytest.mark.parametrize("step", ["controlvm", "unregistervm", "closemedium"])
@pytest.mark.parametrize("what", ["refused", "svc-died", "error-at-0"])
def test_after_a_failure_at_any_step_destroy_finishes_the_job(bench, spec, step, what):
    bench.driver.create(spec)
    bench.driver.start(spec.ref)
    bench.plan(step, what)
    try:
        bench.driver.destroy(spec.ref)
    except LabError:
        bench.driver.destroy(spec.ref)
    assert bench.driver.get(spec.ref).state is PowerState.ABSENT
    assert remains(bench.root / "labs", bench.library) == []


def test_a_folder_that_a_machine_left_behind_is_in_nobodys_way(bench, spec, made):
    bench.library.vbox.change("unregistervm", machine_uuid(made))  # by hand: its files stay
    assert bench.driver.get(made).state is PowerState.ABSENT
    bench.driver.create(spec)
    assert bench.driver.get(made).state is PowerState.STOPPED


def test_a_guest_that_does_not_hear_its_button_loses_its_power(bench, made):
    bench.driver.start(made)
    bench.plan("controlvm", "deaf")
    began = bench.clock.monotonic()
    bench.driver.stop(made)
    assert bench.driver.get(made).state is PowerState.STOPPED
    assert bench.clock.monotonic() - began >= 5  # the service's grace


def test_one_change_at_a_time_on_one_program(bench):
    """Twelve servers at once: the fake would refuse nothing, but its world would be torn."""
    specs = [make_spec(f"agent-{n}", host_port=18000 + n) for n in range(12)]
    threads = [threading.Thread(target=bench.driver.create, args=(spec,)) for spec in specs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bench.driver.servers("contract")) == 12
