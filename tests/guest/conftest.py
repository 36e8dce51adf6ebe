"""What the tests with real guests share: one image, and one lab made from it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import specs
from tests.guest.containers import Container
from tests.guest.incus_lab import Lab, control_of, healthy


@pytest.fixture(scope="session")
def provisioned() -> Iterator[Container]:
    """Provisioned, running, not sealed."""
    container = Container.named("built")
    try:
        container.launch()
        container.address()
        container.provision()
        yield container
    finally:
        container.delete()


@pytest.fixture(scope="session")
def image(provisioned: Container) -> Iterator[Container]:
    """Sealed and stopped: what others are copied from."""
    container = provisioned.copy("image")
    try:
        container.start()
        container.sh("rm -f /etc/systemd/system/ssh.service.d/10-lab.conf")  # the rig's own keys
        container.run("sh", "/root/provision/seal.sh")
        container.stop()
        yield container
    finally:
        container.delete()


@pytest.fixture(scope="session")
def lab(image: Container) -> Iterator[Lab]:
    made = {name: image.copy(name) for name in ("control", "agent", "neighbour")}
    try:
        for container in made.values():
            container.start()
        address = made["control"].address()
        sources = (f"{made['control'].gateway()}/32", f"{address}/32")
        with socket.create_server((sources[0].partition("/")[0], 0)) as manager:
            lab = Lab(
                specs.Keys(),
                **made,
                agent_address=made["agent"].address(),
                sources=sources,
                manager_port=manager.getsockname()[1],
            )
            made["control"].apply(lab.seed(control_of(lab)))
            made["agent"].stop()
            made["agent"].give(lab.seed(specs.agent(lab.keys)))
            made["agent"].start()
            healthy(lab)
            yield lab
    finally:
        for container in made.values():
            container.delete()


@pytest.fixture
def spare(image: Container) -> Iterator[Container]:
    """A clone that a test may spoil."""
    container = image.copy("spare")
    try:
        container.start()
        container.address()
        yield container
    finally:
        container.delete()


@pytest.fixture
def identity(lab: Lab, tmp_path: Path) -> list[str]:
    """ssh options: the user's key and the pinned keys of the nodes."""
    key = tmp_path / "key"
    key.write_text(lab.keys.user.private)
    key.chmod(0o600)
    hosts = ((lab.control, "control"), (lab.agent, "agent-1"))
    known = tmp_path / "known_hosts"
    known.write_text(
        "".join(
            f"{container.address()} {' '.join(lab.keys.host(name).public.split()[:2])}\n"
            for container, name in hosts
        )
    )
    return ["-i", str(key), "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}"]
