"""What the shell offers: cheap answers, never an error, never a started server-manager."""

from __future__ import annotations

import contextlib

import typer

from labcore.errors import LabError


def formats() -> list[str]:
    """Values of -o."""
    return ["table", "json"]


def labs() -> list[str]:
    """Names of labs, as the state directory has them."""
    from server_manager.paths import StatePaths

    with contextlib.suppress(OSError):
        return sorted(path.name for path in StatePaths.find().labs.iterdir() if path.is_dir())
    return []


def nodes(ctx: typer.Context) -> list[str]:
    """Names of nodes of the lab, if a server-manager runs."""
    from labctl import session

    with contextlib.suppress(LabError, OSError):
        wanted = ctx.find_root().obj.lab if ctx.find_root().obj else None
        lab = session.look(wanted)
        return [server.name for server in lab.servers] if lab else []
    return []
