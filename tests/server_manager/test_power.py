"""Single servers: a person's wishes, the scaler's work, faults."""

import dataclasses
import functools
import threading
from collections.abc import Callable

import pytest

from labcore.clock import FakeClock, SystemClock
from labcore.errors import Conflict, DriverFailed, Forbidden, NotFound, TimedOut, UsageProblem
from labcore.wire.lab import Desired, PowerState, Wanted
from server_manager.drivers.base import DriverServer, ServerRef, ServerSpec
from server_manager.drivers.fake import CAPABILITIES, Failure, FakeDriver
from server_manager.executors import Threads
from tests.server_manager.parts import Parts, make_parts


def on(parts: Parts, name: str, *, by_scaler: bool = False) -> None:
    parts.manager.power.on(parts.manager.power.find(name), by_scaler=by_scaler)


def off(parts: Parts, name: str, *, by_scaler: bool = False) -> None:
    parts.manager.power.off(parts.manager.power.find(name), by_scaler=by_scaler)


def standby(parts: Parts, name: str) -> None:
    parts.manager.power.standby(parts.manager.power.find(name))


def pause_standby(parts: Parts, name: str) -> None:
    parts.manager.power.pause_standby(parts.manager.power.find(name))


def act(parts: Parts, name: str, action: str) -> None:
    parts.manager.power.act(parts.manager.power.find(name), action)


def fixed(**fields: object) -> dict[str, object]:
    """A lab file whose agents have a fixed size."""
    groups = [{"name": "control", "role": "control"}, {"name": "agent", "count": 2}]
    return {"groups": groups, "scaling": None, **fields}


class Meddled(FakeDriver):
    """Right after the next call of an operation something else happens."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.meddle: dict[str, Callable[[], None]] = {}

    def create(self, spec: ServerSpec) -> None:
        super().create(spec)
        self.meddle.pop("create", lambda: None)()

    def start(self, ref: ServerRef) -> None:
        self.meddle.pop("before start", lambda: None)()
        super().start(ref)

    def servers(self, lab: str) -> tuple[DriverServer, ...]:
        told = super().servers(lab)
        self.meddle.pop("servers", lambda: None)()
        return told

    def stop(self, ref: ServerRef, *, force: bool = False) -> None:
        super().stop(ref, force=force)
        self.meddle.pop("stop", lambda: None)()

    def destroy(self, ref: ServerRef) -> None:
        super().destroy(ref)
        self.meddle.pop("destroy", lambda: None)()


def test_a_lab_is_told_as_it_was_at_one_moment(tmp_path):
    """Asking a driver takes a while, and a person may turn something on meanwhile."""
    clock = FakeClock()
    driver = Meddled(clock)
    parts = make_parts(tmp_path, driver=driver, clock=clock)
    parts.up(scaling={"min": 2, "max": 4})
    driver.meddle["servers"] = lambda: on(parts, "agent-3")
    lab = parts.manager.lab("demo")
    group = lab.group("agent")
    assert group is not None
    assert group.desired_count == sum(s.wanted is Wanted.ON for s in lab.members("agent"))
    assert parts.count() == 3


class TestAPerson:
    def test_on_waits_for_room_while_one_drains(self, parts):
        """Standby nodes have numbers too, so that there are more of them than may run."""
        groups = [{"name": "control", "role": "control"}, {"name": "agent", "count": 3}]
        parts.up(scaling={"min": 1, "max": 3, "standby": 1}, groups=groups)
        parts.manager.set_group("demo", "agent", 2, None)  # the scaler has not turned one off yet
        with pytest.raises(Conflict, match="maximum"):
            on(parts, "agent-4")
        assert parts.count() == 2
        parts.manager.power.off(parts.manager.power.find("agent-3"), by_scaler=True)
        on(parts, "agent-4")
        assert parts.count() == 3

    def test_on_counts_what_is_wanted_off_but_still_runs(self, parts):
        groups = [{"name": "control", "role": "control"}, {"name": "agent", "count": 3}]
        parts.up(scaling={"min": 1, "max": 3, "standby": 1}, groups=groups)
        parts.core.servers.want(parts.core.servers.get("demo", "agent-3"), Wanted.OFF)
        parts.manager.set_group("demo", "agent", 2, None)
        with pytest.raises(Conflict, match="maximum"):
            on(parts, "agent-4", by_scaler=True)
        on(parts, "agent-3")  # itself it may come back
        assert parts.states()["agent-3"] == "running"

    def test_on_creates_the_agent_and_raises_the_count(self, parts):
        parts.up()
        on(parts, "agent-3")
        assert parts.states()["agent-3"] == "running"
        assert parts.count() == 3

    def test_on_moves_a_port_that_was_taken_while_it_was_off(self, parts):
        parts.up()
        parts.busy_ports.add(5003)
        on(parts, "agent-3")
        (agent,) = (s for s in parts.manager.lab("demo").servers if s.name == "agent-3")
        assert agent.endpoints["host"]["metrics"] == "127.0.0.1:5103"
        assert agent.endpoints["host"]["app"] != "127.0.0.1:5003"
        (told,) = (e for e in parts.core.events.after(0, "demo", 100_000) if e.kind == "port")
        assert (told.node, told.data["service"], told.data["wanted"]) == ("agent-3", "app", 5003)

    def test_up_moves_a_port_that_was_taken_while_the_lab_was_down(self, parts):
        parts.up()
        parts.manager.down("demo")
        parts.busy_ports.add(8080)
        parts.up()
        lab = parts.manager.lab("demo")
        assert lab.state == "up"
        assert lab.load_balancer_url != "http://127.0.0.1:8080"
        assert parts.made("destroy") == []

    def test_on_again_changes_nothing(self, parts):
        parts.up()
        on(parts, "agent-3")
        on(parts, "agent-3")
        assert parts.count() == 3
        assert parts.made("create").count(("create", "agent-3")) == 1

    def test_on_above_the_maximum_is_refused_and_names_it(self, parts):
        parts.up(scaling={"min": 2, "max": 2, "standby": 1})
        with pytest.raises(Conflict, match="maximum of 2"):
            on(parts, "agent-3")
        assert "agent-3" not in parts.states()
        assert parts.count() == 2

    def test_off_below_the_minimum_is_refused(self, parts):
        parts.up()
        with pytest.raises(Conflict, match="minimum of 2"):
            off(parts, "agent-2")
        assert parts.wanted()["agent-2"] == "on"

    def test_off_waits_for_the_scaler_to_drain(self, tmp_path):
        clock = ScalerClock()
        parts = make_parts(tmp_path, clock=clock)
        parts.up()
        on(parts, "agent-3")
        clock.then = lambda: off(parts, "agent-3", by_scaler=True)
        off(parts, "agent-3")
        assert parts.states()["agent-3"] == "stopped"
        assert parts.count() == 2
        parts.core.database.close()

    def test_off_that_the_scaler_does_not_carry_out_times_out_and_stays_wished(self, parts):
        parts.up()
        on(parts, "agent-3")
        with pytest.raises(TimedOut, match="drain and turn off demo/agent-3: not within 60 s"):
            off(parts, "agent-3")
        assert parts.wanted()["agent-3"] == "off"
        assert parts.count() == 2

    def test_off_needs_a_scaler_that_lives(self, parts):
        parts.up()
        on(parts, "agent-3")
        parts.clock.advance(15.5)
        with pytest.raises(Conflict, match="does not answer") as caught:
            off(parts, "agent-3")
        assert "labctl up repairs it" in caught.value.hint
        assert (parts.wanted()["agent-3"], parts.count()) == ("on", 3)
        parts.manager.power.heard_from_scaler("demo")
        parts.driver.die("demo", "agent-3")
        off(parts, "agent-3")
        assert parts.count() == 2

    def test_off_of_a_fixed_group_is_immediate_and_up_turns_it_on_again(self, parts):
        parts.up(**fixed())
        off(parts, "agent-2")
        off(parts, "control")
        assert parts.states() == {"control": "stopped", "agent-1": "running", "agent-2": "stopped"}
        parts.up(**fixed())
        assert set(parts.states().values()) == {"running"}

    def test_on_is_refused_while_the_lab_is_down(self, parts):
        parts.up()
        parts.manager.down("demo")
        with pytest.raises(Conflict, match="not to be up"):
            on(parts, "agent-1")
        off(parts, "agent-1")
        assert parts.states()["agent-1"] == "stopped"

    def test_on_that_the_driver_fails_stays_wished(self, parts):
        parts.up()
        parts.driver.fail("create", node="agent-3")
        with pytest.raises(DriverFailed, match="create agent-3 failed"):
            on(parts, "agent-3")
        assert parts.wanted()["agent-3"] == "on"


class ScalerClock(FakeClock):
    """Calls `then` once when somebody waits, as a scaler in another process would act."""

    then: Callable[[], None] | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.then is not None:
            then, self.then = self.then, None
            then()


class TestTheScaler:
    def test_on_makes_what_is_wished_but_changes_no_wish(self, parts):
        parts.up()
        on(parts, "agent-3", by_scaler=True)
        assert parts.states()["agent-3"] == "running"
        assert parts.count() == 2

    def test_on_heals_a_killed_one(self, parts):
        parts.up()
        act(parts, "agent-1", "kill")
        assert parts.states()["agent-1"] == "stopped"
        on(parts, "agent-1", by_scaler=True)
        assert parts.states()["agent-1"] == "running"

    def test_never_more_than_maximum_and_standby(self, parts):
        parts.up(scaling={"min": 2, "max": 2, "standby": 1})
        with pytest.raises(Conflict, match="maximum of 2"):
            on(parts, "agent-3", by_scaler=True)
        standby(parts, "agent-3")
        with pytest.raises(NotFound):
            standby(parts, "agent-4")

    def test_what_is_lost_is_replaced_under_a_new_name(self, parts):
        parts.up(scaling={"min": 2, "max": 2})
        parts.driver.tell("demo", "agent-1", PowerState.LOST)
        on(parts, "agent-3", by_scaler=True)
        assert parts.states()["agent-3"] == "running"

    def test_a_lost_one_that_is_back_and_dead_has_no_room_beside_its_substitute(self, parts):
        parts.up(scaling={"min": 1, "max": 2})
        on(parts, "agent-2", by_scaler=True)
        parts.driver.tell("demo", "agent-1", PowerState.LOST)
        on(parts, "agent-3", by_scaler=True)
        parts.driver.tell("demo", "agent-1", PowerState.ERROR)
        with pytest.raises(Conflict, match="maximum of 2"):
            on(parts, "agent-1", by_scaler=True)
        off(parts, "agent-3", by_scaler=True)
        on(parts, "agent-1", by_scaler=True)
        assert parts.states()["agent-1"] == "running"

    def test_off_not_below_the_minimum(self, parts):
        parts.up()
        on(parts, "agent-3", by_scaler=True)
        off(parts, "agent-3", by_scaler=True)
        with pytest.raises(Conflict, match="minimum"):
            off(parts, "agent-2", by_scaler=True)
        assert parts.states() == {
            "control": "running",
            "agent-1": "running",
            "agent-2": "running",
            "agent-3": "stopped",
        }

    def test_may_turn_off_a_lost_one_at_the_minimum(self, parts):
        """It does not count, so that nothing becomes less."""
        parts.up(scaling={"min": 2, "max": 4})
        parts.driver.tell("demo", "agent-1", PowerState.LOST)
        on(parts, "agent-3", by_scaler=True)
        with pytest.raises(DriverFailed, match="agent-1 is lost"):
            off(parts, "agent-1", by_scaler=True)
        assert parts.wanted()["agent-1"] == "off"

    def test_does_not_start_what_is_turned_off_while_it_is_made(self, tmp_path):
        clock = FakeClock()
        driver = Meddled(clock)
        parts = make_parts(tmp_path, driver=driver, clock=clock)
        parts.up(scaling={"min": 1, "max": 3})

        def turn_off() -> None:
            parts.core.servers.want(parts.core.servers.get("demo", "agent-3"), Wanted.OFF)

        driver.meddle["create"] = turn_off
        on(parts, "agent-3", by_scaler=True)
        assert parts.states()["agent-3"] == "stopped"

    def test_there_is_no_room_while_one_that_is_to_go_still_boots(self, tmp_path):
        clock = FakeClock()
        driver = Meddled(clock)
        parts = make_parts(tmp_path, driver=driver, clock=clock)
        groups = [{"name": "control", "role": "control"}, {"name": "agent", "count": 1}]
        parts.up(scaling={"min": 1, "max": 2, "standby": 1}, groups=groups)

        def turn_off_and_another_on() -> None:
            parts.core.servers.want(parts.core.servers.get("demo", "agent-2"), Wanted.OFF)
            with pytest.raises(Conflict, match="maximum"):
                on(parts, "agent-3", by_scaler=True)

        driver.meddle["before start"] = turn_off_and_another_on
        on(parts, "agent-2", by_scaler=True)
        assert driver.meddle == {}

    def test_removal_may_be_for_good(self, parts):
        parts.up(scaling={"min": 1, "max": 3, "removal": "destroy"}, groups=GROUPS_OF_TWO)
        off(parts, "agent-2", by_scaler=True)
        assert sorted(parts.states()) == ["agent-1", "control"]
        assert [s.ref.name for s in parts.driver.servers("demo")] == ["agent-1", "control"]

    @pytest.mark.parametrize("moment", ["stop", "destroy"])
    def test_removes_nothing_for_good_that_a_person_wants_again(self, tmp_path, moment):
        clock = FakeClock()
        driver = Meddled(clock)
        parts = make_parts(tmp_path, driver=driver, clock=clock)
        parts.up(scaling={"min": 1, "max": 3, "removal": "destroy"}, groups=GROUPS_OF_TWO)
        parts.manager.set_group("demo", "agent", 1, None)
        row = parts.core.servers.get("demo", "agent-2")
        # Written at once; the start itself waits for what is being done to the server.
        driver.meddle[moment] = lambda: parts.core.servers.want(row, Wanted.ON)
        off(parts, "agent-2", by_scaler=True)
        on(parts, "agent-2")
        assert parts.states()["agent-2"] == "running"

    @pytest.mark.parametrize("lie", ["stop", "destroy"])
    def test_does_not_believe_a_driver_that_says_done_and_did_nothing(self, parts, lie):
        parts.up(scaling={"min": 1, "max": 3, "removal": "destroy"}, groups=GROUPS_OF_TWO)
        parts.driver.fail(lie, Failure.SKIPPED, node="agent-2")
        with pytest.raises(DriverFailed, match=f"its {lie} seemed to succeed"):
            off(parts, "agent-2", by_scaler=True)
        assert "agent-2" in parts.states()  # not forgotten
        off(parts, "agent-2", by_scaler=True)
        assert [s.ref.name for s in parts.driver.servers("demo")] == ["agent-1", "control"]

    def test_may_not_turn_off_control(self, parts):
        parts.up()
        with pytest.raises(Forbidden):
            off(parts, "control", by_scaler=True)

    @pytest.mark.parametrize("wish", [Desired.DOWN, Desired.DESTROYED])
    def test_may_do_nothing_unless_the_lab_is_to_be_up(self, parts, wish):
        parts.up()
        parts.manager.runs.write(parts.core.labs.get("demo"), wish)
        with pytest.raises(Conflict, match="not to be up"):
            on(parts, "agent-3", by_scaler=True)
        with pytest.raises(Conflict, match="not to be up"):
            off(parts, "agent-2", by_scaler=True)


GROUPS_OF_TWO = [{"name": "control", "role": "control"}, {"name": "agent", "count": 2}]


class TestStandby:
    """Booted, paused, ready: wanted neither on nor off."""

    @pytest.fixture
    def parts(self, parts: Parts) -> Parts:
        parts.up(scaling={"min": 2, "max": 3, "standby": 1})
        return parts

    def test_it_is_made_booted_and_paused_and_changes_no_count(self, parts):
        standby(parts, "agent-3")
        assert parts.states()["agent-3"] == "running"
        pause_standby(parts, "agent-3")
        standby(parts, "agent-3")
        assert parts.states()["agent-3"] == "paused"
        assert parts.wanted()["agent-3"] == "standby"
        assert parts.count() == 2
        assert parts.manager.lab("demo").state == "up"

    def test_on_resumes_it_and_makes_room_for_the_next(self, parts):
        standby(parts, "agent-3")
        pause_standby(parts, "agent-3")
        on(parts, "agent-3", by_scaler=True)
        assert (parts.states()["agent-3"], parts.wanted()["agent-3"]) == ("running", "on")
        assert parts.made("create", "start", "resume").count(("start", "agent-3")) == 1
        standby(parts, "agent-4")
        assert parts.states()["agent-4"] == "running"

    def test_no_more_than_the_lab_file_says(self, parts):
        standby(parts, "agent-3")
        with pytest.raises(Conflict, match="keeps 1 standby nodes"):
            standby(parts, "agent-4")
        assert "agent-4" not in parts.states()

    def test_only_a_standby_is_paused_for_the_scaler(self, parts):
        with pytest.raises(Conflict, match="demo/agent-1 is wanted on"):
            pause_standby(parts, "agent-1")
        assert parts.states()["agent-1"] == "running"

    def test_one_that_serves_may_become_standby_but_not_below_the_minimum(self, parts):
        on(parts, "agent-3", by_scaler=True)
        standby(parts, "agent-3")
        assert (parts.states()["agent-3"], parts.wanted()["agent-3"]) == ("running", "standby")
        off(parts, "agent-3", by_scaler=True)
        with pytest.raises(Conflict, match="minimum"):
            standby(parts, "agent-2")
        assert parts.wanted()["agent-2"] == "on"

    def test_the_scaler_turns_it_off_and_a_person_does_not(self, parts):
        standby(parts, "agent-3")
        with pytest.raises(Conflict, match="is a standby node"):
            off(parts, "agent-3")
        with pytest.raises(Conflict, match="is a standby node"):
            parts.manager.power.delete(parts.manager.power.find("agent-3"))
        off(parts, "agent-3", by_scaler=True)
        assert (parts.states()["agent-3"], parts.wanted()["agent-3"]) == ("stopped", "off")

    def test_a_dead_one_is_booted_again(self, parts):
        standby(parts, "agent-3")
        act(parts, "agent-3", "kill")
        assert parts.manager.lab("demo").state == "up"
        standby(parts, "agent-3")
        assert parts.states()["agent-3"] == "running"

    def test_down_and_up_leave_it_off_until_the_scaler_sees_to_it(self, parts):
        standby(parts, "agent-3")
        pause_standby(parts, "agent-3")
        parts.manager.down("demo")
        assert parts.states()["agent-3"] == "stopped"
        for change in (standby, pause_standby):
            with pytest.raises(Conflict, match="not to be up"):
                change(parts, "agent-3")
        parts.up(scaling={"min": 2, "max": 3, "standby": 1})
        assert parts.states()["agent-3"] == "stopped"

    def test_an_up_with_a_higher_minimum_takes_it_first(self, parts):
        standby(parts, "agent-3")
        pause_standby(parts, "agent-3")
        parts.up(scaling={"min": 3, "max": 3, "standby": 1})
        assert parts.wanted()["agent-3"] == "on"
        assert parts.states()["agent-3"] == "running"

    def test_destroy_leaves_nothing(self, parts):
        standby(parts, "agent-3")
        pause_standby(parts, "agent-3")
        parts.manager.destroy("demo")
        assert parts.driver.servers("demo") == ()


def test_a_driver_that_cannot_pause_refuses_standby(tmp_path):
    clock = FakeClock()
    cannot = dataclasses.replace(CAPABILITIES, pause=False)
    parts = make_parts(tmp_path, driver=FakeDriver(clock, capabilities=cannot), clock=clock)
    with pytest.raises(UsageProblem, match="standby nodes, but driver 'fake' cannot pause"):
        parts.up(scaling={"standby": 1})
    assert parts.manager.labs() == ()
    parts.up()
    parts.core.database.close()


class TestFaults:
    def test_kill_changes_no_wish(self, parts):
        parts.up()
        act(parts, "agent-1", "kill")
        assert (parts.wanted()["agent-1"], parts.count()) == ("on", 2)
        assert str(parts.manager.lab("demo").state) == "degraded"

    def test_pause_and_resume(self, parts):
        parts.up()
        act(parts, "agent-1", "pause")
        assert parts.states()["agent-1"] == "paused"
        act(parts, "agent-1", "resume")
        assert parts.states()["agent-1"] == "running"

    def test_pausing_what_is_off_is_a_conflict(self, parts):
        parts.up()
        act(parts, "agent-1", "kill")
        with pytest.raises(Conflict, match="is off"):
            act(parts, "agent-1", "pause")

    def test_a_fault_of_a_driver_is_told_as_one(self, parts, monkeypatch):
        parts.up()

        def broken(ref, *, force=False):
            raise ZeroDivisionError

        monkeypatch.setattr(parts.driver, "stop", broken)
        with pytest.raises(DriverFailed, match="ZeroDivisionError"):
            act(parts, "agent-1", "kill")
        assert parts.core.journal.entries()[-1].state == "failed"

    def test_delete_only_what_is_not_wanted(self, parts):
        parts.up(**fixed())
        target = parts.manager.power.find("agent-2")
        with pytest.raises(Conflict, match="wanted on"):
            parts.manager.power.delete(target)
        off(parts, "agent-2")
        parts.manager.power.delete(target)
        assert "agent-2" not in parts.states()


class TestNames:
    def test_a_name_in_several_labs_must_say_which(self, parts):
        parts.up("one")
        parts.up("two")
        with pytest.raises(Conflict, match="several labs") as caught:
            parts.manager.power.find("agent-1")
        assert caught.value.hint == "say which: one/agent-1, two/agent-1"
        assert parts.manager.power.find("two/agent-1").lab.name == "two"

    @pytest.mark.parametrize(
        "name", ["agent-6", "agent-0", "agent", "", "/", "no/agent-1", "x/y/z"]
    )
    def test_what_no_lab_may_have_is_not_found(self, parts, name):
        parts.up()
        with pytest.raises(NotFound):
            parts.manager.power.find(name)

    def test_a_scaler_may_not_name_another_lab(self, parts):
        parts.up("one")
        parts.up("two")
        with pytest.raises(Forbidden):
            parts.manager.power.find("two/agent-1", "one")


class TestSideBySide:
    def test_one_server_one_operation_at_a_time(self, tmp_path):
        """Ten threads turn the same two servers on and kill them: no two calls on one overlap."""
        driver = Watching(SystemClock())
        parts = make_parts(tmp_path, driver=driver, executor=Threads(), clock=FakeClock())
        lab = parts.core.labs.add(spec_of(parts), "now")
        for group in lab.spec.groups:
            parts.core.ports.lease(lab.spec, group, 1, 0, ssh=False)
        servers = [parts.core.servers.add("demo", "agent", i, f"agent-{i}") for i in (1, 2)]
        operations = parts.manager.operations

        def task(number: int) -> None:
            server = servers[number % 2]
            if number % 3:
                operations.ensure_on(lab, server)
            else:
                operations.power_off(lab, server, force=True)

        errors = Threads().gather([functools.partial(task, number) for number in range(30)])
        assert errors == ()
        assert driver.overlapped is False
        assert driver.most_at_once == 2
        assert all(entry.state == "done" for entry in parts.core.journal.entries())
        parts.core.database.close()


def spec_of(parts: Parts):
    from server_manager.labspec import from_file

    return from_file({"lab": "demo", "driver": "fake"}, "demo")


class Watching(FakeDriver):
    """Notes calls that are made at the same time; calls on two servers wait for one another."""

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.overlapped, self.most_at_once = False, 0
        self._inside: list[str] = []
        self._note = threading.Condition()

    def _watched(self, name: str, call) -> None:
        with self._note:
            self.overlapped |= name in self._inside
            self._inside.append(name)
            self.most_at_once = max(self.most_at_once, len(self._inside))
            self._note.notify_all()
            self._note.wait_for(lambda: self.most_at_once > 1, timeout=2.0)
        call()
        with self._note:
            self._inside.remove(name)

    def start(self, ref) -> None:
        self._watched(ref.name, lambda: super(Watching, self).start(ref))

    def stop(self, ref, *, force: bool = False) -> None:
        self._watched(ref.name, lambda: super(Watching, self).stop(ref, force=force))

    def create(self, spec) -> None:
        self._watched(spec.ref.name, lambda: super(Watching, self).create(spec))
