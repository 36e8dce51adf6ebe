"""A guest with a real systemd: provisioned, sealed, seeded, attacked, rebooted, made another."""

import dataclasses
import json
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator

import pytest

from labcore.services import APP, with_command
from server_manager.guest.network import GuestNetwork
from server_manager.guest.seed import make_seed
from tests.guest import specs
from tests.guest.containers import incus, until, why_not
from tests.guest.incus_lab import control_of, healthy

pytestmark = [
    pytest.mark.incus,
    pytest.mark.slow,
    pytest.mark.skipif(bool(reason := why_not()), reason=reason or "incus answers"),
]
UNITS = {"control": ("nginx", "scaler"), "agent": ("metrics", "app")}
LAB_PORTS = {"control": (22, 80, 5200), "agent": (22, 5000, 5100)}


def test_provisioning_again_changes_nothing_and_asks_no_network(provisioned):
    before = provisioned.digests()
    provisioned.sh("ip link set eth0 down")
    try:
        assert provisioned.sh("sh /root/provision/provision.sh") == "provision: done\n"
    finally:
        provisioned.sh("ip link set eth0 up")
    assert provisioned.digests() == before


def test_a_sealed_image_is_nobody(spare):
    assert spare.applied() == ""
    assert spare.sh("ls /etc/ssh/ssh_host_* /home/*/.ssh/authorized_keys 2>/dev/null || true") == ""
    assert spare.code("systemctl is-active ssh") != 0
    assert spare.sh("getent shadow | grep -v '^[^:]*:[*!]' || true") == ""
    assert re.fullmatch("[0-9a-f]{32}\n", spare.sh("cat /etc/machine-id"))


@pytest.mark.parametrize("role", UNITS)
def test_the_services_run_as_nobody_in_particular_and_shut_in(lab, role):
    container = getattr(lab, role)
    for name in UNITS[role]:
        unit = f"labctl-{name}.service"
        assert container.sh(f"systemctl is-active {unit}") == "active\n"
        owner = container.sh(f"ps -o user= -p {container.pid(unit)}").strip()
        assert owner == "labctl"
        judged = container.sh(f"systemd-analyze security --no-pager {unit} | tail -1")
        assert float(re.findall(r": ([0-9.]+) ", judged)[0]) <= 3.0
        assert container.sh(f"systemd-analyze verify {unit} 2>&1 || true") == ""
    assert container.sh("systemctl --failed --no-legend --plain") == ""
    assert container.code("runuser -u labctl -- sh -c 'echo x >> /opt/labctl/__main__.py'") != 0


@pytest.mark.parametrize("role", LAB_PORTS)
def test_only_the_labs_ports_are_open_and_only_to_the_lab(lab, role):
    container = getattr(lab, role)
    container.sh("systemd-run -q --unit stray python3 -m http.server 9999 2>/dev/null || true")
    until("the stray server listens", lambda: container.code("ss -ltn | grep -q :9999") == 0)
    ports = (*LAB_PORTS[role], 9999)
    peer = lab.control if role == "agent" else container
    if role == "agent":
        seen = {port: peer.reaches(container.address(), port) for port in ports}
        assert seen == {**dict.fromkeys(LAB_PORTS[role], "open"), 9999: "silent"}
    silent = {port: lab.neighbour.reaches(container.address(), port) for port in ports}
    assert set(silent.values()) == {"silent"}


def test_a_control_node_reaches_nothing_of_the_host_but_the_lab(lab):
    gateway = lab.sources[0].partition("/")[0]
    assert lab.control.reaches(gateway, lab.manager_port) == "open"
    with socket.create_server((gateway, 0)) as stray:
        port = stray.getsockname()[1]
        assert lab.control.reaches(gateway, port) == "refused"
        assert lab.agent.reaches(gateway, port) == "open"


def test_logging_in_needs_the_key_and_is_not_for_root(lab, identity):
    entered = lab.ssh(lab.agent, "lab", "hostname; id -un; sudo -n id -un", *identity)
    assert entered.stdout.split() == ["agent-1", "lab", "root"], entered.stderr
    for user in ("root", "labctl"):
        assert "Permission denied" in lab.ssh(lab.agent, user, "true", *identity).stderr
    asked = ["-o", "PreferredAuthentications=password,keyboard-interactive"]
    asked += ["-o", "PubkeyAuthentication=no", *identity]
    refused = lab.ssh(lab.agent, "lab", "true", *asked).stderr
    assert "Permission denied (publickey)" in refused
    assert lab.agent.sh("ls /etc/ssh/ssh_host_*").split() == [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
    ]


def test_control_logs_in_to_an_agent_by_its_name(lab):
    told = lab.control.run("runuser", "-u", "lab", "--", "ssh", "agent-1", "hostname; id -un")
    assert told.split() == ["agent-1", "lab"]


def test_the_login_user_reads_the_logs_and_a_service_reads_no_others_secrets(lab, identity):
    read = lab.ssh(lab.agent, "lab", "journalctl -q -u labctl-app --no-pager -o cat", *identity)
    assert "listening on 0.0.0.0:5000" in read.stdout
    assert (
        "Permission denied"
        in lab.ssh(
            lab.agent, "lab", "cat /var/lib/labctl/node/secrets/agent-token", *identity
        ).stderr
    )
    main = lab.agent.pid("labctl-app")
    assert lab.agent.code(f"ls /proc/{main}/root/var/lib/labctl/node/secrets/agent-token") != 0
    assert "rw-------" in lab.agent.sh("ls -l /var/lib/labctl/node/secrets/agent-token")


def test_the_same_seed_again_is_nothing(lab):
    for container, spec in ((lab.agent, specs.agent(lab.keys)), (lab.control, control_of(lab))):
        units = container.sh("systemctl show -P MainPID 'labctl-*'")
        before = container.digests()
        container.apply(lab.seed(spec))
        assert container.digests() == before
        assert container.sh("systemctl show -P MainPID 'labctl-*'") == units


def test_a_service_that_dies_comes_back(lab):
    before = lab.agent.pid("labctl-app")
    lab.agent.sh(f"kill -9 {before}")
    until("another app", lambda: lab.agent.pid("labctl-app") not in ("0", before))
    healthy(lab)


def test_nginx_reloads_as_its_user(lab):
    master = lab.control.pid("labctl-nginx")
    script = f"runuser -u labctl -- kill -HUP {master}"
    lab.control.sh(script)
    until("it still answers", lambda: lab.control.get(80, "/.labctl/health", "x")[0] == 200)
    assert lab.control.pid("labctl-nginx") == master


def test_a_reboot_brings_all_back(lab):
    applied = lab.agent.applied()
    for container in (lab.agent, lab.control):
        container.restart()
    healthy(lab)
    assert lab.agent.applied() == applied
    assert lab.neighbour.reaches(lab.agent.address(), 5000) == "silent"


def test_another_app_restarts_the_app_alone(lab, spare):
    first = specs.agent(lab.keys, "agent-2")
    spare.apply(lab.seed(first))
    before = {name: spare.pid(f"labctl-{name}") for name in ("app", "metrics")}
    app = with_command(APP, "python3 -m http.server 5000", {"MODE": "x"})
    second = dataclasses.replace(first, services=(first.services[0], app))
    spare.apply(lab.seed(second))
    until("another app", lambda: spare.pid("labctl-app") not in ("0", before["app"]))
    assert spare.pid("labctl-metrics") == before["metrics"]
    third = dataclasses.replace(second, services=second.services[:1])
    spare.apply(lab.seed(third))
    until("no app", lambda: spare.code("systemctl is-active labctl-app") != 0)
    assert spare.code("test -e /etc/systemd/system/labctl-app.service") != 0


def test_a_running_node_becomes_another(lab, spare):
    spare.apply(lab.seed(specs.agent(lab.keys, "agent-2")))
    until("agent-2 serves", lambda: "agent-2" in spare.get(5000, "/", "agent-2")[1])
    was = spare.sh("cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id")
    other = specs.agent(lab.keys, "agent-7")
    other = dataclasses.replace(
        other, ref=dataclasses.replace(other.ref, id="00000000-1111-2222-3333-444444444444")
    )
    spare.apply(lab.seed(other))
    until("agent-7 serves", lambda: '"agent-7"' in spare.get(5000, "/", "agent-7")[1])
    assert spare.sh("hostname") == "agent-7\n"
    key, machine = spare.sh("cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id").splitlines()
    assert key == lab.keys.host("agent-7").public
    assert machine == "00000000111122223333444444444444"
    assert key not in was
    scanned = subprocess.run(
        ["ssh-keyscan", "-T", "10", spare.address()], capture_output=True, text=True
    ).stdout
    assert key.split()[1] in scanned


def test_half_a_seed_changes_nothing(lab, spare):
    spare.apply(lab.seed(specs.agent(lab.keys, "agent-2")))
    before = spare.digests()
    whole = lab.seed(specs.agent(lab.keys, "agent-3"))
    files = {**whole.files, "hostname": dataclasses.replace(whole.files["hostname"], content=b"x")}
    spare.give(dataclasses.replace(whole, files=files))
    assert spare.code("labctl-seed") == 1
    spare.write("/var/lib/labctl/seed.tar", whole.tar()[:20000])
    assert spare.code("labctl-seed") == 1
    spare.sh("rm -rf /var/lib/labctl/seed /var/lib/labctl/seed.tar /var/lib/labctl/seed.new")
    assert spare.digests() == before


NASTY = {
    "PLAIN": "a b",
    "QUOTES": 'it\'s "$HOME" `id` \\n %h %% \\',
    "LINES": "one\ntwo\n",
    "UTF": "grüße 🙂",
}


def test_words_and_secrets_reach_a_program_as_they_were_written(lab, spare):
    program = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open('seen', 'w'))"
    base = specs.agent(lab.keys, "agent-2")
    env = {f"OPEN_{key}": value for key, value in NASTY.items()}
    hidden = {f"HIDDEN_{key}": f"secret:s{i}" for i, key in enumerate(NASTY)}
    app = dataclasses.replace(
        with_command(APP, "x", {**env, **hidden}),
        argv=("/usr/bin/python3", "-c", program, *NASTY.values()),
        secrets=tuple(f"s{i}" for i in range(len(NASTY))),
    )
    secret = {f"s{i}": value for i, value in enumerate(NASTY.values())}
    spec = dataclasses.replace(
        base, services=(base.services[0], app), secrets={**base.secrets, **secret}
    )
    spare.apply(lab.seed(spec))
    seen = "/var/lib/labctl/node/app/seen"
    until("it ran", lambda: spare.code(f"test -s {seen}") == 0)
    argv, environment = json.loads(spare.sh(f"cat {seen}"))
    assert argv == list(NASTY.values())
    for key, value in NASTY.items():
        assert environment[f"OPEN_{key}"] == value
        assert environment[f"HIDDEN_{key}"] == value.strip()
    assert "HIDDEN" not in spare.sh("systemctl cat labctl-app | grep -v EnvironmentFile")


@pytest.fixture
def cable() -> Iterator[str]:
    """A network without addresses of its own."""
    name = f"gt{secrets.token_hex(3)}"
    incus("network", "create", name, "ipv4.address=none", "ipv6.address=none", "-q")
    try:
        yield name
    finally:
        incus("network", "delete", name, check=False)


@pytest.mark.parametrize("networkd", [True, False])
def test_an_address_is_set_on_the_card_with_its_number_at_every_boot(lab, image, cable, networkd):
    mac = "00:16:3e:4c:61:62"
    container = image.copy("wired")
    try:
        nic = ("nic", f"network={cable}", "name=eth1", f"hwaddr={mac}")
        incus("config", "device", "add", container.name, "eth1", *nic)
        network = GuestNetwork("10.77.0.1", (), lab.sources, address="10.93.0.7/16", mac=mac)
        container.give(make_seed(specs.agent(lab.keys), specs.CAPABILITIES, network))
        container.start()
        if not networkd:
            until("it is a node", lambda: container.applied())
            container.sh("systemctl disable -q systemd-networkd; rm /var/lib/labctl/applied")
            container.give(make_seed(specs.agent(lab.keys), specs.CAPABILITIES, network))
            container.run("labctl-seed")
        shown = "ip -4 -o address show dev eth1"
        for _ in range(2):
            until("it has it", lambda: "10.93.0.7/16" in container.sh(shown, check=False))
            container.restart()
    finally:
        container.delete()
