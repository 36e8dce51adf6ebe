"""events, explain: what happened, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from labcore.codec import encode
from labctl.cli.options import options
from labctl.ui import plain


def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    last: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last.")] = 100,
    everything: Annotated[bool, typer.Option("--all", help="Of all labs.")] = False,
) -> None:
    """Show what happened, oldest first. With -o json a line of JSON each."""
    from labctl import history, session

    here = session.connect_if_labs()
    lab = None if everything else here.lab(options(ctx).lab).lab
    for event in history.events(here.manager, lab, last, follow=follow):
        if options(ctx).json:
            plain.show_json_line(encode(event))
        else:
            plain.result(history.line(event))


def explain(
    ctx: typer.Context,
    which: Annotated[str, typer.Argument(metavar="[SEQ|last]", help="Which decision.")] = "last",
    last: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many, if last.")] = 1,
    group: Annotated[str | None, typer.Option("--group", help="Only of this group.")] = None,
) -> None:
    """Say why the scaler decided what it did: what it saw, the rule, what stopped it."""
    from labctl import history, session

    here = session.connect_if_labs()
    found = history.decisions(here, here.lab(options(ctx).lab), which, group, last)
    if options(ctx).json:
        plain.show_json([encode(decision) for decision in found])
    else:
        plain.result("\n\n".join(history.explained(decision) for decision in found))
