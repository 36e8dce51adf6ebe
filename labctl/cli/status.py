"""status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from labctl.cli.options import options
from labctl.ui import plain


def status(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All labs, one line each.")] = False,
) -> None:
    """Show the lab: its nodes, their load, who is routed to, the last decision.

    Says what does not work, names what mends it, and still exits with 0: the state is then
    `degraded`.
    """
    from labctl import session, watching

    here = session.connect_if_labs()
    if everything:
        _show_all(watching.gather_all(here), as_json=options(ctx).json)
        return
    lab = here.lab(options(ctx).lab)
    if watch:
        _watch(watching.views(here, lab.lab), as_json=options(ctx).json)
    else:
        show(watching.gather(here, lab), as_json=options(ctx).json)


def show(view: dict[str, object], *, as_json: bool) -> None:
    """One view of a lab as the result."""
    if as_json:
        plain.show_json(view)
        return
    from labctl.ui import status as screen

    screen.show(view)


def _show_all(labs: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        plain.show_json({"labs": labs})
        return
    from labctl.ui import status as screen

    screen.show_labs(labs)


def _watch(views: Iterator[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        for view in views:
            plain.show_json_line(view)
        return
    from labctl.ui import status as screen

    screen.watch(views)
