"""What doctor makes of machines that this one is not."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labctl.diagnosis import budget, clocks, virtualbox
from labctl.diagnosis.check import Check
from labctl.diagnosis.facts import Facts, read_facts
from server_manager import labfile
from server_manager.drivers.virtualbox.advice import NO_ADVICE, advise
from server_manager.paths import StatePaths

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINUX = Facts(release="6.1.0-18-amd64", free_disk_mib=100_000, free_memory_mib=16_000)
WINDOWS = Facts(system="Windows", machine="AMD64", vboxdrv=False, hypervisor_present="False")
MAC = Facts(system="Darwin", machine="arm64", vboxdrv=False)
SNAIL = "00:00:02.6 NEM: NEMR3Init: Snail execution mode is active!"


def found(facts: Facts, version: str = "7.2.6") -> dict[str, Check]:
    drivers = [Check("driver virtualbox", "ok", f"VirtualBox {version}r170000")]
    return {check.name: check for check in virtualbox.examine(facts, drivers)}


def test_a_linux_that_is_fit() -> None:
    assert [check.verdict for check in found(LINUX).values()] == ["ok"]


def test_nothing_is_said_of_virtualbox_where_there_is_none() -> None:
    missing = [Check("driver virtualbox", "bad", "VBoxManage is not on PATH")]
    for drivers in (missing, []):
        assert list(virtualbox.examine(dataclasses.replace(LINUX, vboxdrv=False), drivers)) == []


def test_a_kernel_driver_that_is_not_loaded() -> None:
    check = found(dataclasses.replace(LINUX, vboxdrv=False))["virtualbox kernel driver"]
    assert check.verdict == "warning"
    assert "vboxconfig" in check.fix


@pytest.mark.parametrize(
    ("release", "kvm", "at_load", "told"),
    [
        ("6.12.0", ("kvm_intel",), "Y", True),
        ("6.18.1-arch1-1", ("kvm_amd",), "", True),
        ("6.12.0", ("kvm_intel",), "N", False),
        ("6.12.0", (), "Y", False),
        ("6.11.9", ("kvm_intel",), "", False),
        ("5.15.0-91-generic", ("kvm_intel",), "", False),
        ("not-a-version", ("kvm_intel",), "", False),
    ],
)
def test_kvm_that_holds_the_processor(
    release: str, kvm: tuple[str, ...], at_load: str, told: bool
) -> None:
    facts = dataclasses.replace(LINUX, release=release, kvm=kvm, virt_at_load=at_load)
    check = found(facts).get("virtualbox and kvm")
    assert (check is not None) == told
    assert check is None or "rmmod kvm" in check.fix


@pytest.mark.parametrize(
    ("present", "logs", "verdict", "says"),
    [
        ("True", (), "warning", "Windows says"),
        ("False", ("all is well",), "ok", "off"),
        ("False", ("", f"a\n{SNAIL}\nb"), "warning", "snail"),
        ("", (SNAIL,), "warning", "snail"),
    ],
)
def test_hyper_v(present: str, logs: tuple[str, ...], verdict: str, says: str) -> None:
    facts = dataclasses.replace(WINDOWS, hypervisor_present=present, vbox_logs=logs)
    checks = found(facts)
    assert set(checks) == {"virtualbox and hyper-v"}
    check = checks["virtualbox and hyper-v"]
    assert (check.verdict, says in check.text) == (verdict, True)
    assert verdict == "ok" or "bcdedit" in check.fix


def test_a_windows_that_says_nothing_is_not_guessed_at() -> None:
    assert found(dataclasses.replace(WINDOWS, hypervisor_present="")) == {}


@pytest.mark.parametrize(
    ("facts", "version", "verdict"),
    [
        (MAC, "7.0.20", "bad"),
        (MAC, "7.1.0", None),
        (dataclasses.replace(MAC, machine="x86_64"), "7.0.20", None),
        (WINDOWS, "7.2.0", "warning"),
        (WINDOWS, "7.2.3", "warning"),
        (WINDOWS, "7.2.4", None),
        (WINDOWS, "7.2.22", None),
        (WINDOWS, "7.3.0", "warning"),
        (WINDOWS, "8.0.0", "warning"),
    ],
)
def test_versions_of_virtualbox(facts: Facts, version: str, verdict: str | None) -> None:
    check = found(facts, version).get("virtualbox version")
    assert (check.verdict if check else None) == verdict
    assert check is None or (version in check.text and check.fix)


def test_a_version_that_cannot_be_used_is_told_with_its_reason() -> None:
    drivers = [Check("driver virtualbox", "bad", "VirtualBox 7.0.8 cannot start here")]
    (check,) = virtualbox.examine(MAC, drivers)
    assert "Apple silicon" in check.text


def test_advice_is_for_the_host_it_is_given_on() -> None:
    said = "VBoxManage: error: VT-x is being used (VERR_VMX_IN_VMX_ROOT_MODE)"
    assert "rmmod" in advise(said, "Linux")
    assert "rmmod" not in advise(said, "Darwin")
    assert "bcdedit" in advise(SNAIL, "Windows")
    assert advise(SNAIL, "Linux") == NO_ADVICE
    assert advise("never heard of", "Linux") == NO_ADVICE


def small(**changes: object) -> labfile.LabFile:
    return labfile.validate({"lab": "demo", "driver": "virtualbox", **changes})


@pytest.mark.parametrize(
    ("free_mib", "verdict"), [(16_000, "ok"), (3_000, "warning"), (1_000, "bad")]
)
def test_memory_for_the_lab_as_machines(free_mib: int, verdict: str) -> None:
    check = budget.memory(dataclasses.replace(LINUX, free_memory_mib=free_mib), small())
    assert check.verdict == verdict
    assert "1746 MiB at first and 3492 MiB at its largest" in check.text
    assert bool(check.fix) == (verdict != "ok")


def test_disk_for_the_lab_as_machines() -> None:
    assert budget.disk(LINUX, small()).verdict == "ok"
    check = budget.disk(dataclasses.replace(LINUX, free_disk_mib=2_000), small())
    assert (check.verdict, "3000 MiB" in check.text) == ("warning", True)


@pytest.mark.parametrize(
    ("driver", "usable", "names"),
    [
        ("virtualbox", False, ["memory", "disk of the lab"]),
        ("auto", True, ["memory", "disk of the lab"]),
        ("auto", False, []),
        ("local", True, []),
    ],
)
def test_only_machines_need_memory_of_their_own(
    here: Path, driver: str, usable: bool, names: list[str]
) -> None:
    (here / "lab.yaml").write_text(f"lab: demo\ndriver: {driver}\n")
    drivers = [Check("driver virtualbox", "ok" if usable else "bad", "")]
    assert [check.name for check in budget.examine(LINUX, drivers)] == names


@pytest.mark.parametrize(
    ("most", "remote", "verdicts"),
    [(5, "null", ["ok"]), (30, "local", ["warning"]), (30, "far", [])],
)
def test_many_containers_need_more_inotify_instances(
    here: Path, most: int, remote: str, verdicts: list[str]
) -> None:
    text = f"lab: demo\ndriver: incus\nincus: {{remote: {remote}}}\nscaling: {{max: {most}}}\n"
    (here / "lab.yaml").write_text(text)
    facts = dataclasses.replace(LINUX, inotify_instances=128)
    found = list(budget.examine(facts, []))
    assert [check.verdict for check in found] == verdicts
    assert all("max_user_instances=1024" in c.fix for c in found if c.verdict == "warning")
    assert list(budget.examine(LINUX, [])) == []  # where the limit is not known


def test_a_lab_file_that_is_wrong_is_a_finding(here: Path) -> None:
    (here / "lab.yaml").write_text("lab: Demo\n")
    (check,) = budget.examine(LINUX, [])
    assert (check.name, check.verdict) == ("lab file", "bad")


@pytest.mark.parametrize(
    ("facts", "now", "verdict"),
    [
        (LINUX, NOW, "ok"),
        (LINUX, datetime(1970, 1, 1, tzinfo=UTC), "bad"),
        (dataclasses.replace(LINUX, synchronized="no"), NOW, "warning"),
        (dataclasses.replace(LINUX, synchronized="yes"), NOW, "ok"),
        (dataclasses.replace(LINUX, newest_file=NOW + timedelta(hours=1)), NOW, "warning"),
        (dataclasses.replace(LINUX, newest_file=NOW - timedelta(hours=1)), NOW, "ok"),
    ],
)
def test_the_clock(facts: Facts, now: datetime, verdict: str) -> None:
    assert [check.verdict for check in clocks.examine(facts, now)] == [verdict]


def test_reading_this_machine_harms_nothing(tmp_path: Path) -> None:
    log = tmp_path / "labs/demo/nodes/agent-1/Logs/VBox.log"
    log.parent.mkdir(parents=True)
    log.write_text(SNAIL)
    (tmp_path / "manager.log").write_text("")
    facts = read_facts(StatePaths(tmp_path))
    assert facts.vbox_logs == (SNAIL,)
    assert facts.newest_file is not None
    assert facts.free_disk_mib > 0
    assert read_facts(StatePaths(tmp_path / "none")).vbox_logs == ()
