"""Names that may reach a command line, a path or a URL."""

from __future__ import annotations

import re

from labcore.errors import UsageProblem

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,30}$"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def is_name(text: object) -> bool:
    """Whether `text` may be the name of a lab, group, node, region or service."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def check_name(text: object, what: str) -> str:
    """Give `text` back if it is a name, else raise UsageProblem naming `what`."""
    if isinstance(text, str) and is_name(text):
        return text
    raise UsageProblem(
        f"{what} {text!r} is not a name",
        "use a small letter, then up to 30 small letters, digits or hyphens",
    )


def node_name(group: str, index: int, single: bool = False) -> str:
    """The name of member `index` (from 1) of a group: `agent-3`; `control` for a group of one."""
    return group if single else f"{group}-{index}"
