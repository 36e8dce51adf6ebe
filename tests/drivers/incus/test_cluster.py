"""Members that come and go, and where servers are put."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.errors import DriverUnusable, LabError
from labcore.wire.lab import PowerState
from server_manager.drivers.incus import placement
from server_manager.drivers.incus.cluster import Member, parse
from server_manager.drivers.incus.settings import IncusSettings
from tests.drivers.incus.fake_incus import FakeIncus
from tests.drivers.incus.parts import driver_of, spec_of

NAMES = ("lc1", "lc2", "lc3")
SILENT = "No heartbeat for {} (2026-11-26 02:25:30.7 +0000 UTC)"


def a_lab(root: Path, fake: FakeIncus, **settings: Any):
    """A lab whose servers are made at the same time."""
    driver = driver_of(root, fake, **settings)
    specs = [spec_of("control", 1), *(spec_of(f"agent-{i}", i + 1) for i in range(1, 5))]
    with ThreadPoolExecutor(len(specs)) as pool:
        list(pool.map(driver.create, specs))
        list(pool.map(lambda spec: driver.start(spec.ref), specs))
    return driver, specs


def test_a_lab_is_spread_and_says_where_it_is(tmp_path: Path):
    fake = FakeIncus(members=NAMES)
    driver, specs = a_lab(tmp_path, fake)
    servers = driver.servers("contract")
    assert len(servers) == len(specs)
    assert sorted(Counter(s.member for s in servers).values()) == [1, 2, 2]


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (SILENT.format("12.4s"), PowerState.UNKNOWN),
        (SILENT.format("20.1s"), PowerState.LOST),
        (SILENT.format("1m2.5s"), PowerState.LOST),
        ("Unavailable due to maintenance", PowerState.UNKNOWN),
    ],
)
def test_a_member_away_makes_its_servers_unknown_and_later_lost(tmp_path: Path, message, state):
    fake = FakeIncus(members=NAMES)
    driver, _ = a_lab(tmp_path, fake)
    away = next(s for s in driver.servers("contract") if s.ref.name == "agent-2").member
    assert away is not None
    fake.member_is(away, "Offline", message)
    for server in driver.servers("contract"):
        expected = state if server.member == away else PowerState.RUNNING
        assert server.state is expected, server
        assert driver.get(server.ref).state is expected
        if server.member == away:
            assert away in (server.problem or "")
            assert f"incus cluster remove --force local:{away}" in server.fix


def test_a_partition_that_nobody_noticed_yet_is_unknown_never_an_error(tmp_path: Path):
    fake = FakeIncus(members=NAMES)
    driver, _ = a_lab(tmp_path, fake)
    for container in fake.containers.values():
        container.status = "Error"
    assert {s.state for s in driver.servers("contract")} == {PowerState.UNKNOWN}


def test_who_was_away_before_the_server_manager_began_is_known_all_the_same(tmp_path: Path):
    fake = FakeIncus(members=NAMES)
    driver, specs = a_lab(tmp_path, fake)
    control = driver.get(specs[0].ref)
    assert control.member is not None
    fake.member_is(control.member, "Offline", SILENT.format("15s"))
    again = driver_of(tmp_path, fake)
    seen = again.get(specs[0].ref)
    assert seen.state is PowerState.UNKNOWN
    assert seen.endpoints == control.endpoints
    assert len(again.servers("contract")) == len(specs)
    again.create(specs[0])  # there is one: no second control node is made
    assert len(fake.containers) == len(specs)


def test_what_is_away_cannot_be_changed(tmp_path: Path):
    fake = FakeIncus(members=NAMES)
    driver, specs = a_lab(tmp_path, fake)
    away = driver.get(specs[0].ref).member
    assert away is not None
    fake.member_is(away, "Offline", SILENT.format("30s"))
    before = dict(fake.containers)
    for call in (driver.stop, driver.destroy):
        with pytest.raises(LabError):
            call(specs[0].ref)
    assert fake.containers == before


def test_a_region_is_a_cluster_group():
    members = parse(
        [
            {"server_name": "a", "status": "Online", "groups": ["default", "eu"]},
            {"server_name": "b", "status": "Online", "groups": ["default"]},
        ]
    )
    settings = IncusSettings(regions={"europe": "eu"})
    spec = spec_of("agent-1", region="europe")
    assert placement.choose(spec, settings, members, []) == "a"
    settings = IncusSettings(regions={"europe": "us"})
    with pytest.raises(DriverUnusable, match="group 'us'"):
        placement.choose(spec, settings, members, [])


def test_a_named_member_that_is_down_is_said_before_anything_is_made():
    members = {"a": Member("a", "Online", "", ()), "b": Member("b", "Offline", "", ())}
    for name in ("b", "c"):
        settings = IncusSettings(placement=f"member:{name}")
        with pytest.raises(DriverUnusable) as refusal:
            placement.choose(spec_of("agent-1"), settings, members, [])
        assert "member:a" in refusal.value.hint


@given(st.lists(st.sampled_from(["agent-", "other-"]), max_size=30), st.integers(1, 5))
def test_spread_never_leaves_a_group_uneven(prefixes: list[str], count: int):
    members = {f"m{i}": Member(f"m{i}", "Online", "", ()) for i in range(count)}
    lab: list[tuple[str, str | None]] = []
    for index, prefix in enumerate(prefixes):
        spec = spec_of(f"{prefix}{index + 1}")
        lab.append((spec.ref.name, placement.choose(spec, IncusSettings(), members, lab)))
    for group in ("agent", "other"):
        of_group = Counter(dict.fromkeys(members, 0))
        of_group.update(str(m) for node, m in lab if node.startswith(group))
        assert max(of_group.values()) - min(of_group.values()) <= 1
