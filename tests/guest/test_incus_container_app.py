"""The app as a container image: rootless podman in a guest, uid 0 neither inside nor outside."""

import dataclasses
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.services import APP, with_image
from server_manager.guest.network import GuestNetwork
from server_manager.guest.seed import make_seed
from tests.guest import specs
from tests.guest.containers import Container, until, why_not

pytestmark = [
    pytest.mark.incus,
    pytest.mark.slow,
    pytest.mark.skipif(bool(reason := why_not()), reason=reason or "incus answers"),
]
ROOT = Path(__file__).parents[2]
IMAGE = "localhost/labctl-demo"
# No registry needed: the guest's own files are the base, and have Python and Flask in them.
BUILD = f"""
set -e
cd /
tar --one-file-system --exclude=usr/share/doc --exclude=usr/share/locale --exclude=usr/libexec \
    -c usr etc lib lib64 bin sbin | podman import -q - localhost/base
cd /root/sources
podman build -q --isolation=chroot --network=host --build-arg BASE=localhost/base \
    -f agent/app/Containerfile -t {IMAGE} .
podman save -q -o /root/provision/app-image.tar {IMAGE}
podman system reset -f
"""


@pytest.fixture(scope="module")
def agent() -> Iterator[Container]:
    container = Container.named("podman")
    try:
        container.launch("-c", "security.nesting=true")
        container.address()
        container.provision(podman=True)
        container.write("/root/sources.tar", sources())
        container.sh("mkdir /root/sources && tar -xf /root/sources.tar -C /root/sources")
        container.sh(BUILD)
        yield container
    finally:
        container.delete()


def sources() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("agent", "labcore"):
            tar.add(ROOT / name, name)
    return buffer.getvalue()


def test_the_demo_app_runs_from_an_image_and_is_root_nowhere(agent):
    said = agent.sh("sh /root/provision/provision.sh")
    assert "provision: loaded the app's image" in said
    assert agent.sh("sh /root/provision/provision.sh") == "provision: done\n"

    app = dataclasses.replace(
        with_image(APP, IMAGE, {"MODE": "a b", "PASSWORD": "secret:db-password"}),
        secrets=("db-password",),
    )
    spec = specs.agent(specs.Keys(), app=app, **{"db-password": "hunter2"})
    gateway = agent.gateway()
    network = GuestNetwork(gateway, (), (f"{gateway}/32",))
    agent.apply(make_seed(spec, specs.CAPABILITIES, network))
    until("the app answers", lambda: '"agent-1"' in agent.get(5000, "/", "any")[1])

    inside = agent.sh("pgrep -f '^python3 -m agent.app.container'").strip()
    outside_uid = int(agent.sh(f"stat -c %u /proc/{inside}").strip())
    service_uid = int(agent.sh("id -u labctl"))
    assert outside_uid > 500_000
    assert service_uid not in (0, outside_uid)
    assert inside_uid(agent.sh(f"cat /proc/{inside}/uid_map"), outside_uid) == 1000
    status = agent.sh(f"cat /proc/{inside}/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    environment = agent.sh(f"tr '\\0' '\\n' < /proc/{inside}/environ").splitlines()
    assert {"MODE=a b", "PASSWORD=hunter2", "LABCTL_NODE=agent-1"} <= set(environment)
    assert "hunter2" not in agent.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def inside_uid(uid_map: str, outside: int) -> int:
    """user_namespaces(7): the first id inside, the first outside, how many."""
    for line in uid_map.splitlines():
        first, at, count = map(int, line.split())
        if at <= outside < at + count:
            return first + outside - at
    raise AssertionError(f"{outside} is not in {uid_map}")


def test_it_stops_in_order_and_comes_back_when_killed_or_booted(agent):
    agent.sh("systemctl stop labctl-app")
    assert agent.sh("systemctl show -P Result labctl-app") == "success\n"
    agent.sh("systemctl start labctl-app")
    until("it answers again", lambda: agent.answers(5000, "/health", "any"))
    agent.sh(f"kill -9 {agent.pid('labctl-app')}")
    until("podman is another", lambda: agent.sh("systemctl show -P NRestarts labctl-app") != "0\n")
    until("it answers after a kill", lambda: agent.answers(5000, "/health", "any"))
    agent.restart()
    until("it answers after a boot", lambda: agent.answers(5000, "/health", "any"))
