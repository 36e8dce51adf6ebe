"""Whether the lab of ./lab.yaml (or the default one) fits into this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labcore.errors import LabError
from labctl import blueprints
from labctl.diagnosis.check import Check, Verdict, usable
from labctl.diagnosis.facts import Facts
from labctl.session import LAB_FILE
from server_manager import labfile
from server_manager.labspec import most_servers

# Measured for a VM of 512 MiB: 580 MiB resident; its disk, a linked clone, grows by what it writes.
VM_OVERHEAD_MIB = 70
VM_DISK_MIB = 500
WHOLE_MACHINES = ("virtualbox",)
# What systemd of a container of ours takes of the machine's inotify instances, which all share:
# with 128 of them the 17th container got no address.
INOTIFY_EACH = 8
HERE = (None, "local")  # remotes of Incus whose containers are on this machine


def examine(facts: Facts, drivers: Sequence[Check]) -> Iterator[Check]:
    """Processes share what there is; VMs have memory of their own, containers a limit in common."""
    try:
        if LAB_FILE.exists():
            lab = labfile.load(LAB_FILE)
        else:
            lab = labfile.parse(blueprints.text(blueprints.DEFAULT), "blueprint")
    except LabError as error:
        yield Check("lab file", "bad", error.message, error.hint)
        return
    automatic = lab.driver == "auto" and usable(drivers, "virtualbox")
    if lab.driver in WHOLE_MACHINES or automatic:
        yield memory(facts, lab)
        yield disk(facts, lab)
    if lab.driver == "incus" and (lab.incus is None or lab.incus.remote in HERE):
        yield from inotify(facts, lab)


def memory(facts: Facts, lab: labfile.LabFile) -> Check:
    """Too little for the size it begins with is bad, for the largest a warning. Pure."""
    groups = labfile.to_wire(lab).groups
    first = sum(g.desired_count * (g.memory_mib + VM_OVERHEAD_MIB) for g in groups)
    most = sum(most_servers(g) * (g.memory_mib + VM_OVERHEAD_MIB) for g in groups)
    text = (
        f"lab {lab.lab} needs {first} MiB at first and {most} MiB at its largest,"
        f" {facts.free_memory_mib} MiB are free"
    )
    if facts.free_memory_mib >= most:
        return Check("memory", "ok", text)
    verdict: Verdict = "bad" if facts.free_memory_mib < first else "warning"
    return Check("memory", verdict, text, "give its groups less memory_mib, or scaling a lower max")


def disk(facts: Facts, lab: labfile.LabFile) -> Check:
    """Room for what its nodes will write. Pure."""
    most = VM_DISK_MIB * sum(most_servers(g) for g in labfile.to_wire(lab).groups)
    text = f"lab {lab.lab} may write {most} MiB, {facts.free_disk_mib} MiB are free"
    if facts.free_disk_mib < most:
        return Check("disk of the lab", "warning", text, "free some, or give scaling a lower max")
    return Check("disk of the lab", "ok", text)


def inotify(facts: Facts, lab: labfile.LabFile) -> Iterator[Check]:
    """Whether the systemd of every container can watch files; nothing where nobody knows. Pure."""
    nodes = sum(most_servers(g) for g in labfile.to_wire(lab).groups)
    have, need = facts.inotify_instances, INOTIFY_EACH * nodes
    if have == 0:
        return
    text = f"{nodes} containers of lab {lab.lab} take some {need} inotify instances of {have}"
    if need <= have:
        yield Check("inotify", "ok", text)
        return
    fix = f"sudo sysctl -w fs.inotify.max_user_instances={max(1024, 2 * need)}"
    yield Check("inotify", "warning", f"{text}: the last ones get no address", fix)
