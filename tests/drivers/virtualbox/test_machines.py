"""What VBoxManage 7.2.22 really printed is understood."""

import json
from pathlib import Path

import pytest

from server_manager.drivers.virtualbox import states
from server_manager.drivers.virtualbox.bindings import WORDS
from server_manager.drivers.virtualbox.machines import (
    SHORT,
    Medium,
    Rule,
    parse_extradata,
    parse_info,
    parse_long_list,
    parse_media,
    parse_pairs,
    parse_short_list,
)

RECORDED = Path(__file__).parent / "recorded-7.2.22"
BASE, CONTROL, AGENT = (
    "72bc2dd8-e36d-4f28-91b6-3ccb0cde5d94",
    "4efd6151-88b1-4480-83e9-d1f0a822865a",
    "222ac607-b876-472d-8c0d-2dcc0dbd2119",
)


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text()


def test_a_running_machine():
    machine = parse_info(recorded("showvminfo-running"))
    assert (machine.name, machine.uuid, machine.state) == ("agent1", AGENT, "running")
    assert machine.settings == "/home/student/VirtualBox VMs/agent1/agent1.vbox"
    assert machine.log_folder == "/home/student/VirtualBox VMs/agent1/Logs"
    assert machine.controller == "SATA"
    assert machine.snapshot is None
    assert machine.rules == (
        Rule("app", "tcp", "127.0.0.1", 5001, 5000),
        Rule("metrics", "tcp", "127.0.0.1", 5101, 5100),
        Rule("ssh", "tcp", "127.0.0.1", 2224, 22),
    )


@pytest.mark.parametrize("state", ["poweroff", "saved"])
def test_the_state_of_others(state):
    assert parse_info(recorded(f"showvminfo-{state}")).state == state


def test_the_snapshot_that_a_machine_stands_on():
    machine = parse_info(recorded("showvminfo-base-snapshots"))
    assert machine.snapshot == "0043d44f-1369-4131-b093-7a731408a761"


def test_odd_lines_do_not_hide_others():
    pairs = parse_pairs(recorded("showvminfo-running"))
    assert pairs["VideoMode"] == '"720,400,0"@0,0 1'
    assert pairs["VRDEClients"] == "=0"
    assert pairs["SATA-0-0"].endswith(".vdi")
    assert pairs["memory"] == "500"


def test_a_description_cannot_pose_as_a_state():
    info = recorded("showvminfo-running") + 'description="x\nVMState="poweroff"\n"'
    assert parse_info(info).state == "running"


def test_what_is_no_machine():
    with pytest.raises(ValueError, match="UUID"):
        parse_info("WARNING\n")


def test_the_long_list_says_the_same_as_each_machine():
    machines = parse_long_list(recorded("list-long-vms"))
    assert [(m.name, m.uuid, m.state) for m in machines][:3] == [
        ("base", BASE, "poweroff"),
        ("control", CONTROL, "running"),
        ("agent1", AGENT, "running"),
    ]
    running = parse_info(recorded("showvminfo-running"))
    listed = next(m for m in machines if m.uuid == AGENT)
    assert (listed.settings, listed.log_folder) == (running.settings, running.log_folder)


def test_an_inaccessible_machine_in_a_list():
    text = recorded("list-long-vms") + (
        "Name:            <inaccessible!>\n"
        "UUID:            d64ab911-e752-48c0-89ff-fe83bca434e0\n"
        "Config file:     /x/vm.vbox\nEncryption:     disabled\nAccess error details:\n\n"
    )
    last = parse_long_list(text)[-1]
    assert (last.uuid, last.state) == ("d64ab911-e752-48c0-89ff-fe83bca434e0", "inaccessible")
    assert last.settings == "/x/vm.vbox"


def test_no_machines_at_all():
    assert parse_long_list("") == ()
    assert parse_short_list("") == {}
    assert parse_media("") == ()


def test_the_short_list():
    assert parse_short_list(recorded("list-vms"))[AGENT] == "agent1"


def test_media_and_their_parents():
    media = parse_media(recorded("list-hdds"))
    assert len(media) == 6
    base = "f661226d-9474-4264-91a4-1741e1376296"
    assert media[0] == Medium(base, None, "/home/student/base.vdi")
    assert media[1].parent == base


def test_extradata():
    text = "Key: labctl/lab, Value: demo\nKey: GUI/x, Value: a, Value: b\n"
    assert parse_extradata(text) == {"labctl/lab": "demo", "GUI/x": "a, Value: b"}


def test_every_state_in_a_list_has_a_meaning():
    assert set(SHORT.values()) <= set(states.MEANINGS)
    assert states.meaning("dreaming") is states.UNHEARD


def test_every_state_of_the_api_has_a_meaning():
    names = json.loads((RECORDED / "machine-states.json").read_text())
    words = {WORDS.get(name, name.lower()) for name in names}
    assert words | {"inaccessible", "stuck"} == set(states.MEANINGS)


def test_pyvbox_takes_running_for_paused():
    """Why its tables are not used: they are those of VirtualBox 6, which knew one state less."""
    library = pytest.importorskip("pyvbox.library")
    live = json.loads((RECORDED / "machine-states.json").read_text())
    assert str(library.MachineState(live["Running"])) == "Paused"
    assert str(library.MachineState(live["Paused"])) == "Stuck"
