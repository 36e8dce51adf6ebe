"""Lab files that ship with labctl. The first line of each is a comment: its title."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from labcore.errors import Conflict, NotFound, UsageProblem
from labcore.files import write_atomic
from labcore.names import check_name

DEFAULT = "autoscale"
_FIRST = """\
# A lab: one control node (load balancer, scaler) and agents that grow and shrink in number.
lab: {lab}

# Everything below has a default; uncomment what you want to change. `labctl schema` lists all.
# driver: auto            # auto | local | virtualbox | incus
# scaling:
#   min: 2                # never fewer agents
#   max: 5                # never more
#   out: {{cpu_percent: 70, memory_percent: 80}}   # one more when ANY is above
#   in: {{cpu_percent: 30, memory_percent: 40}}    # one fewer when ALL are below
# app: {{command: "node server.js"}}   # yours; it listens on $HOST:$PORT and answers GET /health
"""


def names() -> tuple[str, ...]:
    """The blueprints, by name."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def text(name: str) -> str:
    """The lab file of a blueprint. Raises NotFound with the known ones."""
    if name not in names():
        raise NotFound(f"there is no blueprint {name!r}", f"known: {', '.join(names())}")
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def titles() -> dict[str, str]:
    """Name and title of each blueprint."""
    return {name: text(name).splitlines()[0].lstrip("# ") for name in names()}


def write_first(path: Path, lab: str, *, force: bool) -> None:
    """Write the lab file that `labctl init` gives to people. Raises Conflict if there is one."""
    check_name(lab, "lab")
    if path.exists() and not force:
        raise Conflict(f"{path} exists already", "labctl up uses it; --force writes over it")
    if not path.parent.is_dir():
        raise UsageProblem(f"there is no folder {path.parent}")
    write_atomic(path, _FIRST.format(lab=lab))
