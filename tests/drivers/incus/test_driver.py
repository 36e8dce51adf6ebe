"""What is true of the driver `incus` beyond the contract."""

import ipaddress
import json
from pathlib import Path

import pytest

from labcore.errors import Conflict, DriverUnusable, NotFound, TimedOut
from labcore.services import APP, with_image
from labcore.wire.lab import PowerState
from server_manager.drivers.base import ServerRef
from server_manager.drivers.incus import instances
from tests.drivers.incus.fake_incus import FakeIncus
from tests.drivers.incus.parts import driver_of, spec_of

SEED = "/var/lib/labctl/seed.tar"
NAME = "contract-agent-1"


def test_a_server_is_limited_labelled_and_seeded(tmp_path: Path):
    fake = FakeIncus()
    driver_of(tmp_path, fake).create(spec_of("agent-1", cpus=0.25, memory_mib=128))
    made = fake.one(NAME)
    assert made.config["limits.cpu.allowance"] == "25ms/100ms"
    assert made.config["limits.memory"] == "128MiB"
    assert made.config[instances.LAB] == "contract"
    assert b"node.json" in made.files[SEED]
    assert made.devices["eth0"]["ipv4.address"] == made.config[instances.ADDRESS]


@pytest.mark.parametrize("image", [True, False])
def test_containers_in_it_only_where_the_app_is_an_image(tmp_path: Path, image: bool):
    fake = FakeIncus()
    app = with_image(APP, "localhost/demo", {}) if image else APP
    driver_of(tmp_path, fake).create(spec_of("agent-1", services=(app,)))
    assert fake.one(NAME).config.get("security.nesting") == ("true" if image else None)


def test_no_secret_stands_in_a_command_or_a_label(tmp_path: Path):
    fake = FakeIncus()
    driver_of(tmp_path, fake).create(spec_of("agent-1", secrets={"agent-token": "hush-hush"}))
    said = json.dumps([list(call) for call in fake.calls]) + json.dumps(fake.one(NAME).config)
    assert "hush-hush" not in said
    assert "a private key" not in said
    assert b"hush-hush" in fake.one(NAME).files[SEED]


def test_an_instance_of_a_lab_that_is_gone_is_a_stray(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    driver.create(spec_of("agent-1"))
    fake.copy(NAME, "mine")
    assert driver.strays(["contract"]) == ()
    (stray,) = driver.strays([])
    assert (stray.name, stray.lab) == (NAME, "contract")
    assert stray.remove == f"incus delete --force --project default local:{NAME}"


def test_a_copy_that_inherited_the_labels_is_not_ours(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    fake.copy(NAME, "mine")
    del fake.containers["default", NAME]
    assert driver.get(spec.ref).state is PowerState.ABSENT
    assert driver.servers("contract") == ()
    driver.stop(spec.ref, force=True)
    driver.destroy(spec.ref)
    assert ("default", "mine") in fake.containers


def test_an_instance_of_somebody_else_with_its_name_is_a_conflict(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    fake.one(NAME).config = {"volatile.uuid": "other"}
    with pytest.raises(Conflict, match="exists already") as refusal:
        driver.create(spec)
    assert "incus.project" in refusal.value.hint
    assert fake.one(NAME).config == {"volatile.uuid": "other"}


def test_what_is_half_made_is_an_error_and_is_made_again(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    fake.failing.append((f"PATCH /instances/{NAME}", "EOF"))
    with pytest.raises(DriverUnusable):
        driver.create(spec)
    assert driver.get(spec.ref).state is PowerState.ERROR
    driver.create(spec)
    assert driver.get(spec.ref).state is PowerState.STOPPED


@pytest.mark.parametrize("is_done", [True, False])
def test_a_start_that_hangs_is_believed_only_when_it_is_seen(tmp_path: Path, is_done: bool):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    fake.hanging.append(("PUT", "/state", is_done))
    if is_done:
        driver.start(spec.ref)
        assert driver.get(spec.ref).state is PowerState.RUNNING
    else:
        with pytest.raises(TimedOut) as late:
            driver.start(spec.ref)
        assert "incus operation list" in late.value.hint


def test_a_create_that_hangs_leaves_nothing(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    fake.hanging.append(("POST", "/instances", True))
    with pytest.raises(TimedOut):
        driver.create(spec_of("agent-1"))
    assert not fake.containers


def test_a_stop_that_is_not_heard_turns_it_off(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    driver.start(spec.ref)
    fake.failing.append(("PUT /state", "Failed shutting down instance: context deadline exceeded"))
    driver.stop(spec.ref)
    assert driver.get(spec.ref).state is PowerState.STOPPED


def test_a_look_that_hangs_is_unknown_and_bounded(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    fake.hanging.append(("GET", "/instances", True))
    server = driver.get(spec.ref)
    assert server.state is PowerState.UNKNOWN
    assert "did not end within" in (server.problem or "")


def test_servers_have_addresses_of_their_own_that_dhcp_gives_to_nobody(tmp_path: Path):
    fake = FakeIncus()
    fake.networks["labbr0"]["ipv4.dhcp.ranges"] = "10.77.0.100-10.77.0.250"
    driver = driver_of(tmp_path, fake)
    for number in range(1, 31):
        driver.create(spec_of(f"agent-{number}", number))
    found = [c.devices["eth0"]["ipv4.address"] for c in fake.containers.values()]
    assert len(set(found)) == 30
    assert not any(100 <= int(a.rpartition(".")[2]) <= 250 for a in found)
    assert "10.77.0.1" not in found


def test_an_address_that_somebody_took_since_is_replaced(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    before = fake.one(NAME).devices["eth0"]["ipv4.address"]
    fake.copy(NAME, "thief")  # stopped, and yet it holds the address
    driver.start(spec.ref)
    after = fake.one(NAME).devices["eth0"]["ipv4.address"]
    assert after != before
    assert driver.get(spec.ref).endpoints["node"]["sleeper"] == f"{after}:5000"


def test_addresses_of_other_projects_are_not_shown_and_yet_one_is_found(tmp_path: Path):
    fake = FakeIncus()
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    driver.create(spec)
    mine = ipaddress.ip_address(fake.one(NAME).devices["eth0"]["ipv4.address"])
    theirs = {str(mine + i) for i in range(12)}
    for address in theirs:
        fake.copy(NAME, address, "class-b").devices["eth0"]["ipv4.address"] = address
    driver.start(spec.ref)
    assert fake.one(NAME).devices["eth0"]["ipv4.address"] not in theirs


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"remote": "nowhere"}, "no Incus remote 'nowhere'", "incus remote add nowhere"),
        ({"project": "gone"}, "no project 'gone'", "incus project create local:gone"),
        ({"network": "nobr"}, "no such network", "incus network list"),
        ({"profile": "thin"}, "Profile not found", "incus profile list"),
        ({"placement": "member:lc9"}, "is no cluster", "leave"),
    ],
)
def test_settings_that_cannot_be_used_say_what_to_do(tmp_path: Path, settings, message, hint):
    driver = driver_of(tmp_path, FakeIncus(), **settings)
    with pytest.raises(DriverUnusable) as refusal:
        driver.create(spec_of("agent-1"))
    assert message in refusal.value.message
    assert hint in refusal.value.hint
    if "placement" not in settings:
        health = driver.health()
        assert not health.ok
        assert hint in health.fix


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("The incus daemon doesn't appear to be started (socket path: /x)", "does not run"),
        (
            "You don't have the needed permissions to talk to the incus daemon (socket path: /x)",
            "may not use Incus",
        ),
        ("Failed to begin transaction: no available dqlite leader server found", "no quorum"),
        ('Get "https://10.0.0.9:8443": dial tcp: connect: connection refused', "does not answer"),
    ],
)
def test_an_incus_that_cannot_be_asked_is_unusable_and_says_why(tmp_path: Path, said, message):
    fake = FakeIncus()
    fake.failing.append(("GET /", said))
    driver = driver_of(tmp_path, fake)
    spec = spec_of("agent-1")
    server = driver.get(spec.ref)
    assert server.state is PowerState.UNKNOWN
    assert message in (server.problem or "")


def test_a_machine_that_can_run_no_virtual_machines_is_told(tmp_path: Path):
    fake = FakeIncus()
    said = 'Instance type "virtual-machine" is not supported on this server: vhost_vsock kernel'
    fake.failing.append(("POST /instances", f"Failed creating instance record: {said} module"))
    driver = driver_of(tmp_path, fake, type="vm")
    with pytest.raises(DriverUnusable, match=r"cannot run virtual machines.*vhost_vsock") as told:
        driver.create(spec_of("agent-1"))
    assert "incus.type: container" in told.value.hint


def test_without_a_client_it_says_how_to_get_one(tmp_path: Path):
    driver = driver_of(tmp_path, FakeIncus())
    (tmp_path / "bin" / "incus").unlink()
    health = driver.health()
    assert not health.ok
    assert "install the Incus client" in health.fix


def test_a_missing_image_says_how_to_make_one(tmp_path: Path):
    driver = driver_of(tmp_path, FakeIncus(images=()))
    with pytest.raises(NotFound) as refusal:
        driver.create(spec_of("agent-1"))
    assert "labctl image build" in refusal.value.hint


def test_projects_keep_labs_apart(tmp_path: Path):
    fake = FakeIncus()
    fake.projects.add("class-b")
    one, other = driver_of(tmp_path, fake), driver_of(tmp_path, fake, project="class-b")
    mine, theirs = spec_of("agent-1"), spec_of("agent-1")
    one.create(mine)
    other.create(theirs)
    one.start(mine.ref)
    other.start(theirs.ref)  # on the same network, where names are one for all projects
    addresses = {c.devices["eth0"]["ipv4.address"] for c in fake.containers.values()}
    assert len(fake.containers) == len(addresses) == 2
    one.destroy(mine.ref)
    assert [s.ref for s in other.servers("contract")] == [theirs.ref]


def test_the_longest_names_are_names_of_incus_too_and_differ():
    refs = [ServerRef("l" * 31, f"{'n' * 29}-{i}", "") for i in range(1, 6)]
    for project in ("default", "class-b"):
        names = {instances.name_of(ref, project) for ref in refs}
        assert len(names) == len(refs)
        assert max(map(len, names)) <= instances.LONGEST_NAME


def test_a_lab_file_that_names_no_remote_means_that_of_the_client(tmp_path: Path):
    fake = FakeIncus()
    fake.remote = "lc"
    driver_of(tmp_path, fake).create(spec_of("agent-1"))
    asked = [call[-1] for call in fake.calls if call[1] == "query"]
    assert asked
    assert all(where.startswith("lc:/") for where in asked)


def test_a_client_that_is_switched_later_takes_no_lab_with_it(tmp_path: Path):
    fake = FakeIncus()
    spec = spec_of("agent-1")
    driver_of(tmp_path, fake).create(spec)
    fake.remote = "elsewhere"
    after = driver_of(tmp_path, fake)  # as when the server-manager was started again
    assert after.get(spec.ref).state is PowerState.STOPPED
