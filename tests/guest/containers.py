"""Real guests for tests: Incus containers, provisioned and sealed as images are."""

import http.client
import io
import json
import secrets
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from server_manager import node_program
from server_manager.guest.seed import Seed

PROVISION = Path(__file__).parents[2] / "vagrant" / "provision"
IMAGE = "labguest"  # Debian 12 with systemd, as Incus or a contributor has it
SEED_TAR = "/var/lib/labctl/seed.tar"


def incus(*argv: str, stdin: bytes = b"", check: bool = True) -> str:
    result = subprocess.run(["incus", *argv], input=stdin, capture_output=True, timeout=300)
    if check and result.returncode:
        pytest.fail(f"incus {' '.join(argv)}: {result.stderr.decode()}{result.stdout.decode()}")
    return result.stdout.decode()


def why_not() -> str:
    """Why there are no such guests here; empty if there are."""
    try:
        found = incus("image", "list", "-f", "json", IMAGE, check=False)
        return "" if json.loads(found or "[]") else f"incus has no image {IMAGE}"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"incus does not answer: {error}"


def until(name: str, probe: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until `probe` answers something true; an OSError is not yet."""

    def look() -> None:
        try:
            found = probe()
        except (OSError, http.client.HTTPException) as error:
            raise NotYet(str(error)) from error
        if not found:
            raise NotYet(repr(found))

    wait_until(look, name=name, limit_s=limit_s, clock=SystemClock())


@dataclass(frozen=True)
class Container:
    name: str

    @classmethod
    def named(cls, what: str) -> "Container":
        return cls(f"guest-test-{secrets.token_hex(3)}-{what}")

    def launch(self, *options: str) -> None:
        incus("launch", IMAGE, self.name, "-q", *options)

    def copy(self, what: str) -> "Container":
        other = Container.named(what)
        incus("copy", self.name, other.name)
        return other

    def start(self) -> None:
        incus("start", self.name)

    def stop(self) -> None:
        incus("stop", "-f", self.name)

    def restart(self) -> None:
        """Shut down in order and boot."""
        incus("restart", self.name)

    def delete(self) -> None:
        incus("delete", "-f", self.name, check=False)

    def run(self, *argv: str, check: bool = True, user: int = 0) -> str:
        """What it prints on stdout."""
        options = ("--user", str(user), "--group", str(user)) if user else ()
        return incus("exec", self.name, *options, "--", *argv, check=check)

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check)

    def code(self, script: str) -> int:
        return subprocess.run(
            ["incus", "exec", self.name, "--", "sh", "-c", script],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        ).returncode

    def write(self, path: str, content: bytes) -> None:
        incus("file", "push", "-q", "-p", "-", f"{self.name}{path}", stdin=content)

    def provision(self, *, podman: bool = False) -> str:
        """Run the scripts as an image build does: a folder with the node program in it."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(PROVISION, "provision")
            archive = node_program.archive()
            member = tarfile.TarInfo("provision/program.tar.gz")
            member.size = len(archive)
            tar.addfile(member, io.BytesIO(archive))
        self.write("/root/provision.tar", buffer.getvalue())
        wish = "LABCTL_WITH_PODMAN=1 " if podman else ""
        return self.sh(
            f"tar -xf /root/provision.tar -C /root && {wish}sh /root/provision/provision.sh"
        )

    def give(self, seed: Seed) -> None:
        """Deliver a seed to a container, running or not."""
        self.write(SEED_TAR, seed.tar())

    def apply(self, seed: Seed) -> None:
        """Deliver a seed to a running one."""
        self.give(seed)
        self.run("labctl-seed")

    def applied(self) -> str:
        return self.sh("cat /var/lib/labctl/applied 2>/dev/null || true").strip()

    def address(self) -> str:
        found: list[str] = []

        def look() -> bool:
            # It may be on its way down or up.
            words = self.sh("ip -4 -o address show dev eth0 scope global", check=False).split()
            found[:] = [words[words.index("inet") + 1].partition("/")[0]] if words else []
            return bool(found)

        until(f"{self.name} has an address", look)
        return found[0]

    def gateway(self) -> str:
        return self.sh("ip -4 route show default").split()[2]

    def get(self, port: int, path: str, host: str) -> tuple[int, str]:
        """An HTTP GET from the machine of the tests."""
        connection = http.client.HTTPConnection(self.address(), port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def answers(self, port: int, path: str, host: str) -> bool:
        return self.get(port, path, host)[0] == 200

    def pid(self, unit: str) -> str:
        return self.sh(f"systemctl show -P MainPID {unit}").strip()

    def reaches(self, address: str, port: int) -> str:
        """What comes of connecting from in there: open, refused or silent."""
        script = (
            "import socket, sys\n"
            "try:\n socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.7); print('open')\n"
            "except ConnectionRefusedError: print('refused')\n"
            "except OSError: print('silent')\n"
        )
        return self.run("python3", "-c", script, address, str(port)).strip()

    def digests(self) -> str:
        """Every file that provisioning or a seed may have touched, with content and rights."""
        return self.sh(
            "find /etc /opt /usr/local /home /root/.ssh /var/lib/labctl /var/spool -xdev"
            " -not -path '*/node/metrics/*' -not -path '*/node/scaler/*' -type f"
            " -printf '%p %m %u:%g ' -exec sha256sum {} + 2>/dev/null | sort;"
            " find /etc /opt /usr/local /home /var/lib/labctl -xdev -not -type f"
            " -printf '%p %y %m %u:%g %l\\n' | sort"
        )
