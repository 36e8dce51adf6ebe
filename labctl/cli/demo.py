"""demo: a narrated run from nothing to a report, and back to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labcore.errors import Conflict, Interrupted, LabError
from labctl.cli.files import SetOption
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labctl.report.recording import Recording
    from labctl.session import Session
    from labctl.wish import Wish


def demo(
    ctx: typer.Context,
    driver: Annotated[
        str, typer.Option("--driver", help="auto, local, virtualbox or incus.")
    ] = "local",
    sets: SetOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab standing.")] = False,
    report: Annotated[
        str, typer.Option(metavar="FILE", help="Where the HTML report goes; JSON beside it.")
    ] = "demo-report.html",
) -> None:
    """Stand a lab up, load it until it grows, let it shrink, and report how it went.

    Takes about two minutes. Exit code 0 only if an agent joined, an agent left, and no request
    was lost. Ctrl-C removes the lab and still writes the report.
    """
    from labctl import session
    from labctl.demo import output
    from labctl.demo.play import Play
    from labctl.demo.settings import SETTINGS, Script
    from labctl.ui.demo import stage

    page = Path(report)
    output.check_path(page)
    settings = (*SETTINGS, *(sets or ()))
    plain.note("with " + " ".join(f"--set {setting}" for setting in settings))
    here = session.connect()
    wish = _wish(here, options(ctx).lab, settings, driver)
    try:
        with stage() as narrator:
            play = Play(here, wish, settings, narrator, Script())
            recording, problem = play.perform()
    except KeyboardInterrupt:  # the second: the first is a problem that perform gives back
        raise Interrupted("left at once", f"labctl destroy --lab {wish.lab}") from None
    written = output.write(recording, page)
    _show(recording, as_json=options(ctx).json)
    if keep:
        plain.note(f"lab {wish.lab} stands; labctl destroy --lab {wish.lab} removes it")
    else:
        play.destroy()
    plain.note("report: " + " ".join(map(str, written)))
    _judge(recording, problem)


def _wish(here: Session, lab: str | None, settings: tuple[str, ...], driver: str) -> Wish:
    """A lab of the blueprint, never one that is there already."""
    from labctl import blueprints, wish
    from labctl.demo.settings import free_name
    from server_manager import labfile

    taken = {known.lab for known in here.manager.labs()}
    if lab in taken:
        raise Conflict(f"lab {lab!r} exists already", "the demo makes a lab of its own")
    source = f"blueprint {blueprints.DEFAULT}"
    text = blueprints.text(blueprints.DEFAULT)
    file = labfile.parse(text, source, settings, lab=lab or free_name(taken))
    return wish.make(here, file, source, driver)


def _show(recording: Recording, *, as_json: bool) -> None:
    from labcore.codec import encode
    from labctl.report.story import summarise
    from labctl.ui.demo import show_summary

    summary = summarise(recording)
    if as_json:
        plain.show_json(encode(summary))
    else:
        show_summary(summary)


def _judge(recording: Recording, problem: LabError | None) -> None:
    from labctl.report.page import verdict
    from labctl.report.story import summarise

    summary = summarise(recording)
    if problem is not None:
        raise problem
    if not summary.succeeded:
        raise LabError(f"the demo did not succeed: {verdict(summary)}", "the report shows why")
