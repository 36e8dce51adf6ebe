"""doctor."""

from __future__ import annotations

import typer

from labctl.cli.options import options
from labctl.ui import plain


def doctor(ctx: typer.Context) -> None:
    """Check this machine: what works, what does not, why, and how to mend it.

    Ends with 5 if no lab can run here, with 1 if something else is wrong, with 0 otherwise.
    """
    from labctl.diagnosis import examine
    from labctl.diagnosis.check import exit_code, lines

    checks = examine()
    if options(ctx).json:
        plain.show_json({"checks": [check.to_json() for check in checks]})
    else:
        for line in lines(checks):
            plain.result(line)
    raise typer.Exit(exit_code(checks))
