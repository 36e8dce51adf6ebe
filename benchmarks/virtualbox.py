"""What a person waits for with driver `virtualbox`, beside a shell script of plain VBoxManage.

Needs a VirtualBox and a Debian 12 disk whose `root` lets a key in: LABCTL_TEST_GUEST_DISK and
LABCTL_TEST_GUEST_KEY name them; measures nothing without. The script makes the same clones of the
same image, with the seeds that labctl made for them, so that the machines have the same to do; it
checks nothing, and ends when nginx and the agents' apps answer through their forwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness.rows import Row, at_most
from labcore.clock import SystemClock
from labcore.waiting import NotYet, wait_until
from labcore.wire.lab import PowerState
from tests.e2e.harness import Hands

CLOCK = SystemClock()
LIMIT_S = 1800.0  # an interpreted machine needs minutes
LIVE_MIB, COLD_MIB = 512, 520  # of an agent; only those of the first size fit the live machine
PREFIX = "labctl-bench"
PLAIN = """
set -eu
prefix=$1 snapshot=$2 folder=$3
shift 3
make() { # NAME MIB LOCALHOST SEED FORWARDS
    vm="$prefix-$1"
    VBoxManage -q clonevm "$image" --snapshot "$snapshot" --options link --name "$vm" \\
        --basefolder "$folder" --register
    VBoxManage -q modifyvm "$vm" --memory "$2" --cpus 1 --nic1 nat --nic-type1 virtio \\
        --nat-localhostreachable1 "$3" --uart1 0x3F8 4 --uart-mode1 file "$folder/$vm.log"
    for forward in $5; do VBoxManage -q modifyvm "$vm" --natpf1 "$forward"; done
    VBoxManage -q storagectl "$vm" --name SATA --portcount 2
    VBoxManage -q storageattach "$vm" --storagectl SATA --port 1 --device 0 --type dvddrive \\
        --medium "$4"
    VBoxManage -q startvm "$vm" --type headless
}
image=$1
shift
while [ $# -gt 0 ]; do
    make "$1" "$2" "$3" "$4" "$5" >/dev/null 2>&1
    urls="${urls:-} $6"
    shift 6
done
for url in $urls; do until curl -s -m 5 -o /dev/null "$url"; do sleep 0.2; done; done
"""


def run(*, full: bool) -> list[Row]:
    """Each once: on a machine without hardware virtualization that takes twenty minutes. `full`
    adds scale-outs and a standby node."""
    disk, key = os.environ.get("LABCTL_TEST_GUEST_DISK"), os.environ.get("LABCTL_TEST_GUEST_KEY")
    if not disk or not key or shutil.which("VBoxManage") is None:
        sys.stderr.write(
            "virtualbox: not measured: LABCTL_TEST_GUEST_DISK and _KEY name no guest\n"
        )
        return []
    with tempfile.TemporaryDirectory() as home:
        hands = Hands(Path(home), "virtualbox")
        build = ["image", "build", disk, "--driver", "virtualbox", "--name", "bench", "--live"]
        size = ["--memory-mib", str(LIVE_MIB), "--cpus", "1"]
        login = ["--ssh-user", "root", "--ssh-key", key]
        try:
            hands.do(*build, *size, *login, limit_s=LIMIT_S)
            cold, cold_out, plain = _cold(hands, full=full)
            live, live_out = _up_and_out(hands, LIVE_MIB, "live", full=full)
            rows = [
                Row("up of 1 + 1, booted", cold, "s"),
                at_most("the same, of the script", cold / plain, "x", 1.05),
                Row("up of 1 + 1, live", live, "s"),
                Row("the same, of up booted", live / cold, "x"),
            ]
            outs = (("booted", cold_out), ("live (saved)", live_out))
            rows += [Row(f"scale-out, {how}", out, "s") for how, out in outs if full]
            return rows + (_standby(hands) if full else [])
        finally:
            hands.try_("image", "remove", "bench", limit_s=LIMIT_S)
            hands.try_("server", "stop")


def _cold(hands: Hands, *, full: bool) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as kept:
        words: list[str] = []

        def plan() -> None:
            words.extend(_plan(hands, kept))

        up, out = _up_and_out(hands, COLD_MIB, "cold", plan, full=full)
        folder = Path(kept) / "machines"
        argv = ["sh", "-c", PLAIN, "sh", PREFIX, "labctl", str(folder), *words]
        try:
            plain = _seconds(lambda: subprocess.run(argv, check=True, timeout=LIMIT_S))
        finally:
            for name in ("control", "agent-1"):
                vm = f"{PREFIX}-{name}"
                _vboxmanage("controlvm", vm, "poweroff")
                _wait_off(vm)
                _vboxmanage("unregistervm", vm, "--delete")
            for name in ("control", "agent-1"):
                _vboxmanage("closemedium", "dvd", f"{kept}/{name}.iso")
    sys.stderr.write(f"the script: {plain:.0f} s\n")
    return up, out, plain


def _plan(hands: Hands, kept: str) -> list[str]:
    """What the script is told: the image, and for each node how it is made and where it answers."""
    image = _vboxmanage("list", "vms").partition('"labctl-image-bench" {')[2][:36]
    words = [image]
    for node in hands.status("cold")["nodes"]:
        if node["state"] != PowerState.RUNNING:
            continue
        name = node["name"]
        seed = hands.state / "labs" / "cold" / "nodes" / name / "seed.iso"
        copied = shutil.copy(seed, f"{kept}/{name}.iso")
        told = _vboxmanage("showvminfo", f"cold-{name}", "--machinereadable").splitlines()
        rules = [line.split('"')[1] for line in told if line.startswith("Forwarding(")]
        service = "nginx" if name == "control" else "app"
        url = node["endpoints"][service]
        reach = "on" if name == "control" else "off"
        words += [name, str(COLD_MIB), reach, copied, " ".join(rules), url]
    return words


def _up_and_out(
    hands: Hands, mib: int, lab: str, meanwhile: Callable[[], None] = lambda: None, *, full: bool
) -> tuple[float, float]:
    """Seconds until 1 + 1 serve, and with `full` from there until 1 + 2 do."""
    try:
        up = _seconds(lambda: _up(hands, mib, lab))
        meanwhile()
        words = ("scale", "2", "--lab", lab)
        out = _seconds(lambda: hands.do(*words, limit_s=LIMIT_S)) if full else 0.0
    finally:
        hands.try_("destroy", "--lab", lab, "--yes", limit_s=LIMIT_S)
    sys.stderr.write(f"{lab}: up {up:.0f} s" + (f", scale-out {out:.0f} s\n" if full else "\n"))
    return up, out


def _standby(hands: Hands) -> list[Row]:
    lab = "standby"
    try:
        _up(hands, LIVE_MIB, lab, "--set", "scaling.standby=1")
        hands.wait_status(
            lab,
            "a standby node",
            lambda s: any(node["state"] == "paused" for node in s["nodes"]),
            LIMIT_S,
        )
        words = ("scale", "2", "--lab", lab)
        seconds = _seconds(lambda: hands.do(*words, limit_s=LIMIT_S))
    finally:
        hands.try_("destroy", "--lab", lab, "--yes", limit_s=LIMIT_S)
    return [Row("scale-out, standby (paused)", seconds, "s")]


def _up(hands: Hands, mib: int, lab: str, *more: str) -> None:
    sizes = {f"groups.{group}.memory_mib={mib}" for group in ("control", "agent")}
    sizes |= {f"groups.{group}.cpus=1" for group in ("control", "agent")}
    given = (*sizes, "network=nat", "boot_limit_s=1500", "scaling.min=1", "groups.agent.count=1")
    words = [word for one in sorted(given) for word in ("--set", one)]
    lab_words = ("up", "--lab", lab, "--driver", hands.driver)
    hands.do(*lab_words, "--set", "scaling.mode=manual", *words, *more, limit_s=LIMIT_S)


def _wait_off(vm: str) -> None:
    def off() -> None:
        if 'VMState="running"' in _vboxmanage("showvminfo", vm, "--machinereadable"):
            raise NotYet

    wait_until(off, name=f"{vm} to be off", limit_s=60, clock=CLOCK)


def _vboxmanage(*words: str) -> str:
    done = subprocess.run(["VBoxManage", "-q", *words], capture_output=True, text=True, timeout=120)
    return done.stdout


def _seconds(command: Callable[[], object]) -> float:
    began = CLOCK.monotonic()
    command()
    return CLOCK.monotonic() - began
