"""The entry point: finds the command, turns an error into text and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labcore.errors import Interrupted, LabError
from labctl.cli.options import Options, common_parameters, make_lean
from labctl.cli.table import COMMANDS, Entry

PROGRAM = "labctl"


class Commands(TyperGroup):
    """The commands of the table; a module is imported when its command is used."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """The command of that name, or None. See click."""
        entry = next((entry for entry in COMMANDS if entry.name == cmd_name), None)
        return _build(entry) if entry else None

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """All names, in the order of the help. See click."""
        return [entry.name for entry in COMMANDS]

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """The panels of the help, from the table alone."""
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS):
            with formatter.section(panel):
                rows = [(entry.name, entry.help) for entry in COMMANDS if entry.panel == panel]
                formatter.write_dl(rows, col_max=12)

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Commands first: they are what a reader looks for."""
        self.format_commands(ctx, formatter)
        rows = [record for p in self.get_params(ctx) if (record := p.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """See click; typer guesses at a misspelt name from `commands`, which is empty here."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            self.commands = dict.fromkeys(self.list_commands(ctx))  # type: ignore[assignment]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """See click; Ctrl-C is an error like any other."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


def _build(entry: Entry) -> Any:
    found = getattr(importlib.import_module(entry.module), entry.attribute)
    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(entry.name)(found)
    command: Any = typer.main.get_command(app)
    command.name = entry.name
    command.help = command.help or entry.help
    for leaf in [command, *getattr(command, "commands", {}).values()]:
        leaf.params.extend(common_parameters())
        make_lean(leaf)
    return command


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    name=PROGRAM,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"auto_envvar_prefix": "LABCTL", "help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Stand up a distributed, auto-scaling lab on this machine, scale it, break it, and see why.

    Every option can be set in the environment: LABCTL_LAB, LABCTL_UP_DRIVER, ...
    """


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Results go to stdout, everything else to stderr."""
    command: Any = typer.main.get_command(app)
    command.params[1:1] = common_parameters()
    make_lean(command)
    options = Options()
    try:
        command.main(args=list(arguments), prog_name=PROGRAM, obj=options)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:
        return 1
    except LabError as error:
        return _fail(error, options)
    except Exception as error:
        hint = "this is a fault in labctl: -v shows where"
        wrapped = LabError(f"unexpected {type(error).__name__}: {error}", hint)
        wrapped.__cause__ = error
        return _fail(wrapped, options)
    return 0


def _fail(error: LabError, options: Options) -> int:
    from labctl.ui import plain

    plain.show_error(error, as_json=options.json, verbose=options.verbose)
    return error.exit_code


def run() -> None:
    """The console script."""
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`| head`): no complaint when the interpreter flushes at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
