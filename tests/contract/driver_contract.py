"""Every promise of server_manager/drivers/base.py, for every driver: inherit, give a `rig`."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from labcore.errors import Conflict, NotFound
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ConsoleLog, Pausing, ServerRef
from tests.contract.rigs import LAB, Rig, make_spec

NOBODY = ServerRef(LAB, "agent-9", "no-such-id")


class DriverContract:
    def test_it_can_be_used_here_and_says_what_it_is(self, rig: Rig):
        health = rig.driver.health()
        assert health.ok
        assert health.version
        assert rig.driver.capabilities() == rig.driver.capabilities()

    def test_create_makes_a_stopped_server(self, rig: Rig):
        spec = make_spec()
        rig.driver.create(spec)
        server = rig.driver.get(spec.ref)
        assert server.ref == spec.ref
        assert server.state is PowerState.STOPPED
        assert server.problem is None

    def test_a_server_has_an_address_for_each_viewer(self, rig: Rig):
        spec = make_spec(host_port=18007)
        rig.driver.create(spec)
        endpoints = rig.driver.get(spec.ref).endpoints
        assert endpoints["host"]["sleeper"] == "127.0.0.1:18007"
        assert "sleeper" in endpoints["node"]
        assert ("ssh" in endpoints["host"]) == (rig.driver.capabilities().access == "ssh")

    def test_create_again_with_the_same_spec_does_nothing(self, rig: Rig):
        spec = make_spec()
        ref = rig.running(spec)
        rig.driver.create(dataclasses.replace(spec))
        assert rig.driver.get(ref).state is PowerState.RUNNING

    def test_create_again_with_other_ports_takes_them_over(self, rig: Rig):
        rig.driver.create(make_spec(host_port=18007))
        moved = make_spec(host_port=18099)
        rig.driver.create(moved)
        ref = rig.running(moved)
        assert rig.driver.get(ref).endpoints["host"]["sleeper"] == "127.0.0.1:18099"

    @pytest.mark.parametrize(
        "other",
        [dataclasses.replace(make_spec(), cpus=2.0), make_spec(secrets={"agent-token": "another"})],
        ids=["size", "secret"],
    )
    def test_create_again_with_another_spec_is_a_conflict(self, rig: Rig, other):
        spec = make_spec()
        rig.driver.create(spec)
        with pytest.raises(Conflict) as refusal:
            rig.driver.create(other)
        assert refusal.value.hint
        rig.driver.create(spec)  # the first one is as it was

    def test_start_begins_booting_and_may_be_called_again(self, rig: Rig):
        spec = make_spec()
        rig.driver.create(spec)
        rig.driver.start(spec.ref)
        assert rig.driver.get(spec.ref).state in (PowerState.STARTING, PowerState.RUNNING)
        rig.driver.start(spec.ref)
        rig.wait_for(spec.ref, PowerState.RUNNING)
        rig.driver.start(spec.ref)
        assert rig.driver.get(spec.ref).state is PowerState.RUNNING

    def test_what_does_not_exist_cannot_be_started(self, rig: Rig):
        with pytest.raises(NotFound):
            rig.driver.start(NOBODY)

    @pytest.mark.parametrize("force", [False, True])
    def test_stop_powers_off_and_may_be_called_again(self, rig: Rig, force):
        ref = rig.running(make_spec())
        rig.driver.stop(ref, force=force)
        server = rig.wait_for(ref, PowerState.STOPPED)
        assert server.problem is None  # it was told to
        rig.driver.stop(ref, force=force)
        assert rig.driver.get(ref).state is PowerState.STOPPED

    def test_a_stopped_server_starts_again(self, rig: Rig):
        ref = rig.running(make_spec())
        rig.driver.stop(ref)
        rig.driver.start(ref)
        rig.wait_for(ref, PowerState.RUNNING)

    @pytest.mark.parametrize("force", [False, True])
    def test_stop_of_the_absent_does_nothing(self, rig: Rig, force):
        rig.driver.stop(NOBODY, force=force)
        assert rig.driver.get(NOBODY).state is PowerState.ABSENT

    def test_destroy_removes_a_running_server(self, rig: Rig):
        spec = make_spec()
        ref = rig.running(spec)
        rig.driver.destroy(ref)
        assert rig.driver.get(ref).state is PowerState.ABSENT
        assert rig.driver.servers(LAB) == ()
        rig.driver.destroy(ref)
        rig.driver.create(spec)
        assert rig.driver.get(ref).state is PowerState.STOPPED

    def test_the_absent_is_absent(self, rig: Rig):
        server = rig.driver.get(NOBODY)
        assert server.ref == NOBODY
        assert server.state is PowerState.ABSENT
        rig.driver.destroy(NOBODY)

    def test_servers_are_those_of_the_lab(self, rig: Rig):
        mine = [make_spec("agent-2"), make_spec("agent-1"), make_spec("control")]
        for spec in (*mine, make_spec("agent-1", lab="other")):
            rig.driver.create(spec)
        assert [s.ref for s in rig.driver.servers(LAB)] == sorted(
            (spec.ref for spec in mine), key=lambda ref: ref.name
        )
        assert rig.driver.servers("nothing") == ()

    def test_another_id_is_another_server(self, rig: Rig):
        ref = rig.running(make_spec())
        twin = make_spec(identity="twin")
        assert rig.driver.get(twin.ref).state is PowerState.ABSENT
        with pytest.raises(Conflict):
            rig.driver.create(twin)
        with pytest.raises(NotFound):
            rig.driver.start(twin.ref)
        rig.driver.stop(twin.ref, force=True)
        rig.driver.destroy(twin.ref)
        assert rig.driver.get(ref).state is PowerState.RUNNING

    def test_different_servers_at_the_same_time(self, rig: Rig):
        specs = [make_spec(f"agent-{i}", host_port=18000 + i) for i in range(1, 5)]
        with ThreadPoolExecutor(len(specs)) as pool:
            refs = list(pool.map(rig.running, specs))
            assert {s.state for s in rig.driver.servers(LAB)} == {PowerState.RUNNING}
            list(pool.map(rig.driver.stop, refs[:2]))
            list(pool.map(rig.driver.destroy, refs[2:]))
        assert [(s.ref, s.state) for s in rig.driver.servers(LAB)] == [
            (ref, PowerState.STOPPED) for ref in refs[:2]
        ]

    def test_pause_and_resume(self, rig: Rig):
        driver = pausing(rig)
        ref = rig.running(make_spec())
        for _ in range(2):
            driver.pause(ref)
            assert rig.driver.get(ref).state is PowerState.PAUSED
        for _ in range(2):
            driver.resume(ref)
            assert rig.driver.get(ref).state is PowerState.RUNNING

    def test_start_resumes_a_paused_server(self, rig: Rig):
        driver = pausing(rig)
        ref = rig.running(make_spec())
        driver.pause(ref)
        rig.driver.start(ref)
        rig.wait_for(ref, PowerState.RUNNING)

    @pytest.mark.parametrize("force", [False, True])
    def test_a_paused_server_can_be_stopped(self, rig: Rig, force):
        driver = pausing(rig)
        ref = rig.running(make_spec())
        driver.pause(ref)
        rig.driver.stop(ref, force=force)
        assert rig.driver.get(ref).state is PowerState.STOPPED

    def test_a_paused_server_can_be_destroyed(self, rig: Rig):
        driver = pausing(rig)
        ref = rig.running(make_spec())
        driver.pause(ref)
        rig.driver.destroy(ref)
        assert rig.driver.get(ref).state is PowerState.ABSENT

    def test_what_is_off_can_be_neither_paused_nor_resumed(self, rig: Rig):
        driver = pausing(rig)
        spec = make_spec()
        rig.driver.create(spec)
        for call in (driver.pause, driver.resume):
            with pytest.raises(Conflict):
                call(spec.ref)
            with pytest.raises(NotFound):
                call(NOBODY)
        assert rig.driver.get(spec.ref).state is PowerState.STOPPED

    def test_the_log_of_a_service(self, rig: Rig):
        can = rig.driver.capabilities()
        if not can.console_log or can.access != "local":
            pytest.skip("has no log of its services on this machine")
        driver = cast(ConsoleLog, rig.driver)
        ref = rig.running(make_spec())
        rig.note_log(ref, f"up {ref.name}")
        rig.wait_for_line(ref, "sleeper", f"up {ref.name}")
        assert driver.console_log(ref, "sleeper", 0) == ()
        assert f"sleeper | up {ref.name}" in driver.console_log(ref, None, 50)
        with pytest.raises(NotFound):
            driver.console_log(ref, "../../server", 5)
        with pytest.raises(NotFound):
            driver.console_log(NOBODY, "sleeper", 5)

    def test_what_a_guest_prints_while_it_boots(self, rig: Rig):
        can = rig.driver.capabilities()
        if not can.console_log or can.access != "ssh":
            pytest.skip("is no guest")
        driver = cast(ConsoleLog, rig.driver)
        ref = rig.running(make_spec())
        assert len(driver.console_log(ref, None, 1000)) > 1
        with pytest.raises(NotFound):
            driver.console_log(ref, "../../server", 5)
        with pytest.raises(NotFound):
            driver.console_log(NOBODY, None, 5)


def pausing(rig: Rig) -> Pausing:
    if not rig.driver.capabilities().pause:
        pytest.skip("cannot pause")
    return cast(Pausing, rig.driver)
