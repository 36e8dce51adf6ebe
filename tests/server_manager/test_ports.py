"""Leases: the documented formula, no port twice, what is taken is replaced and told."""

import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labcore.errors import Conflict
from labcore.services import CATALOGUE
from labcore.wire.lab import Group, Scaling
from server_manager.database import Database
from server_manager.labspec import LabSpec, from_file
from server_manager.ports import FREE_FROM, FREE_TO, Ports, documented, first_of, holders, is_free
from server_manager.registry import Labs


def spec(name: str = "demo", most: int = 5, extra: bool = False) -> LabSpec:
    groups: list[dict[str, object]] = [
        {"name": "control", "role": "control"},
        {"name": "agent", "count": 2},
    ]
    if extra:
        groups.append({"name": "more", "count": 2})
    scaling = {"min": 1, "max": most, "group": "agent"}
    return from_file({"lab": name, "driver": "fake", "groups": groups, "scaling": scaling}, name)


def leased(database: Database) -> dict[tuple[str, str, str], int]:
    rows = database.rows("SELECT * FROM leases")
    return {(row["lab"], row["node"], row["service"]): row["host_port"] for row in rows}


def test_the_documented_ports(tmp_path):
    database = Database(tmp_path / "db")
    ports = Ports(database, is_free=lambda port: True)
    for slot, name in enumerate(("one", "two")):
        Labs(database).add(spec(name), "now")
        assert ports.lease_lab(spec(name), slot, ssh=True) == ()
    got = leased(database)
    assert got["one", "control", "nginx"] == 8080
    assert got["one", "control", "ssh"] == 2223
    assert got["one", "control", "scaler"] == 5200
    for index in range(1, 6):
        node = f"agent-{index}"
        assert [got["one", node, s] for s in ("app", "metrics", "ssh")] == [
            5000 + index,
            5100 + index,
            2223 + index,
        ]
        assert got["two", node, "app"] == 6000 + index
    assert [got["two", "control", s] for s in ("nginx", "ssh", "scaler")] == [9080, 3223, 6200]
    database.close()


def test_what_a_lab_has_or_may_get(tmp_path):
    database = Database(tmp_path / "db")
    Labs(database).add(spec(), "now")
    ports = Ports(database, is_free=lambda port: port != 5001)
    ports.lease_lab(spec(), 0, ssh=True)
    moved = leased(database)["demo", "agent-1", "app"]
    found = set(ports.may_be_of(spec(), 0))
    assert {8080, 5200, 5001, 5099, 5101, 5199, 2223, 2322, moved} <= found
    assert not {5000, 5100, 5432, 9080} & found
    assert ports.may_be_of(spec(most=50), 0) == ports.may_be_of(spec(), 0)
    database.close()


def test_ssh_is_leased_only_where_it_is_used(tmp_path):
    database = Database(tmp_path / "db")
    Labs(database).add(spec(), "now")
    Ports(database, is_free=lambda port: True).lease_lab(spec(), 0, ssh=False)
    assert not [key for key in leased(database) if key[2] == "ssh"]
    database.close()


@settings(max_examples=25)
@given(
    taken=st.sets(st.sampled_from([8080, 5200, 5001, 5002, 5101, 9080, FREE_FROM, FREE_FROM + 1])),
    most=st.integers(2, 12),
    labs=st.integers(1, 4),
    extra=st.booleans(),
)
def test_no_port_is_given_twice_or_while_somebody_holds_it(
    tmp_path_factory, taken, most, labs, extra
):
    database = Database(tmp_path_factory.mktemp("ports") / "db")
    ports = Ports(database, is_free=lambda port: port not in taken)
    for slot in range(labs):
        lab = spec(f"lab-{slot}", most, extra)
        Labs(database).add(lab, "now")
        moved = ports.lease_lab(lab, slot, ssh=True)
        assert ports.lease_lab(lab, slot, ssh=True) == ()  # again: nothing
        got = leased(database)
        for move in moved:
            assert got[lab.lab, move.node, move.service] == move.port != move.wanted
            assert move.ours != (move.wanted in taken)
    got = leased(database)
    assert len(set(got.values())) == len(got) == labs * (3 + 3 * most + (6 if extra else 0))
    assert not taken & set(got.values())
    database.close()


@given(index=st.integers(1, 99), slot=st.integers(0, 20))
def test_the_formula_keeps_agents_apart_up_to_99(index, slot):
    """Within one lab no two documented ports are the same, whatever the numbers."""
    ports = [
        documented(service.host_port, number, slot)
        for service in CATALOGUE.values()
        for number in ([index] if service.host_port and service.host_port.plus_index else [1])
    ]
    assert len(set(ports)) == len(ports)
    assert documented(CATALOGUE["app"].host_port, index, slot) == 5000 + index + 1000 * slot


def test_no_port_left_is_a_conflict(tmp_path):
    database = Database(tmp_path / "db")
    with pytest.raises(Conflict, match="no port between"):
        Ports(database, is_free=lambda port: False).free(set())
    database.close()


def test_a_port_that_somebody_listens_on_is_not_free_and_says_whose_it_is():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert not is_free(port)
        assert "pid" in holders()[port]
    assert is_free(port)


def test_moved_ports_are_told_and_used(parts):
    parts.core.ports.is_free = lambda port: port != 8080
    run = parts.up()
    (told,) = [e for e in parts.core.events.after(run, "demo", 1000) if e.kind == "port"]
    assert (told.node, told.data["service"], told.data["wanted"]) == ("control", "nginx", 8080)
    port = told.data["port"]
    assert FREE_FROM <= port <= FREE_TO
    assert parts.manager.lab("demo").load_balancer_url == f"http://127.0.0.1:{port}"


def test_the_search_goes_round(tmp_path):
    database = Database(tmp_path / "db")
    ports = Ports(database, is_free=lambda port: port < FREE_FROM + 5, first=FREE_TO - 1)
    assert ports.free({FREE_FROM}) == FREE_FROM + 1
    database.close()


def test_state_directories_search_in_different_places():
    roots = [Path(f"/home/{name}/.local/state/labctl") for name in ("ann", "bo", "cy")]
    firsts = [first_of(root) for root in roots]
    assert len(set(firsts)) == 3
    assert all(FREE_FROM <= first <= FREE_TO for first in firsts)


def test_a_group_that_may_grow_holds_ports_for_its_standby_too(tmp_path):
    lab = spec(most=3)
    grown = Group(**{**vars(lab.groups[1]), "scaling": Scaling(min=1, max=3, standby=2)})
    lab = LabSpec(**{**vars(lab), "groups": (lab.groups[0], grown)})
    database = Database(tmp_path / "db")
    Labs(database).add(lab, "now")
    Ports(database, is_free=lambda port: True).lease_lab(lab, 0, ssh=False)
    assert leased(database)["demo", "agent-5", "app"] == 5005
    database.close()
