"""Reads VBoxManage's options, of which some take two values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server_manager.drivers.virtualbox.fake.printing import Refused

NO_VALUE = ("--register", "--delete", "--delete-all", "--machinereadable", "--live", "--long")
TWO_VALUES = ("--uart1", "--uart-mode1")


def pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, or values, as one text. Raises Refused for bad usage."""
    left = list(words)
    while left:
        option = left.pop(0)
        if not option.startswith("--"):
            raise Refused(f"Invalid parameter '{option}'", returncode=2)
        count = 0 if option in NO_VALUE else 2 if option in TWO_VALUES else 1
        if option.startswith("--natpf") and left and left[0] == "delete":
            count = 2
        if option == "--uart1" and left and left[0] == "off":
            count = 1
        if len(left) < count:
            raise Refused(f"Missing value for '{option}'", returncode=2)
        yield option, ",".join(left[:count])
        del left[:count]


def options(words: Sequence[str]) -> dict[str, str]:
    """The options of a command that takes each once."""
    return dict(pairs(words))
