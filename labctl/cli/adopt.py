"""adopt: takes over machines that somebody else made, Vagrant above all."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labcore.errors import Conflict, LabError, UsageProblem
from labctl.cli.files import SetOption
from labctl.cli.lifecycle import FileOption, carry_out, end, show_up
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labctl.adopting import Outsider

DRIVER = "virtualbox"
VagrantOption = Annotated[
    str | None, typer.Option("--vagrant", metavar="DIR", help="All machines of its Vagrantfile.")
]
VmOption = Annotated[
    list[str] | None,
    typer.Option("--vm", metavar="NODE=VM", help="A node, and the name or UUID of its VM."),
]
KeyOption = Annotated[
    str | None, typer.Option("--ssh-key", metavar="FILE", help="With which its maker logs in.")
]


def adopt(
    ctx: typer.Context,
    vagrant: VagrantOption = None,
    vm: VmOption = None,
    ssh_user: Annotated[
        str, typer.Option("--ssh-user", help="As whom; may use sudo without a password.")
    ] = "vagrant",
    ssh_key: KeyOption = None,
    file: FileOption = None,
    sets: SetOption = None,
    release: Annotated[
        bool, typer.Option("--release", help="Let go of the lab's machines; they stay as they are.")
    ] = False,
) -> None:
    """Take over running VirtualBox machines, made by Vagrant or by hand, as a lab.

    They need port forwards as labctl makes them, and the software of vagrant/provision. The scaler
    then turns them on and off; none is ever made or deleted. Run it again after anything.
    """
    if release:
        _release(ctx)
        return
    outsiders = _outsiders(vagrant, vm, ssh_user, ssh_key)
    from labctl import adopting, session, wish

    found = wish.read(Path(file) if file else None, tuple(sets or ()), options(ctx).lab)
    here = session.connect()
    read, source = found or wish.without_file(here, tuple(sets or ()), options(ctx).lab)
    made = wish.make(here, read, source, DRIVER)
    try:
        machines = {node: outsider.machine for node, outsider in outsiders.items()}
        for node in here.manager.adopt(made.lab, made.body, machines):
            plain.note(f"{node.node}: machine {node.machine}")
            tell = partial(_tell, node.node)
            adopting.deliver(here, made.lab, node, outsiders[node.node], tell)
    except (LabError, KeyboardInterrupt):
        plain.note(f"lab {made.lab} is half adopted: the same again goes on, --release undoes it")
        raise
    begin = partial(here.manager.finish_adoption, made.lab)
    show_up(here, carry_out(here, made.lab, begin, made.driver), ctx)


def _tell(node: str, line: str) -> None:
    plain.note(f"{node}: {line}")


def _outsiders(
    vagrant: str | None, vms: list[str] | None, user: str, key: str | None
) -> dict[str, Outsider]:
    from labctl import adopting

    if vagrant is not None and vms:
        raise UsageProblem("--vagrant and --vm are two ways to say which machines", "use one")
    if vagrant is not None:
        return adopting.of_vagrant(Path(vagrant), os.environ)
    return adopting.of_words(vms or (), user, Path(key) if key else None)


def _release(ctx: typer.Context) -> None:
    from labctl import session

    here = session.connect_if_labs()
    lab = here.lab(options(ctx).lab)
    if not lab.adopted:
        raise Conflict(
            f"lab {lab.lab!r} was not adopted: labctl made it itself",
            f"labctl destroy --lab {lab.lab} removes it",
        )
    end(here, lab)
