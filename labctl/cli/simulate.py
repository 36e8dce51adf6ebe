"""simulate: try scaling policies on a trace, or on decisions that a scaler recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labcore import codec
from labcore.errors import UsageProblem
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labctl.simulate.command import Experiment


def simulate(
    ctx: typer.Context,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", help="CSV: minute_utc,requests.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="FILE", help="Events, as `events -o json` prints them.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:SETTING=VALUE,...]|LAB.YAML", help="May be given several times."
        ),
    ] = None,
    speed: Annotated[float, typer.Option(help="Replay the trace so many times faster.")] = 6.0,
    boot_s: Annotated[float, typer.Option(help="Seconds until a new node serves.")] = 60.0,
    interval_s: Annotated[float, typer.Option(help="Seconds between decisions.")] = 10.0,
    least: Annotated[int, typer.Option("--min", help="Never fewer nodes.")] = 2,
    most: Annotated[int, typer.Option("--max", help="Never more nodes.")] = 10,
    target_percent: Annotated[float, typer.Option(help="CPU above this is too much.")] = 70.0,
    peak_nodes: Annotated[float, typer.Option(help="Nodes that the busiest minutes need.")] = 9.0,
    noise: Annotated[float, typer.Option(help="Error of measured CPU, relative.")] = 0.05,
    hours: Annotated[str, typer.Option(help="Hours of each day of the trace.")] = "10-22",
    seed: Annotated[int, typer.Option(help="The same seed, the same noise.")] = 1,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw the runs into this SVG file too.")
    ] = None,
) -> None:
    """Try policies on a trace in virtual time (--trace), or on recorded decisions (--replay).

    The policies are those of the lab file, and `brief`: threshold with 3 evaluation periods and
    cooldowns of 300 s out and 600 s in (`memory` has them too). Settings may be changed:
    threshold:cooldown_out_s=0 or, with a timetable,
    schedule:rows=[{"from":"12:00","to":"18:00","count":5}]. A lab file stands for its scaling
    rules, but for min, max and interval_s.
    """
    from labctl.simulate import command

    plan = command.Plan(
        policies=tuple(policy or ()),
        speed=speed,
        boot_s=boot_s,
        interval_s=interval_s,
        min=least,
        max=most,
        target_percent=target_percent,
        peak_nodes=peak_nodes,
        noise=noise,
        hours=hours,
        seed=seed,
    )
    if (trace is None) == (replay is None):
        raise UsageProblem("simulate needs either --trace or --replay")
    if replay is not None:
        answers = command.answers(plan, Path(replay))
        _show(ctx, codec.encode(answers), command.answers_table(answers))
        return
    _show_runs(ctx, command.experiment(plan, Path(str(trace))), plot)


def _show_runs(ctx: typer.Context, done: Experiment, picture: str | None) -> None:
    from labctl.simulate import command

    if picture is not None:
        command.draw(done, Path(picture))
    _show(ctx, codec.encode(done.scores), [*command.scores_table(done.scores), *_plot(ctx, done)])


def _plot(ctx: typer.Context, done: Experiment) -> list[str]:
    if options(ctx).json:
        return []
    from labctl.ui import plot

    return ["", *plot.lines(done.needed, {n: r.serving for n, r in done.runs.items()}, done.most)]


def _show(ctx: typer.Context, data: object, lines: list[str]) -> None:
    if options(ctx).json:
        plain.show_json(data)
    else:
        plain.result("\n".join(lines))
