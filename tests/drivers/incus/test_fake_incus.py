"""The fake Incus answers as the real one: the same questions, word for word where it matters."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labcore.errors import DriverUnusable, LabError, NotFound
from server_manager.drivers.incus.advice import (
    AddressTaken,
    AlreadyThere,
    NameTaken,
    NoSuchImage,
    NoSuchInstance,
    NotRunning,
)
from server_manager.drivers.incus.client import Incus
from tests.contract.incus_rigs import IMAGE, fake_incus, real_incus
from tests.drivers.incus.fake_incus import FakeIncus

MARKED = pytest.param("real", marks=pytest.mark.incus)


@pytest.fixture(params=["fake", MARKED])
def incus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Incus]:
    client = real_incus() if request.param == "real" else fake_incus(tmp_path, FakeIncus())
    yield client
    for told in client.get("/instances", recursion="1"):
        if told["name"].startswith(PREFIX):
            if told["status"] != "Stopped":
                change(client, told["name"], "stop")
            client.change("DELETE", f"/instances/{told['name']}")


PREFIX = f"fake-or-not-{uuid.uuid4().hex[:6]}"
ONE, TWO = f"{PREFIX}-1", f"{PREFIX}-2"


def body(name: str, address: str = "10.77.0.99", **changes: Any) -> dict[str, Any]:
    nic = {"type": "nic", "name": "eth0", "network": "labbr0", "ipv4.address": address}
    return {
        "name": name,
        "type": "container",
        "source": {"type": "image", "alias": IMAGE},
        "profiles": ["default"],
        "config": {"user.labctl.lab": PREFIX, "volatile.uuid": str(uuid.uuid4())},
        "devices": {"eth0": nic},
        **changes,
    }


def change(incus: Incus, name: str, action: str) -> None:
    state = {"action": action, "force": True, "timeout": -1}
    incus.change("PUT", f"/instances/{name}/state", state)


def test_an_instance_keeps_what_it_was_made_with(incus: Incus):
    made = body(ONE)
    incus.change("POST", "/instances", made)
    told = incus.get(f"/instances/{ONE}")
    assert told["status"] == "Stopped"
    assert told["type"] == "container"
    assert made["config"].items() <= told["config"].items()
    assert told["devices"] == made["devices"]
    incus.change("PATCH", f"/instances/{ONE}", {"config": {"user.labctl.digest": "d"}})
    patched = incus.get(f"/instances/{ONE}")["config"]
    assert {**made["config"], "user.labctl.digest": "d"}.items() <= patched.items()
    found = incus.get("/instances", recursion="1", filter=f"config.user.labctl.lab eq {PREFIX}")
    assert [one["name"] for one in found] == [ONE]
    assert incus.get("/instances", recursion="1", filter="config.user.labctl.lab eq none") == []
    leases = incus.get("/networks/labbr0/leases")
    assert "10.77.0.99" in {lease["address"] for lease in leases}


def test_states_and_refusals(incus: Incus):
    incus.change("POST", "/instances", body(ONE))
    for action, error in (("freeze", NotRunning), ("stop", AlreadyThere)):
        with pytest.raises(error):
            change(incus, ONE, action)
    for action, status in (
        ("start", "Running"),
        ("freeze", "Frozen"),
        ("unfreeze", "Running"),
        ("stop", "Stopped"),
    ):
        change(incus, ONE, action)
        assert incus.get(f"/instances/{ONE}")["status"] == status
        if action != "stop":
            with pytest.raises(AlreadyThere):
                change(incus, ONE, action)


def test_names_images_and_addresses_that_are_taken_or_missing(incus: Incus):
    incus.change("POST", "/instances", body(ONE))
    with pytest.raises(NameTaken):
        incus.change("POST", "/instances", body(ONE))
    with pytest.raises(NoSuchImage):
        incus.change(
            "POST", "/instances", body(TWO, source={"type": "image", "alias": "no-such-image"})
        )
    incus.change("POST", "/instances", body(TWO))
    with pytest.raises(AddressTaken):
        change(incus, TWO, "start")
    with pytest.raises(NoSuchInstance):
        incus.get(f"/instances/{PREFIX}-none")
    with pytest.raises(NotFound):
        incus.push(f"{PREFIX}-none", "/etc/x", b"x")


def test_an_image_of_a_container_makes_no_virtual_machine(incus: Incus):
    with pytest.raises(DriverUnusable, match="image is of a container"):
        incus.change("POST", "/instances", body(ONE, type="virtual-machine"))


def test_a_member_can_be_named_only_in_a_cluster(incus: Incus):
    with pytest.raises(LabError, match="no cluster"):
        incus.change("POST", "/instances", body(ONE), target="lc9")
    assert incus.get("")["environment"]["server_clustered"] is False
