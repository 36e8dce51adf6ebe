"""start, stop, pause, resume, kill, logs, exec: one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli import completion
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labcore.wire.lab import Lab
    from labctl.session import Session

NodeArgument = Annotated[
    str, typer.Argument(help="Its name, e.g. agent-1.", autocompletion=completion.nodes)
]


def start(ctx: typer.Context, node: NodeArgument) -> None:
    """Turn a node on; an agent comes into rotation when it is healthy."""
    here, lab = find_lab(ctx)
    plain.result(here.manager.power(f"{lab.lab}/{node}", "on"))


def stop(
    ctx: typer.Context,
    node: NodeArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Pull the plug: a fault, which is healed.")
    ] = False,
) -> None:
    """Drain a node and turn it off; an agent's group then has one node fewer."""
    here, lab = find_lab(ctx)
    if force:
        here.manager.server_action(lab.lab, node, "kill")
        plain.result(f"{node} was stopped by force; {_healer(lab, node)}")
    else:
        plain.result(here.manager.power(f"{lab.lab}/{node}", "off"))


def pause(ctx: typer.Context, node: NodeArgument) -> None:
    """Freeze a node: it is taken out of rotation and left alone."""
    _act(ctx, node, "pause", "is paused")


def resume(ctx: typer.Context, node: NodeArgument) -> None:
    """Let a frozen node go on."""
    _act(ctx, node, "resume", "goes on")


def kill(ctx: typer.Context, node: NodeArgument) -> None:
    """Let a node die at once. That is a fault: watch the lab heal it."""
    here, lab = find_lab(ctx)
    here.manager.server_action(lab.lab, node, "kill")
    plain.result(f"{node} was killed; {_healer(lab, node)}")


def logs(
    ctx: typer.Context,
    node: NodeArgument,
    service: Annotated[
        str | None, typer.Argument(help="Only of this; `console`: of the boot console of a VM.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
) -> None:
    """Show the last lines of what a node's services said."""
    from labctl.reach import reach

    here, lab = find_lab(ctx)
    for line in reach(here, lab, node).logs(service, lines, follow=follow):
        plain.show_json_line(line) if options(ctx).json else plain.result(line)


def exec_(
    ctx: typer.Context,
    node: NodeArgument,
    command: Annotated[list[str], typer.Argument(help="The program and its arguments.")],
) -> None:
    """Run a command on a node: labctl exec agent-1 -- ls -l. Its exit code is ours.

    On a machine of its own it gets no terminal; labctl ssh agent-1 -- top gives it one.
    """
    from labctl.reach import reach

    here, lab = find_lab(ctx)
    raise typer.Exit(reach(here, lab, node).execute(command))


def find_lab(ctx: typer.Context) -> tuple[Session, Lab]:
    """The server-manager and the lab that a command is about."""
    from labctl import session

    here = session.connect_if_labs()
    return here, here.lab(options(ctx).lab)


def _healer(lab: Lab, node: str) -> str:
    """Who brings a dead node back: the scaler, but not the node on which it runs itself."""
    if any(server.name == node and server.role == "control" for server in lab.servers):
        return f"labctl up --lab {lab.lab} repairs it"
    return "labctl status --watch shows it heal"


def _act(ctx: typer.Context, node: str, action: str, done: str) -> None:
    here, lab = find_lab(ctx)
    here.manager.server_action(lab.lab, node, action)
    plain.result(f"{node} {done}")
