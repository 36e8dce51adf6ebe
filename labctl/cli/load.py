"""load: send requests to a lab or to any URL, and account for every one."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Annotated

import typer

from labcore.errors import Conflict, Interrupted, LabError, UsageProblem
from labctl.cli.options import options
from labctl.ui import plain

if TYPE_CHECKING:
    from labctl.load.schedule import Schedule
    from labctl.load.types import LoadPlan, LoadReport

RPS = 50.0
DURATION = "30s"


UrlArgument = Annotated[
    str | None, typer.Argument(metavar="[URL]", help="Default: the lab's load balancer.")
]
RpsOption = Annotated[float | None, typer.Option(help=f"Requests per second (default: {RPS:g}).")]
DurationOption = Annotated[
    str | None, typer.Option(metavar="TIME", help=f"500ms, 30s, 2m (default: {DURATION}).")
]
StepsOption = Annotated[
    str | None,
    typer.Option(
        "--steps",
        "--ramp",
        metavar="STAGES",
        help="RATE:TIME holds, RATE:RATE:TIME ramps: 50:10s,50:200:30s.",
    ),
]
MethodOption = Annotated[str, typer.Option(help="GET, POST, ...")]
PathOption = Annotated[
    str | None, typer.Option(help="Path and query, in place of the URL's: /work?ms=20.")
]
BodyOption = Annotated[str | None, typer.Option(metavar="TEXT", help="What to send.")]
TimeoutOption = Annotated[str, typer.Option(metavar="TIME", help="For one request.")]
KeepaliveOption = Annotated[
    bool, typer.Option("--keepalive/--no-keepalive", help="Use connections again.")
]
ConnectionsOption = Annotated[int, typer.Option(help="At most so many at a time.")]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option("--fail-on", metavar="CONDITION", help="Exit 1 if: failed>0, p95_ms>500."),
]


def load(
    ctx: typer.Context,
    url: UrlArgument = None,
    rps: RpsOption = None,
    duration: DurationOption = None,
    steps: StepsOption = None,
    method: MethodOption = "GET",
    path: PathOption = None,
    body: BodyOption = None,
    timeout: TimeoutOption = "10s",
    keepalive: KeepaliveOption = True,
    connections: ConnectionsOption = 500,
    fail_on: FailOnOption = None,
) -> None:
    """Send requests at their scheduled moments, however late the answers are.

    Nothing is sent twice: a lost request shows. Latency counts from the moment at which a request
    was due. Without a URL the load goes to the lab's load balancer.
    """
    from labctl.load.conditions import parse_condition
    from labctl.load.schedule import parse_duration
    from labctl.load.types import LoadPlan

    conditions = [parse_condition(text) for text in fail_on or ()]
    schedule = _schedule(rps, duration, steps)
    plan = LoadPlan(
        url=_target(url, options(ctx).lab, path),
        schedule=schedule,
        method=method.upper(),
        body=body,
        timeout_s=parse_duration(timeout),
        keepalive=keepalive,
        connections=connections,
    )
    report, interrupted = _carry_out(plan)
    _show(report, as_json=options(ctx).json)
    if interrupted:
        raise Interrupted(f"stopped after {report.sent:,} requests")
    if report.answered == 0 and report.failed == report.sent and not conditions:
        raise LabError(f"no request was answered by {plan.url}", "is it the right URL, and up?")
    broken = tuple(filter(None, (condition.broken_by(report) for condition in conditions)))
    if broken:
        raise LabError("the load shows what it must not: " + "; ".join(broken))


def _schedule(rps: float | None, duration: str | None, steps: str | None) -> Schedule:
    from labctl.load.schedule import constant, parse_duration, parse_schedule

    if steps is None:
        return constant(RPS if rps is None else rps, parse_duration(duration or DURATION))
    if rps is not None or duration is not None:
        raise UsageProblem("--steps says rates and times: leave --rps and --duration out")
    return parse_schedule(steps)


def _target(url: str | None, lab: str | None, path: str | None) -> str:
    if url is not None and lab is not None:
        raise UsageProblem("a URL and --lab: say only one of them")
    base = url or _load_balancer(lab)
    if path is None:
        return base
    if not path.startswith("/"):
        raise UsageProblem(f"--path {path!r} does not begin with /")
    parts = urllib.parse.urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _load_balancer(wanted: str | None) -> str:
    from labctl import session

    lab = session.connect_if_labs().lab(wanted)
    if lab.load_balancer_url is None:
        raise Conflict(f"lab {lab.lab!r} has no load balancer yet", f"labctl up --lab {lab.lab}")
    return lab.load_balancer_url


def _carry_out(plan: LoadPlan) -> tuple[LoadReport, bool]:
    """The report, and whether Ctrl-C ended it early; what was sent is waited for even then."""
    from labcore.clock import SystemClock
    from labctl.load.background import BackgroundLoad
    from labctl.ui.load import load_progress

    with load_progress(plan) as progress:
        running = BackgroundLoad(plan, SystemClock(), progress.show)
        running.start()
        try:
            return running.wait(), False
        except KeyboardInterrupt:
            running.stop()
            return running.wait(), True


def _show(report: LoadReport, *, as_json: bool) -> None:
    from labcore.codec import encode
    from labctl.ui.load import show_report

    if as_json:
        plain.show_json(encode(report))
    else:
        show_report(report)
