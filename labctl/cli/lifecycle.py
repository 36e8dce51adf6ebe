"""up, plan, down, destroy: the life of a whole lab."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labcore.errors import UsageProblem
from labctl.cli.files import SetOption
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labcore.wire.lab import Lab
    from labctl.follow import Run
    from labctl.session import Session
    from labctl.wish import Wish

FileOption = Annotated[
    str | None,
    typer.Option("--file", "-f", help="The lab file (default: ./lab.yaml, else a blueprint)."),
]
DriverOption = Annotated[
    str | None, typer.Option("--driver", help="auto, local, virtualbox or incus.")
]


def up(
    ctx: typer.Context,
    driver: DriverOption = None,
    file: FileOption = None,
    sets: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
) -> None:
    """Stand the lab up. Run it again after anything: it finishes what is missing.

    Without a lab file it goes on with the lab there is, or makes one, that --lab names or `demo`,
    from the autoscale blueprint.
    The first Ctrl-C stops what has not begun, the second leaves at once.
    """
    here, wish = _wish(ctx, file, tuple(sets or ()), driver)
    if dry_run:
        _show_plan(here.manager.request("POST", f"/labs/{wish.lab}/plan", wish.body), ctx)
        return

    def begin() -> int:
        try:
            return here.manager.put_lab(wish.lab, wish.body)
        finally:
            plain.note(wish.why)

    show_up(here, carry_out(here, wish.lab, begin, wish.driver), ctx)


def plan(
    ctx: typer.Context,
    driver: DriverOption = None,
    file: FileOption = None,
    sets: SetOption = None,
) -> None:
    """Show what `up` would do now, and why; changes nothing."""
    here, wish = _wish(ctx, file, tuple(sets or ()), driver)
    _show_plan(here.manager.request("POST", f"/labs/{wish.lab}/plan", wish.body), ctx)


def down(ctx: typer.Context) -> None:
    """Power the lab off and keep its disks; `labctl up` brings it back."""
    from labctl import runs, session
    from labctl.ssh import program

    here = session.connect_if_labs()
    lab = here.lab(options(ctx).lab)
    program.hang_up(here.paths, lab.lab)
    begin = partial(runs.end_of_life, here, lab.lab, here.manager.down)
    carry_out(here, lab.lab, begin, lab.driver)
    plain.note(f"lab {lab.lab} is down; labctl up --lab {lab.lab} brings it back")


def destroy(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the lab and everything that belongs to it. Asks first.

    Adopted machines are released: they stay, as they are, and are no longer labctl's.
    """
    from labctl import session

    here = session.connect_if_labs()
    lab = here.lab(options(ctx).lab)
    if not yes and not _confirmed(lab):
        raise typer.Exit(1)
    end(here, lab)


def end(here: Session, lab: Lab) -> None:
    """Destroy a lab and say what became of it."""
    from labctl import runs
    from labctl.ssh import program

    program.hang_up(here.paths, lab.lab)
    begin = partial(runs.end_of_life, here, lab.lab, here.manager.destroy)
    carry_out(here, lab.lab, begin, lab.driver)
    kept = "; its machines stay as they are" if lab.adopted else ""
    plain.note(f"lab {lab.lab} is gone{kept}")


def _wish(
    ctx: typer.Context, file: str | None, sets: tuple[str, ...], driver: str | None
) -> tuple[Session, Wish]:
    from labctl import session, wish

    # A file is read first: its problems are told without starting anything.
    found = wish.read(Path(file) if file else None, sets, options(ctx).lab)
    here = session.connect()
    lab, source = found or wish.without_file(here, sets, options(ctx).lab)
    return here, wish.make(here, lab, source, driver)


def carry_out(here: Session, lab: str, begin: Callable[[], int], driver: str) -> Run:
    """Begin a run of a lab and show it to its end; raises what it failed with."""
    from labctl import runs
    from labctl.ui.progress import run_progress

    with run_progress(runs.gates_of(here, driver)) as progress:
        return runs.carry_out(here, lab, begin, progress.show)


def _confirmed(lab: Lab) -> bool:
    if not sys.stdin.isatty():
        raise UsageProblem(f"destroy removes lab {lab.lab!r} for good", "say so with --yes")
    count = len(lab.servers)
    what = f"and release its {count} machines" if lab.adopted else f"with its {count} servers"
    return typer.confirm(f"Remove lab {lab.lab!r} {what} for good?", err=True)


def show_up(here: Session, run: Run, ctx: typer.Context) -> None:
    """What is worth to be told of an `up` that succeeded, and the lab as it is now."""
    from labctl import runs, watching
    from labctl.cli.status import show
    from labctl.ui.waterfall import show_waterfall

    for sentence in run.ports:
        plain.note(sentence)
    lab = here.manager.lab(run.lab)
    show_waterfall(run.steps(), runs.gates_of(here, lab.driver))
    view = watching.gather(here, lab)
    if options(ctx).json:
        view["waterfall"] = run.steps()
    show(view, as_json=options(ctx).json)


def _show_plan(answer: object, ctx: typer.Context) -> None:
    if options(ctx).json or not isinstance(answer, dict):
        plain.show_json(answer)
        return
    if not answer["steps"]:
        plain.result(f"lab {answer['lab']}: nothing to do")
        return
    from labctl.ui.tables import show_table

    rows = [(step["node"], step["action"], step["reason"]) for step in answer["steps"]]
    show_table(("NODE", "ACTION", "BECAUSE"), rows)
