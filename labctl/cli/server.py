"""server, api: the server-manager itself."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from labcore.errors import UsageProblem
from labctl.cli.options import options
from labctl.ui import plain

server = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Start, stop or show the server-manager; commands start it by themselves.",
)


@server.command("start")
def start(ctx: typer.Context) -> None:
    """Start it in the background; nothing happens if it runs."""
    from labctl import session

    _show(ctx, {"running": True, "url": session.connect().manager.url})


@server.command("stop")
def stop(ctx: typer.Context) -> None:
    """Stop it. Labs go on, but nothing is made, healed or removed until it runs again."""
    from labcore.clock import SystemClock
    from server_manager import starter
    from server_manager.paths import StatePaths

    stopped = starter.stop(StatePaths.find(), SystemClock())
    plain.note("the server-manager has stopped" if stopped else "no server-manager runs")


@server.command("status")
def status(ctx: typer.Context) -> None:
    """Show whether it runs, and where."""
    from labctl import session
    from server_manager.paths import StatePaths

    manager = session.running(StatePaths.find())
    _show(ctx, {"running": manager is not None, "url": manager.url if manager else None})


@server.command("token")
def token(ctx: typer.Context) -> None:
    """Print the token that its API wants."""
    from labcore.files import read_secret
    from labctl import session

    found = read_secret(session.connect().paths.admin_token)
    plain.show_json({"token": found}) if options(ctx).json else plain.result(found)


def api(
    ctx: typer.Context,
    method: Annotated[str, typer.Argument(help="GET, POST, PUT, PATCH or DELETE.")],
    path: Annotated[str, typer.Argument(help="Below /api/v1, e.g. /labs; or a whole path.")],
    body: Annotated[str | None, typer.Argument(help="JSON.")] = None,
) -> None:
    """Call the server-manager's API with your token, and print the answer."""
    from labctl import session

    try:
        given = None if body is None else json.loads(body)
    except ValueError as error:
        raise UsageProblem(f"the body is not JSON: {error}") from error
    answer = session.call_api(session.connect(), method.upper(), path, given)
    plain.result(answer) if isinstance(answer, str) else plain.show_json(answer)


def _show(ctx: typer.Context, found: dict[str, object]) -> None:
    if options(ctx).json:
        plain.show_json(found)
    else:
        plain.result(f"running at {found['url']}" if found["running"] else "not running")
