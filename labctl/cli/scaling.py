"""scale, autoscale: how many agents there are, and who decides that."""

from __future__ import annotations

from typing import Annotated

import typer

from labcore.errors import UsageProblem
from labctl.cli.options import options
from labctl.ui import plain

ACTION_HELP = "on, off, status, or reset: make nodes again after failed boots."
GroupOption = Annotated[
    str | None, typer.Option("--group", help="Which group (default: the one that is scaled).")
]


def scale(
    ctx: typer.Context,
    count: Annotated[int, typer.Argument(help="How many nodes.")],
    group: GroupOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", help="Seconds to wait until they serve (default: time for two boots)."
        ),
    ] = None,
) -> None:
    """Set the number of agents and wait until that many serve.

    The group is in manual mode from then on; `labctl autoscale on` gives the wheel back.
    """
    from labctl import resize, session

    here = session.connect_if_labs()
    lab = here.lab(options(ctx).lab)
    done = resize.scale(here, lab, group, count, limit_s=timeout, tell=plain.note)
    if options(ctx).json:
        plain.show_json(done)
    else:
        plain.result(f"{done['group']}: {count} serve; mode is manual now")
        plain.note("labctl autoscale on lets the policy decide again")


def autoscale(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(help=ACTION_HELP, metavar="on|off|status|reset")],
    group: GroupOption = None,
) -> None:
    """Let the policy decide the number of agents (on), or stop it (off).

    After many failed boots in a row the scaler makes no nodes for a while; `reset` ends that.
    """
    from labctl import resize, session

    if action not in ("on", "off", "status", "reset"):
        raise UsageProblem(f"autoscale {action!r}", "allowed: on, off, status, reset")
    here = session.connect_if_labs()
    lab = here.lab(options(ctx).lab)
    if action == "reset":
        resize.reset(here, lab, group)
    elif action != "status":
        resize.set_mode(here, lab, group, "auto" if action == "on" else "manual")
        lab = here.manager.lab(lab.lab)
    rows = resize.modes(lab, group)
    if options(ctx).json:
        plain.show_json({"groups": rows})
    for row in rows if not options(ctx).json else ():
        plain.result(
            f"{row['group']}: {row['mode']}, policy {row['policy']}, {row['count']} nodes"
            f" (min {row['min']}, max {row['max']})"
        )
