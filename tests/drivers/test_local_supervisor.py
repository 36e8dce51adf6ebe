"""A supervisor and its services, as real processes."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from labcore import commands
from labcore.clock import SystemClock
from labcore.errors import DriverFailed, UsageProblem
from labcore.services import Service
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerRef
from server_manager.drivers.local import driver as local_driver
from server_manager.drivers.local.driver import LocalDriver
from server_manager.drivers.local.plan import MARK
from server_manager.drivers.local.processes import Marks, kill, members
from tests.contract.rigs import LAB, Rig, local_rig, make_spec, marked
from tests.ending import has_ended

pytestmark = pytest.mark.local
CLOCK = SystemClock()
SLEEP = ("sleep", "3600")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with local_rig(tmp_path) as made:
        yield made


def eventually(probe: Callable[[], object], name: str) -> object:
    """The first true answer of `probe`, within 20 s."""

    def asked() -> object:
        answer = probe()
        if not answer:
            raise NotYet
        return answer

    return wait_until(asked, name=name, limit_s=20, clock=CLOCK, interval_s=0.01)


def directory(rig: Rig, ref: ServerRef) -> Path:
    found = rig.driver.get(ref).directory
    assert found is not None
    return found


def processes(ref: ServerRef) -> list[psutil.Process]:
    return marked(lambda mark: mark == ref.id)


def supervisor(ref: ServerRef) -> psutil.Process:
    # A child that it has just forked still looks like it, but leads no session.
    (found,) = (
        p
        for p in processes(ref)
        if "-m" in p.cmdline() and p.cmdline()[-1][0] == "/" and os.getsid(p.pid) == p.pid
    )
    return found


def child(ref: ServerRef, argv: tuple[str, ...] = SLEEP) -> psutil.Process:
    """The service's process, when it runs what it should."""

    def look() -> psutil.Process | None:
        found = (p for p in processes(ref) if tuple(p.cmdline()) == argv)
        return next(found, None)

    found = eventually(look, f"{' '.join(argv)} runs")
    assert isinstance(found, psutil.Process)
    return found


def lines(rig: Rig, ref: ServerRef, service: str) -> tuple[str, ...]:
    assert isinstance(rig.driver, LocalDriver)
    return rig.driver.console_log(ref, service, 100)


def test_a_killed_service_is_started_again(rig: Rig):
    ref = rig.running(make_spec(services=(Service("app", SLEEP),)))
    first = child(ref)
    first.kill()
    eventually(lambda: has_ended(first.pid), "the first is gone")
    assert child(ref).pid != first.pid
    assert rig.driver.get(ref).state is PowerState.RUNNING
    assert any("it ended with signal 9; it is started again" in x for x in lines(rig, ref, "app"))


def test_what_is_left_of_a_service_is_killed_before_it_starts_again(rig: Rig):
    leaves_one = Service("app", ("sh", "-c", "sleep 3600 & exec sleep 60"))
    ref = rig.running(make_spec(services=(leaves_one,)))
    orphan, first = child(ref), child(ref, ("sleep", "60"))
    first.kill()
    eventually(lambda: has_ended(orphan.pid), "the orphan is gone")
    assert child(ref).pid != orphan.pid


def test_a_server_without_its_supervisor_is_stopped_and_says_why(rig: Rig):
    ref = rig.running(make_spec())
    supervisor(ref).kill()
    server = rig.wait_for(ref, PowerState.STOPPED)
    assert server.problem == "its supervisor ended by itself"
    assert [s.state for s in rig.driver.servers(LAB)] == [PowerState.STOPPED]


def test_what_outlives_its_supervisor_is_gone_at_the_next_start(rig: Rig):
    deaf = Service("app", ("sh", "-c", "trap '' TERM; sleep 3600"), stop_grace_s=0.1)
    ref = rig.running(make_spec(services=(deaf,)))
    survivor = child(ref)
    supervisor(ref).kill()
    rig.wait_for(ref, PowerState.STOPPED)
    assert not has_ended(survivor.pid)
    rig.driver.start(ref)
    assert has_ended(survivor.pid)
    assert child(ref).pid != survivor.pid
    assert rig.driver.get(ref).problem is None


def test_what_outlives_its_supervisor_is_gone_after_a_stop(rig: Rig):
    deaf = Service("app", ("sh", "-c", "trap '' TERM; sleep 3600"), stop_grace_s=0.1)
    ref = rig.running(make_spec(services=(deaf,)))
    child(ref)
    supervisor(ref).kill()
    rig.driver.stop(ref)
    assert processes(ref) == []
    assert rig.driver.get(ref).problem is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a death")
def test_services_end_when_their_supervisor_dies(rig: Rig):
    ref = rig.running(make_spec(services=(Service("app", SLEEP),)))
    service = child(ref)
    supervisor(ref).kill()
    eventually(lambda: has_ended(service.pid), "the service is gone")


def test_a_process_that_left_session_and_group_is_found(rig: Rig):
    code = "import os, time\nif os.fork() == 0: os.setsid(); os.chdir('/')\ntime.sleep(3600)"
    argv = (sys.executable, "-c", code)
    ref = rig.running(make_spec(services=(Service("app", argv),)))
    eventually(lambda: len(processes(ref)) == 3, "supervisor, service and the one that left")
    rig.driver.stop(ref)
    assert processes(ref) == []


def test_services_start_and_stop_in_order(rig: Rig, tmp_path: Path):
    def noting(name: str, *after: str) -> Service:
        told = f"echo {name} stops >> {tmp_path}/story; exit 0"
        story = f"echo {name} starts >> {tmp_path}/story; trap '{told}' TERM"
        script = f"{story}; while :; do sleep 0.02; done"
        return Service(name, ("sh", "-c", script), after=after)

    ref = rig.running(make_spec(services=(noting("c", "b"), noting("a"), noting("b", "a", "x"))))
    story = tmp_path / "story"
    eventually(lambda: story.exists() and story.read_text().count("starts") == 3, "all started")
    rig.driver.stop(ref)
    told = story.read_text().splitlines()
    assert sorted(told[:3]) == ["a starts", "b starts", "c starts"]
    assert told[3:] == ["c stops", "b stops", "a stops"]
    story.unlink()


def test_a_stop_uses_the_services_own_signal_and_kills_the_deaf_after_their_grace(rig: Rig):
    quits = (
        "trap 'echo quits; exit 0' QUIT; trap 'echo terminated' TERM; while :; do sleep 0.02; done"
    )
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.02; done"
    services = (
        Service(
            "nginx",
            ("sh", "-c", "echo up; " + quits),
            stop_signal=signal.SIGQUIT,
            stop_grace_s=60.0,
        ),
        Service("deaf", ("sh", "-c", deaf), stop_grace_s=0.3),
    )
    ref = rig.running(make_spec(services=services))
    rig.wait_for_line(ref, "nginx", "up")
    rig.wait_for_line(ref, "deaf", "deaf")
    before = CLOCK.monotonic()
    rig.driver.stop(ref)
    assert 0.3 <= CLOCK.monotonic() - before < 60.0  # it heard its own signal
    assert lines(rig, ref, "nginx") == ("up", "quits")
    assert processes(ref) == []


def test_services_get_a_clean_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    app = Service("app", ("sh", "-c", "env; exec sleep 3600"), env={"COLOUR": "blue", MARK: "no"})
    ref = rig.running(make_spec(services=(app,)))
    child(ref)
    given = dict(line.split("=", 1) for line in lines(rig, ref, "app"))
    shell_adds = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(given) - shell_adds == {
        *("PATH", "HOME", "LANG", "COLOUR", MARK, "LABCTL_LAB", "LABCTL_NODE", "LABCTL_REGION")
    }
    assert given[MARK] == ref.id
    assert given["HOME"] == given["PWD"] == str(directory(rig, ref) / "app")


def test_a_paused_server_does_nothing_and_goes_on_with_the_same_processes(rig: Rig):
    ref = rig.running(make_spec(services=(Service("app", SLEEP),)))
    assert isinstance(rig.driver, LocalDriver)
    pids = {child(ref).pid, supervisor(ref).pid}
    rig.driver.pause(ref)
    assert {p.status() for p in processes(ref)} == {psutil.STATUS_STOPPED}
    rig.driver.resume(ref)
    assert {p.pid for p in processes(ref)} == pids
    eventually(
        lambda: psutil.STATUS_STOPPED not in {p.status() for p in processes(ref)}, "all go on"
    )


def test_force_kills_without_a_word(rig: Rig):
    told = Service(
        "app", ("sh", "-c", "trap 'echo told; exit' TERM; echo up; while :; do sleep 0.02; done")
    )
    ref = rig.running(make_spec(services=(told,)))
    rig.wait_for_line(ref, "app", "up")
    rig.driver.stop(ref, force=True)
    assert lines(rig, ref, "app") == ("up",)
    assert processes(ref) == []


def test_another_process_with_the_recycled_pid_is_not_ours(rig: Rig, tmp_path: Path):
    ref = rig.running(make_spec())
    folder = directory(rig, ref)
    supervisor(ref).kill()
    rig.wait_for(ref, PowerState.STOPPED)
    foreign = psutil.Process(
        commands.spawn_detached(SLEEP, log=tmp_path / "log", env={MARK: "someone"}, cwd=folder)
    )
    (folder / "supervisor.json").write_text(f'{{"pid": {foreign.pid}}}')
    try:
        assert rig.driver.get(ref).state is PowerState.STOPPED
        rig.driver.start(ref)
        rig.wait_for(ref, PowerState.RUNNING)
        rig.driver.stop(ref)
        assert not has_ended(foreign.pid)
    finally:
        foreign.kill()
    (tmp_path / "log").unlink()


def test_what_a_supervisor_leaves_is_found_while_it_is_still_ending(tmp_path: Path, monkeypatch):
    """Killed but no zombie yet: its memory is gone, and its mark and command line with it."""
    script = f"cd {tmp_path}; env -i sleep 3600 & echo $!; wait"
    log = tmp_path / "log"
    leader = commands.spawn_detached(("sh", "-c", script), log=log, env={}, cwd=tmp_path)
    eventually(lambda: log.read_text().endswith("\n"), "its child runs")
    real = {name: getattr(psutil.Process, name) for name in ("environ", "cmdline")}
    for name, nothing in (("environ", {}), ("cmdline", [])):

        def read(self: psutil.Process, name: str = name, nothing: object = nothing) -> object:
            return nothing if self.pid == leader else real[name](self)

        monkeypatch.setattr(psutil.Process, name, read)
    orphan = int(log.read_text())
    try:
        marks = Marks("demo-agent-1-1", tmp_path, session=leader)
        assert orphan in {process.pid for process in members(marks)}
        kill(marks, CLOCK)
        assert has_ended(leader)
        assert has_ended(orphan)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def test_only_processes_with_the_mark_are_touched(rig: Rig, tmp_path: Path):
    ref = rig.running(make_spec())
    folder = directory(rig, ref)
    log = tmp_path / "log"
    foreign = [
        psutil.Process(commands.spawn_detached(argv, log=log, env=env, cwd=cwd))
        for argv, env, cwd in (
            (SLEEP, {}, folder / "logs"),  # somebody's shell that reads the logs
            (SLEEP, {MARK: ref.id + "0"}, tmp_path),
            (("sh", "-c", f"sleep 3600 # {folder} {ref.id}"), {}, tmp_path),
        )
    ]
    try:
        rig.driver.pause(ref)  # type: ignore[attr-defined]
        assert psutil.STATUS_STOPPED not in {p.status() for p in foreign}
        rig.driver.destroy(ref)
        assert not any(has_ended(p.pid) for p in foreign)
    finally:
        for process in foreign:
            commands.kill_group(process.pid)
    log.unlink()


def test_a_supervisor_that_cannot_start_says_what_it_printed(rig: Rig, monkeypatch):
    monkeypatch.setattr(local_driver, "SUPERVISOR_MODULE", "no_such_module")
    spec = make_spec()
    rig.driver.create(spec)
    with pytest.raises(DriverFailed, match="agent-1 ended at once") as failure:
        rig.driver.start(spec.ref)
    assert "no_such_module" in failure.value.details[-1]
    assert rig.driver.get(spec.ref).state is PowerState.STOPPED


def test_a_bad_spec_leaves_nothing_behind(rig: Rig, tmp_path: Path):
    circle = (Service("a", SLEEP, after=("b",)), Service("b", SLEEP, after=("a",)))
    with pytest.raises(UsageProblem):
        rig.driver.create(make_spec(services=circle))
    assert list(tmp_path.iterdir()) == []


def test_destroy_leaves_neither_process_nor_file(rig: Rig, tmp_path: Path):
    ref = rig.running(make_spec())
    rig.driver.destroy(ref)
    assert processes(ref) == []
    assert [p for p in tmp_path.rglob("*") if p.name != "nodes" and p.name != LAB] == []


def test_the_folder_is_for_its_owner_only(rig: Rig):
    ref = rig.running(make_spec())
    folder = directory(rig, ref)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secrets" / "agent-token").stat().st_mode & 0o777 == 0o600
    assert "t0p" not in "".join(f.read_text() for f in folder.glob("*.json"))


def test_a_supervisor_imports_only_what_it_needs():
    """One runs for each server: 15 MB and 0.1 s, of which Python itself is 9 MB and 0.02 s."""
    code = (
        "import sys, server_manager.drivers.local.supervisor\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    result = commands.run((sys.executable, "-I", "-c", code), timeout_s=30.0).check("import")
    ours = {"__main__", "labcore", "server_manager"}
    assert {name for name in result.stdout.split() if not name.startswith("_")} <= ours
