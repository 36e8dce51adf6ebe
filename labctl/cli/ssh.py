"""ssh, ssh-config, cp: into a node, by hand or with one's own tools."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labcore.errors import Conflict, UsageProblem
from labctl.cli.nodes import NodeArgument, find_lab
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labctl.ssh.endpoint import Endpoint

ON_NODE = re.compile(r"([a-z][a-z0-9-]{0,30}):(.*)", re.DOTALL)


def ssh(
    ctx: typer.Context,
    node: NodeArgument,
    command: Annotated[
        list[str] | None, typer.Argument(help="A command line for a shell there.")
    ] = None,
) -> None:
    """Log in to a node, or run a command line there: labctl ssh agent-1 -- 'ls | wc -l'.

    Uses the ssh program with keys and pinned host keys of the lab; ~/.ssh is not touched. An exec
    keeps words apart as you gave them, this hands them to a shell there, as ssh does.
    """
    from labctl.reach import reach

    here, lab = find_lab(ctx)
    raise typer.Exit(reach(here, lab, node).log_in(command or []))


def ssh_config(ctx: typer.Context) -> None:
    """Print a configuration for ssh, rsync, ansible and editors, and write it to a file.

    rsync -e "ssh -F FILE" ...; the first line says which FILE.
    """
    from labctl.reach import access_of
    from labctl.ssh import program

    here, lab = find_lab(ctx)
    if access_of(here, lab) != "ssh":
        raise Conflict(
            f"nodes of driver {lab.driver} are processes of this machine: there is no SSH",
            "labctl exec and labctl cp work",
        )
    file = program.write_config(here.paths, lab)
    config = program.config_of(here.paths, lab)
    if options(ctx).json:
        nodes = [_told(endpoint) for endpoint in config.endpoints]
        known_hosts = str(config.known_hosts)
        plain.show_json({"file": str(file), "known_hosts": known_hosts, "nodes": nodes})
    else:
        plain.result(file.read_text().rstrip())


def cp(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="A file or folder: PATH or NODE:PATH.")],
    target: Annotated[str, typer.Argument(help="Where to: PATH or NODE:PATH.")],
) -> None:
    """Copy a file or a folder to a node or from one: labctl cp app.py agent-1:/tmp/.

    As cp -r: into the target if it is a folder, else under its name. A path on a node that does
    not begin with / begins in the home folder there (driver local: in the node's folder).
    """
    from labctl.reach import reach

    here, lab = find_lab(ctx)
    there, into = on_node(source), on_node(target)
    if (there is None) == (into is None):
        raise UsageProblem(
            "one of the two is to be on a node, written NODE:PATH",
            "labctl cp app.py agent-1:/tmp/, or labctl cp agent-1:/tmp/app.py .",
        )
    if into is not None:
        where = reach(here, lab, into[0]).put(Path(source), into[1])
    elif there is not None:
        where = str(reach(here, lab, there[0]).get(there[1], Path(target)))
    _show_copied(ctx, source, where)


def on_node(text: str, *, windows: bool = os.name == "nt") -> tuple[str, str] | None:
    """The node and the path in `NODE:PATH`; None for a path of this machine. Pure."""
    found = ON_NODE.fullmatch(text)
    if found is None or (windows and len(found[1]) == 1):  # c:\\file
        return None
    return found[1], found[2]


def _show_copied(ctx: typer.Context, source: str, where: str) -> None:
    if options(ctx).json:
        plain.show_json({"from": source, "to": where})
    else:
        plain.result(f"copied to {where}")


def _told(endpoint: Endpoint) -> dict[str, object]:
    return {
        "name": endpoint.name,
        "host": endpoint.host,
        "port": endpoint.port,
        "user": endpoint.user,
        "key": str(endpoint.key_file),
    }
