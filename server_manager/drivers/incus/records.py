"""What we made, noted on this machine: while its member is away, Incus tells no more of an instance
than its name. A note decides nothing about what is there, only whose it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from labcore.codec import decode, encode
from labcore.errors import LabError
from labcore.files import read_json, write_json
from server_manager.drivers.base import ServerRef
from server_manager.drivers.incus.instances import Instance

FILE = "incus.json"


class Records:
    """The notes of one state directory; `directory` is where the files of a server belong."""

    def __init__(self, directory: Callable[[ServerRef], Path]) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._written: dict[ServerRef, Instance] = {}

    def note(self, instance: Instance) -> None:
        """Write down what an instance is; nothing happens if it is known."""
        with self._lock:
            if self._written.get(instance.ref) == instance:
                return
            path = self._directory(instance.ref) / FILE
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(path, encode(instance), mode=0o600)
            self._written[instance.ref] = instance

    def forget(self, ref: ServerRef) -> None:
        """It is gone for good."""
        with self._lock, contextlib.suppress(OSError):
            self._written.pop(ref, None)
            folder = self._directory(ref)
            (folder / FILE).unlink(missing_ok=True)
            folder.rmdir()

    def of(self, lab: str) -> Mapping[str, Instance]:
        """By the name in Incus; notes that cannot be read are none."""
        folder = self._directory(ServerRef(lab, "x", "")).parent
        found: dict[str, Instance] = {}
        for path in sorted(folder.glob(f"*/{FILE}")):
            with contextlib.suppress(OSError, ValueError, LabError):
                instance = decode(Instance, read_json(path))
                found[instance.name] = instance
        return found
