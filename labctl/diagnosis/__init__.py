"""What `doctor` says of this machine. Nothing is started and nothing changed.

What is read of the machine (`facts`) is apart from what it means: the rest is pure, so that Windows
and macOS are tested on any machine.
"""

from __future__ import annotations

from labcore.clock import SystemClock
from labctl.diagnosis import budget, clocks, drivers, machine, remains, virtualbox
from labctl.diagnosis.check import Check
from labctl.diagnosis.facts import read_facts
from server_manager.paths import StatePaths


def examine() -> list[Check]:
    """Look at everything, in the order of the report."""
    paths = StatePaths.find()
    facts = read_facts(paths)
    made = drivers.make(paths)
    back_ends = drivers.examine(made)
    return [
        *machine.examine(paths),
        *clocks.examine(facts, SystemClock().now()),
        *remains.examine(paths, made),
        *back_ends,
        *virtualbox.examine(facts, back_ends),
        *budget.examine(facts, back_ends),
    ]
