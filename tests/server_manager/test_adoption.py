"""Machines of others as a lab: adopted, driven, let go; and every half of that."""

import io
import json
import tarfile
import threading

import pytest

from labcore.clock import FakeClock
from labcore.errors import Conflict, DriverFailed, Forbidden, NotFound, UsageProblem
from labcore.files import read_secret
from labcore.manager_client import ManagerClient
from labcore.services import CATALOGUE, SSH_PORT
from labcore.web import MOST_BODY_BYTES, make_server
from labcore.wire.lab import AdoptedNode, Desired, LabState, PowerState, Wanted
from labcore.wire.node import SCALER_TOKEN
from server_manager.adoption import fitted
from server_manager.app import make_app
from server_manager.drivers.adopting import OutsideMachine
from server_manager.drivers.fake import Failure
from server_manager.drivers.fake_adopting import AdoptingFakeDriver
from server_manager.metrics import Metrics
from tests.server_manager.parts import Parts, make_parts

FILE = {"lab": "demo", "driver": "fake"}
NODES = ("control", "agent-1", "agent-2")
IN_AGENT = (CATALOGUE["app"].port, CATALOGUE["metrics"].port, SSH_PORT)
IN_CONTROL = (CATALOGUE["nginx"].port, CATALOGUE["scaler"].port, SSH_PORT)


def machine(node: str, number: int = 0, **changes: object) -> OutsideMachine:
    """A running machine with the forwards that a Vagrantfile would give it, on odd host ports."""
    number = number or NODES.index(node) + 1
    inside = IN_CONTROL if node == "control" else IN_AGENT
    values: dict[str, object] = {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "hardware_id": f"00000000-0000-4000-8000-{number:012d}",
        "name": f"vm-{node}",
        "state": PowerState.RUNNING,
        "cpus": 2.0,
        "memory_mib": 768,
        "forwards": {port: 40_000 + 100 * number + n for n, port in enumerate(inside) if port},
        "network": "labctl-demo",
        "reaches_host": node == "control",
    }
    return OutsideMachine(**{**values, **changes})  # type: ignore[arg-type]


def put(parts: Parts, *machines: OutsideMachine) -> None:
    """Let these be the machines that there are."""
    driver_of(parts).machines = {m.id: m for m in machines}


def adopt(parts: Parts, *nodes: str) -> tuple[AdoptedNode, ...]:
    wanted = {node: f"vm-{node}" for node in nodes or NODES}
    return tuple(parts.manager.adoptions.adopt("demo", FILE, wanted))


def driver_of(parts: Parts) -> AdoptingFakeDriver:
    assert isinstance(parts.driver, AdoptingFakeDriver)
    return parts.driver


@pytest.fixture
def parts(tmp_path):
    clock = FakeClock()
    made = make_parts(tmp_path / "state", driver=AdoptingFakeDriver(clock), clock=clock)
    put(made, *map(machine, NODES))
    yield made
    made.core.database.close()


def marks(parts):
    return {ref.name for ref in parts.driver.marks.values()}


def test_an_adopted_lab_has_the_machines_ids_ports_and_sizes(parts):
    nodes = adopt(parts)
    lab = parts.manager.lab("demo")
    assert lab.adopted
    assert {n.node: (n.machine, n.id, n.ssh_port) for n in nodes} == {
        "control": ("vm-control", machine("control").id, 40_102),
        "agent-1": ("vm-agent-1", machine("agent-1").id, 40_202),
        "agent-2": ("vm-agent-2", machine("agent-2").id, 40_302),
    }
    assert marks(parts) == set(NODES)
    assert [s.id for s in parts.core.servers.of("demo")] == [
        machine(n).id for n in ("agent-1", "agent-2", "control")
    ]
    agents = lab.group("agent")
    assert (agents.cpus, agents.memory_mib, agents.desired_count) == (2.0, 768, 2)
    assert (agents.scaling.min, agents.scaling.max) == (2, 2)
    assert lab.servers[0].endpoints["host"]["app"] == "127.0.0.1:40200"


def test_until_every_seed_is_there_nobody_starts_or_stops_anything(parts):
    adopt(parts)
    lab = parts.manager.lab("demo")
    assert (lab.state, lab.desired) == (LabState.FAILED, Desired.DOWN)
    assert "labctl adopt" in (lab.problem or "")
    with pytest.raises(Conflict, match="not wholly adopted"):
        parts.manager.put("demo", FILE)
    with pytest.raises(Conflict, match="not to be up"):
        parts.manager.power.on(parts.manager.power.find("agent-1"), by_scaler=True)
    assert parts.made("create", "start", "stop", "destroy") == []


def test_a_crash_in_the_middle_leaves_the_machines_alone(parts):
    adopt(parts)
    parts.core.journal.begin("demo", "agent-1", "adopt")
    parts.manager.recover()
    assert parts.made("create", "start", "stop", "destroy") == []
    assert parts.states() == dict.fromkeys(NODES, "running")


def test_finished_it_is_up_without_anything_being_made_or_started(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    assert parts.manager.lab("demo").state is LabState.UP
    assert parts.ends() == ["up"]
    assert parts.made("create", "start", "stop", "destroy") == []


def test_the_seed_is_that_of_the_node_and_names_the_machines_id(parts):
    adopt(parts)
    seed = parts.manager.adoptions.seed("demo", "agent-2")
    with tarfile.open(fileobj=io.BytesIO(seed)) as tar:
        head = json.load(tar.extractfile("seed.json"))  # type: ignore[arg-type]
        hostname = tar.extractfile("hostname").read()  # type: ignore[union-attr]
    assert head["id"] == machine("agent-2").id
    assert hostname == b"agent-2\n"
    assert parts.manager.adoptions.seed("demo", "agent-2") == seed


def test_the_scaler_turns_them_off_and_on_and_never_makes_one(parts):
    put(parts, *map(machine, NODES), machine("agent-3", 4))
    parts.manager.adoptions.adopt("demo", FILE, {n: f"vm-{n}" for n in (*NODES, "agent-3")})
    parts.manager.adoptions.finish("demo")
    agent = parts.manager.power.find("agent-3")
    parts.manager.set_group("demo", "agent", 2, None)
    parts.manager.power.off(agent, by_scaler=True)
    assert parts.states()["agent-3"] == "stopped"
    parts.manager.power.on(agent, by_scaler=True)
    assert parts.states()["agent-3"] == "running"
    with pytest.raises(NotFound):
        parts.manager.power.find("agent-4")
    assert parts.made("create", "destroy") == []


@pytest.mark.parametrize("change", [{"max": 5}, {"max": 2, "standby": 1}, {"removal": "destroy"}])
def test_it_cannot_become_what_would_need_machines_of_ours(parts, change):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    file = parts.core.labs.get("demo").spec.file
    with pytest.raises(Conflict, match="adopted"):
        parts.manager.put("demo", {**file, "scaling": {**file["scaling"], **change}})


def test_destroy_releases_and_leaves_the_machines_as_they_are(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    parts.manager.destroy("demo")
    assert parts.manager.labs() == ()
    assert parts.driver.marks == {}
    assert parts.made("create", "stop", "kill", "destroy") == []
    assert not parts.core.paths.lab("demo").exists()
    assert len(adopt(parts)) == 3, "and they can be adopted again"


def test_a_half_adopted_lab_is_released_too_even_if_a_machine_is_gone(parts):
    parts.driver.fail("adopt", node="agent-2")
    with pytest.raises(DriverFailed):
        adopt(parts)
    put(parts, machine("control"))
    parts.manager.destroy("demo")
    assert parts.manager.labs() == ()
    assert parts.driver.marks == {}


def test_adopt_again_finishes_what_failed_half_way(parts):
    parts.driver.fail("adopt", Failure.DONE, node="agent-1")
    with pytest.raises(DriverFailed):
        adopt(parts)
    assert [n.node for n in adopt(parts)] == ["agent-1", "agent-2", "control"]
    parts.manager.adoptions.finish("demo")
    assert parts.manager.lab("demo").state is LabState.UP


def test_adopt_again_takes_newcomers_in_and_lets_missing_ones_go(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    numbers = {s.name: s.number for s in parts.core.servers.of("demo")}
    put(parts, *map(machine, NODES), machine("agent-3", 4))
    adopt(parts, *NODES, "agent-3")
    assert marks(parts) == {*NODES, "agent-3"}
    assert {s.name: s.number for s in parts.core.servers.of("demo")} == {**numbers, "agent-3": 4}
    assert parts.manager.lab("demo").group("agent").scaling.max == 3
    adopt(parts, "control", "agent-1")
    assert marks(parts) == {"control", "agent-1"}
    assert parts.states() == {"control": "running", "agent-1": "running"}
    assert parts.made("create", "stop", "destroy") == []


def test_a_machine_that_was_made_anew_takes_the_place_of_the_old_one(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    old = machine("agent-1")
    put(parts, machine("control"), machine("agent-2"), machine("agent-1", 9))
    adopt(parts)
    assert parts.core.servers.get("demo", "agent-1").id == machine("agent-1", 9).id
    assert old.id not in parts.driver.marks


def test_one_that_is_gone_is_told_and_not_made(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    parts.driver.forget(parts.core.servers.get("demo", "agent-1").ref)
    target = parts.manager.power.find("agent-1")
    with pytest.raises(NotFound, match=r"demo/agent-1 is gone") as caught:
        parts.manager.power.on(target, by_scaler=True)
    assert "labctl adopt --lab demo" in caught.value.hint
    assert parts.made("create") == []


def test_one_that_is_broken_is_told_and_not_destroyed(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    parts.driver.tell("demo", "agent-1", PowerState.ERROR)
    with pytest.raises(DriverFailed, match="broken"):
        parts.manager.power.on(parts.manager.power.find("agent-1"), by_scaler=True)
    assert parts.made("create", "destroy") == []


def test_a_port_that_somebody_took_is_told_and_not_moved(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    agent = parts.core.servers.get("demo", "agent-1")
    parts.driver.stop(agent.ref)
    parts.busy_ports.add(40_200)
    with pytest.raises(Conflict, match="port 40200, which leads to app of agent-1"):
        parts.manager.power.on(parts.manager.power.find("agent-1"), by_scaler=True)
    assert parts.core.ports.of("demo", "agent-1")["app"] == 40_200


def test_a_lab_that_labctl_made_is_not_taken_over(parts):
    parts.up("own")
    with pytest.raises(Conflict, match="labctl made itself"):
        parts.manager.adoptions.adopt("own", {**FILE, "lab": "own"}, {n: f"vm-{n}" for n in NODES})
    with pytest.raises(Conflict, match="labctl made it itself"):
        parts.manager.adoptions.finish("own")


def test_over_http_it_is_for_people_only(parts):
    app = make_app(parts.manager, Metrics())
    server = make_server(app, "127.0.0.1:0", threads=2, most_body_bytes=MOST_BODY_BYTES)
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{server.effective_port}"
    try:
        person = ManagerClient(url, read_secret(parts.core.paths.admin_token))
        nodes = person.adopt("demo", FILE, {n: f"vm-{n}" for n in NODES})
        assert [n.node for n in nodes] == ["agent-1", "agent-2", "control"]
        assert person.adoption_seed("demo", "control") == parts.manager.adoptions.seed(
            "demo", "control"
        )
        scaler = ManagerClient(url, parts.core.secrets.of("demo")[SCALER_TOKEN])
        with pytest.raises(Forbidden):
            scaler.adoption_seed("demo", "control")
        with pytest.raises(Forbidden):
            scaler.adopt("demo", FILE, {})
        with pytest.raises(NotFound):
            person.adoption_seed("demo", "agent-9")
        assert person.finish_adoption("demo") > 0
        assert person.lab("demo").adopted
    finally:
        parts.core.events.close()
        server.close()
        thread.join(timeout=10)


def test_a_machine_is_in_one_lab_only(parts):
    adopt(parts)
    wanted = {n: f"vm-{n}" for n in NODES}
    with pytest.raises(Conflict, match="is demo/control already"):
        parts.manager.adoptions.adopt("other", {**FILE, "lab": "other"}, wanted)
    assert [lab.lab for lab in parts.manager.labs()] == ["demo"]


def test_a_server_of_an_adopted_lab_cannot_be_deleted(parts):
    adopt(parts)
    parts.manager.adoptions.finish("demo")
    with pytest.raises(Conflict, match="adopted machine"):
        parts.manager.power.delete(parts.manager.power.find("agent-1"))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (("agent-1",), "group 'control' has no machine"),
        (("control",), "group 'agent' has no machine"),
        (("control", "agent-2"), "are not agent-1"),
        (("control", "agent-1", "agent-3"), "are not agent-1, agent-2"),
        (("control", "agent-1", "web-1"), "no group of lab 'demo' has a node web-1"),
    ],
)
def test_the_nodes_must_be_those_of_the_labs_groups(nodes, said):
    with pytest.raises(UsageProblem, match=said):
        fitted(FILE, "demo", {node: machine(node, 1) for node in nodes})


def test_one_machine_without_the_internal_network_makes_it_a_nat_lab():
    found = {node: machine(node) for node in NODES}
    assert "image" not in fitted({**FILE, "image": "some"}, "demo", found)
    assert fitted(FILE, "demo", found)["network"] == "internal"
    for other in ("", "intnet"):
        found["agent-1"] = machine("agent-1", network=other)
        assert fitted(FILE, "demo", found)["network"] == "nat"


def test_missing_forwards_and_machines_that_are_off_are_all_told_at_once(parts):
    put(
        parts,
        machine("control", forwards={80: 8080}, reaches_host=False),
        machine("agent-1", state=PowerState.STOPPED),
        machine("agent-2"),
    )
    with pytest.raises(UsageProblem) as caught:
        adopt(parts)
    assert caught.value.details == (
        "control: 'vm-control' cannot reach the server-manager on the host",
        "control: 'vm-control' forwards no port to 5200, scaler",
        "control: 'vm-control' forwards no port to 22, ssh",
        "agent-1: machine 'vm-agent-1' is stopped, not running",
    )
    assert parts.manager.labs() == ()


def test_an_unknown_machine_and_a_driver_that_cannot(parts, tmp_path):
    with pytest.raises(NotFound, match="vm-agent-7"):
        parts.manager.adoptions.adopt("demo", FILE, {"control": "vm-control", "a": "vm-agent-7"})
    plain = make_parts(tmp_path / "plain")
    with pytest.raises(UsageProblem, match="cannot adopt"):
        plain.manager.adoptions.adopt("demo", FILE, {})


def test_wanted_off_by_a_person_it_joins_again_when_it_is_adopted_again(parts):
    adopt(parts)
    row = parts.core.servers.get("demo", "agent-1")
    parts.core.servers.want(row, Wanted.OFF)
    adopt(parts)
    assert parts.wanted()["agent-1"] == "on"
