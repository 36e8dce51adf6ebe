"""A whole lab: up, again, changed, down, gone; with failures on the way."""

import pytest

from labcore.clock import FakeClock
from labcore.errors import Conflict, DriverUnusable, NotFound, UsageProblem
from labcore.wire.lab import Desired, LabElsewhere, LabState, PowerState, Wanted
from server_manager.drivers.base import DriverHealth, Stray
from server_manager.drivers.fake import Failure, FakeDriver
from tests.server_manager.parts import LAB, make_parts


def test_up_makes_control_and_the_first_agents_and_tells_every_gate(parts):
    run = parts.up()
    lab = parts.manager.lab("demo")
    assert lab.state is LabState.UP
    assert parts.states() == {"control": "running", "agent-1": "running", "agent-2": "running"}
    assert lab.load_balancer_url == "http://127.0.0.1:8080"
    assert lab.scaler_url == "http://127.0.0.1:5200"
    events = parts.core.events.after(run, "demo", 1000)
    gates = [(e.node, e.data["gate"]) for e in events if e.kind == "gate"]
    own = ["created", "booted", "healthy"]
    assert [gate for node, gate in gates if node == "control"] == own
    for agent in ("agent-1", "agent-2"):
        assert [gate for node, gate in gates if node == agent] == [*own, "serving"]
    assert events[-1].data == {"run": run, "state": "up"}


def test_a_second_up_keeps_what_runs_and_its_count(parts):
    parts.up()
    parts.manager.power.on(parts.manager.power.find("agent-3"), by_scaler=False)
    parts.driver.die("demo", "control")
    before = len(parts.made("create"))
    parts.up()
    assert parts.states()["control"] == "running"
    assert parts.count() == 3
    assert len(parts.made("create")) == before


def test_a_server_in_error_is_destroyed_and_made_again(parts):
    parts.up()
    parts.driver.tell("demo", "agent-1", PowerState.ERROR)
    assert parts.manager.lab("demo").state is LabState.DEGRADED
    parts.up()
    assert parts.made("destroy", "create")[-2:] == [("destroy", "agent-1"), ("create", "agent-1")]
    assert parts.states()["agent-1"] == "running"


@pytest.mark.parametrize("wish", ["up", "destroy"])
def test_what_is_unknown_is_neither_made_nor_removed(parts, wish):
    parts.up()
    parts.driver.fail("get", node="agent-1", times=1000)
    before = parts.made("create", "destroy", "start")
    parts.up() if wish == "up" else parts.manager.destroy("demo")
    lab = parts.manager.lab("demo")
    assert lab.state is LabState.FAILED
    assert "agent-1 is unknown" in (lab.problem or "")
    assert lab.members("agent")[0].state is PowerState.UNKNOWN
    touched = [node for _, node in parts.made("create", "destroy", "start")[len(before) :]]
    assert "agent-1" not in touched


def test_a_failed_driver_call_is_told_and_the_next_up_goes_on(parts):
    parts.driver.fail("create", node="agent-2")
    run = parts.up()
    lab = parts.manager.lab("demo")
    assert lab.state is LabState.FAILED
    assert lab.problem == "create agent-2 failed"
    assert [s.problem for s in lab.members("agent")] == [None, "create agent-2 failed"]
    problems = [e for e in parts.core.events.after(run, "demo", 1000) if e.kind == "problem"]
    assert [(e.node, e.data["code"]) for e in problems] == [("agent-2", "driver-failed")]
    parts.up()
    assert parts.manager.lab("demo").state is LabState.UP
    assert parts.manager.lab("demo").members("agent")[1].problem is None


def test_a_server_that_dies_while_it_boots_ends_the_run_with_its_log(parts):
    parts.driver.set_boot("demo", "agent-1", 10.0)
    parts.driver.fail("start", Failure.SKIPPED, node="agent-1")
    parts.up()
    lab = parts.manager.lab("demo")
    assert lab.state is LabState.FAILED
    assert "demo/agent-1 is stopped" in (lab.problem or "")


def test_a_node_that_never_gets_healthy_times_out_by_name(parts):
    parts.prober.sick.add("127.0.0.1:5102")
    parts.up()
    problem = parts.manager.lab("demo").problem or ""
    assert problem == "demo/agent-2 to be healthy: not within 60 s; last seen: " + (
        "127.0.0.1:5102 is sick"
    )


def test_up_waits_until_the_wanted_agents_are_in_rotation(parts):
    parts.prober.unrouted.add("agent-2")
    parts.up()
    assert "not in rotation: agent-2" in (parts.manager.lab("demo").problem or "")


def test_up_waits_until_a_request_is_answered(parts):
    parts.prober.refusal = "502"
    parts.up()
    assert "last seen: 502" in (parts.manager.lab("demo").problem or "")


def test_down_powers_off_and_up_starts_the_same_servers(parts):
    parts.up()
    ids = {s.name: s.id for s in parts.core.servers.of("demo")}
    parts.manager.down("demo")
    assert set(parts.states().values()) == {"stopped"}
    assert parts.manager.lab("demo").state is LabState.DOWN
    parts.up()
    assert parts.manager.lab("demo").state is LabState.UP
    assert {s.name: s.id for s in parts.core.servers.of("demo")} == ids


def test_destroy_leaves_nothing_behind_but_the_news(parts):
    parts.up()
    folder = parts.core.paths.lab("demo")
    assert folder.exists()
    parts.manager.destroy("demo")
    assert parts.driver.servers("demo") == ()
    assert not folder.exists()
    assert parts.core.labs.all() == ()
    assert parts.core.servers.of() == ()
    assert parts.core.journal.entries() == ()
    assert parts.core.database.rows("SELECT * FROM leases") == []
    assert parts.ends()[-1] == "destroyed"
    assert list(parts.core.secrets.principals().values()) == ["admin"]


def test_destroy_goes_on_past_a_failure_and_ends_the_next_time(parts):
    parts.up()
    parts.driver.fail("destroy", node="agent-1")
    parts.manager.destroy("demo")
    assert parts.ends()[-1] == "failed"
    assert [s.ref.name for s in parts.driver.servers("demo")] == ["agent-1"]
    with pytest.raises(Conflict, match="destroyed"):
        parts.up()
    with pytest.raises(Conflict, match="half destroyed"):
        parts.manager.down("demo")
    parts.manager.destroy("demo")
    assert parts.ends()[-1] == "destroyed"


def test_destroy_leaves_what_is_lost_says_what_to_do_and_ends_when_it_is_back(parts):
    parts.up()
    parts.driver.tell("demo", "agent-1", PowerState.LOST)
    run = parts.manager.destroy("demo")
    (told,) = (e for e in parts.core.events.after(run, "demo", 100) if e.kind == "problem")
    assert "agent-1 is lost" in told.message
    assert told.data["hint"] == "tell it to be found again"
    assert [s.ref.name for s in parts.driver.servers("demo")] == ["agent-1"]
    parts.driver.tell("demo", "agent-1", None)
    parts.manager.destroy("demo")
    assert parts.driver.servers("demo") == ()
    assert parts.ends() == ["up", "failed", "destroyed"]


def test_a_new_lab_of_an_old_name_has_a_history_of_its_own(parts):
    parts.up()
    parts.manager.destroy("demo")
    run = parts.up()
    assert parts.core.events.after(0, "demo", 1)[0].seq == run


def test_what_can_change_changes_and_keeps_the_count(parts):
    parts.up(scaling={"min": 2, "max": 5})
    parts.manager.set_group("demo", "agent", 4, "manual")
    parts.up(scaling={"min": 1, "max": 8})
    group = parts.manager.lab("demo").group("agent")
    assert (group.desired_count, group.mode, group.scaling.max) == (4, "manual", 8)
    assert parts.core.ports.of("demo", "agent-8")["app"] == 5008
    parts.up(scaling={"min": 1, "max": 3, "mode": "auto"})
    assert parts.count() == 3


def test_a_raised_minimum_adds_servers(parts):
    parts.up()
    parts.up(scaling={"min": 4, "max": 5})
    assert sorted(parts.states()) == ["agent-1", "agent-2", "agent-3", "agent-4", "control"]
    assert parts.count() == 4


def test_the_mode_changes_only_if_the_file_says_another_one(parts):
    parts.up(scaling={"mode": "auto"})
    parts.manager.set_group("demo", "agent", None, "manual")
    parts.up(scaling={"mode": "auto"})
    assert parts.manager.lab("demo").group("agent").mode == "manual"
    parts.up(scaling={"mode": "manual"})
    parts.up(scaling={"mode": "auto"})
    assert parts.manager.lab("demo").group("agent").mode == "auto"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"groups": [{"name": "control", "role": "control"}]}, "group agent is removed"),
        (
            {"groups": [{"name": "control", "role": "control"}, {"name": "agent", "cpus": 2.0}]},
            "group agent: cpus differs",
        ),
        ({"app": {"command": "serve"}}, "app differs"),
        ({"scaling": None}, "group agent: scaling"),
    ],
)
def test_what_cannot_change_is_refused_and_changes_nothing(parts, fields, problem):
    parts.up()
    before = parts.core.labs.get("demo")
    with pytest.raises(Conflict, match=problem) as caught:
        parts.up(**fields)
    assert "labctl destroy" in caught.value.hint
    assert parts.core.labs.get("demo") == before


def test_a_lab_may_not_change_its_driver(parts):
    parts.up()
    parts.core.drivers.names = ("fake", "local")
    with pytest.raises(Conflict, match="driver: fake -> local"):
        parts.up(driver="local")


def test_a_driver_that_cannot_be_used_is_told_before_anything_is_written(parts):
    parts.driver.usable = DriverHealth(False, reason="no nginx", fix="install nginx")
    with pytest.raises(DriverUnusable, match="no nginx") as caught:
        parts.up()
    assert caught.value.hint == "install nginx"
    assert parts.core.labs.all() == ()


@pytest.mark.parametrize(
    "data", [None, [], {"lab": "other"}, {"driver": "auto"}, {"groups": "x"}, {"lab": "Demo"}]
)
def test_a_lab_file_that_cannot_be_used_is_refused(parts, data):
    with pytest.raises(UsageProblem):
        parts.manager.put("demo", data)
    assert parts.core.labs.all() == ()


def test_an_unknown_lab_is_not_found(parts):
    for call in (parts.manager.down, parts.manager.destroy, parts.manager.cancel):
        with pytest.raises(NotFound, match="no lab 'nope'"):
            call("nope")


def test_the_plan_says_what_up_would_do(parts):
    assert [(s.node, s.action) for s in parts.manager.plan("demo", LAB)] == [
        ("control", "create"),
        ("agent-1", "create"),
        ("agent-2", "create"),
    ]
    parts.up()
    parts.driver.die("demo", "agent-1")
    parts.driver.tell("demo", "agent-2", PowerState.UNKNOWN)
    steps = {s.node: s.action for s in parts.manager.plan("demo")}
    assert steps == {"control": "keep", "agent-1": "start", "agent-2": "leave"}


def test_labs_are_shifted_by_a_thousand_and_a_free_slot_is_used_again(parts):
    parts.up("one")
    parts.up("two")
    assert parts.manager.lab("two").load_balancer_url == "http://127.0.0.1:9080"
    parts.manager.destroy("one")
    parts.up("three")
    assert parts.manager.lab("three").load_balancer_url == "http://127.0.0.1:8080"


def test_a_wish_that_a_crash_interrupted_is_finished(tmp_path):
    first = make_parts(tmp_path)
    first.up()
    lab = first.core.labs.get("demo")
    run = first.manager.runs.write(lab, Desired.DESTROYED)
    first.core.database.close()

    second = make_parts(tmp_path, driver=first.driver, clock=first.clock)
    second.manager.recover()
    assert second.driver.servers("demo") == ()
    assert second.core.events.after(run.number, "demo", 1000)[-1].data["state"] == "destroyed"
    second.core.database.close()


def test_a_single_operation_that_a_crash_interrupted_is_finished(tmp_path):
    first = make_parts(tmp_path)
    first.up()
    row = first.core.servers.add("demo", "agent", 3, "agent-3")
    first.core.journal.begin("demo", row.name, "create")
    first.core.database.close()

    second = make_parts(tmp_path, driver=first.driver, clock=first.clock)
    second.manager.recover()
    assert second.states()["agent-3"] == "running"
    assert all(entry.state != "begun" for entry in second.core.journal.entries())
    second.core.database.close()


@pytest.mark.parametrize(
    ("operation", "state"), [("pause", "running"), ("start", "running"), ("stop", "stopped")]
)
def test_what_a_person_turned_off_is_drained_by_the_scaler_after_a_crash_too(
    tmp_path, operation, state
):
    first = make_parts(tmp_path)
    first.up()
    row = first.core.servers.get("demo", "agent-2")
    first.core.servers.want(row, Wanted.OFF)
    first.core.journal.begin("demo", row.name, operation)
    first.core.database.close()

    second = make_parts(tmp_path, driver=first.driver, clock=first.clock)
    second.manager.recover()
    assert second.states()["agent-2"] == state
    second.core.database.close()


class TestRoom:
    def test_up_wants_nobody_beside_one_that_still_leaves(self, parts):
        """The scaler makes the other one when that is off (simulation, seed 3896)."""
        scaling = {"min": 1, "max": 2, "standby": 1}
        parts.up(scaling=scaling)
        parts.manager.power.on(parts.manager.power.find("agent-2", "demo"), by_scaler=True)
        servers = parts.core.servers
        servers.want(servers.get("demo", "agent-1"), Wanted.OFF)  # and it runs still
        parts.manager.set_group("demo", "agent", 2, None)
        parts.up(scaling=scaling)
        assert parts.wanted() == {"control": "on", "agent-1": "off", "agent-2": "on"}

    def test_up_starts_no_more_than_there_is_room_for(self, parts):
        """A lost one that is back, and broken, beside its substitute: lower numbers go first."""
        groups = [{"name": "control", "role": "control"}, {"name": "agent", "count": 2}]
        parts.up(scaling={"min": 1, "max": 2}, groups=groups)
        parts.driver.tell("demo", "agent-1", PowerState.LOST)
        target = parts.manager.power.find("agent-3", "demo")
        parts.manager.power.on(target, by_scaler=True)
        parts.driver.tell("demo", "agent-1", PowerState.ERROR)
        parts.up(scaling={"min": 1, "max": 2}, groups=groups)
        assert parts.states() == {
            "control": "running",
            "agent-1": "error",
            "agent-2": "running",
            "agent-3": "running",
        }


class Shared(FakeDriver):
    """A back end in which others have labs too."""

    answers = True

    def strays(self, labs):
        if not self.answers:
            raise DriverUnusable("it does not answer")
        theirs = [lab for lab in ("demo", "annas") if lab not in labs]
        return tuple(Stray(f"{lab}-{i}", lab, "") for lab in theirs for i in range(3))


def test_labs_of_others_are_told_once_and_while_their_back_end_answers(tmp_path):
    clock = FakeClock()
    driver = Shared(clock)
    parts = make_parts(tmp_path, driver=driver, clock=clock)
    assert parts.manager.view.elsewhere() == ()  # no lab here uses it
    parts.up()
    parts.up("second")
    assert parts.manager.view.elsewhere() == (LabElsewhere("annas", "fake", 3),)
    driver.answers = False
    assert parts.manager.view.elsewhere() == ()
