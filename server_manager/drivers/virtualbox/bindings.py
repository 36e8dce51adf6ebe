"""How all machines are, by VirtualBox's own Python bindings: 1 ms a machine; VBoxManage takes 35.

A call into the bindings (`vboxapi`) cannot be given up, and hangs while VBoxSVC does. So a helper
makes them, in whichever Python here has the bindings, and is killed when it does not answer in
time. Nothing depends on it: who gets no answer asks VBoxManage. Read only.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Mapping

from labcore.clock import Clock
from labcore.commands import Companion
from labcore.errors import LabError
from server_manager.drivers.virtualbox.machines import INACCESSIBLE, Machine
from server_manager.drivers.virtualbox.states import MEANINGS

# Names the Python that has the bindings, where it is none of those on PATH.
PYTHON_VARIABLE = "LABCTL_VBOX_PYTHON"
USUAL = ("python3", "vboxpython3", "python")
BEGIN_LIMIT_S = 10.0  # to import the bindings and find VBoxSVC, which may have to start
ASK_LIMIT_S = 2.0
AGAIN_S = 30.0  # after a failure; until then VBoxManage does it all
# What `showvminfo` calls states whose name is not just that of the API in small letters.
WORDS = {
    "PoweredOff": "poweroff",
    "AbortedSaved": "aborted-saved",
    "Stuck": "gurumeditation",
    "DeletingSnapshotOnline": "deletingsnapshotlive",
    "DeletingSnapshotPaused": "deletingsnapshotlivepaused",
}

HELPER = """
import json, sys
from vboxapi import VirtualBoxManager
manager = VirtualBoxManager(None, None)
box = manager.getVirtualBox()
named = manager.constants.all_values("MachineState")
# Some of a number's names are those of ranges: FirstOnline is Running.
states = {value: name for name, value in named.items() if not name.startswith(("First", "Last"))}
def told(machine):
    if not machine.accessible:
        return [machine.id, "", "", machine.settingsFilePath, "", machine.accessError.text]
    state = states.get(int(machine.state), str(machine.state))
    return [machine.id, machine.name, state, machine.settingsFilePath, machine.logFolder, ""]
for line in sys.stdin:
    found = [] if line == "begin\\n" else [told(m) for m in manager.getArray(box, "machines")]
    print(json.dumps(found), flush=True)
"""


class Bindings:
    """One helper for all who ask. It is looked for in the background: until it is there, and where
    there is none, `machines` knows nothing."""

    def __init__(self, search_path: str, environ: Mapping[str, str], clock: Clock) -> None:
        named = environ.get(PYTHON_VARIABLE)
        self._pythons = (named,) if named else _pythons(search_path)
        self._clock = clock
        self._lock = threading.Lock()
        self._helper: Companion | None = None
        self._is_beginning = False
        self._next_try = float("-inf")

    def machines(self) -> tuple[Machine, ...] | None:
        """Every machine of this user, without `info`; None: ask VBoxManage."""
        with self._lock:
            if self._helper is None:
                self._begin()
                return None
            try:
                return parse(self._helper.ask("machines", limit_s=ASK_LIMIT_S))
            except (LabError, ValueError):
                self._helper.end()
                self._helper, self._next_try = None, self._clock.monotonic() + AGAIN_S
                return None

    def _begin(self) -> None:
        if self._is_beginning or self._clock.monotonic() < self._next_try:
            return
        self._is_beginning = True
        threading.Thread(target=self._look, name="vboxapi", daemon=True).start()

    def _look(self) -> None:
        found = next(filter(None, map(_helper, self._pythons)), None)
        with self._lock:
            self._helper, self._is_beginning = found, False
            if found is None:
                self._next_try = self._clock.monotonic() + AGAIN_S


def _pythons(search_path: str) -> tuple[str, ...]:
    """All of them: the first is often that of a virtual environment, which has no bindings."""
    found = (
        shutil.which(name, path=folder)
        for folder in search_path.split(os.pathsep)
        for name in USUAL
    )
    return tuple(dict.fromkeys(python for python in found if python))


def _helper(python: str) -> Companion | None:
    try:
        helper = Companion((python, "-c", HELPER))
        helper.ask("begin", limit_s=BEGIN_LIMIT_S)
    except LabError:
        return None
    return helper


def parse(said: str) -> tuple[Machine, ...]:
    """The machines that a helper tells of. Raises ValueError, also for states that nobody knows."""
    found = []
    for one in json.loads(said):
        uuid, name, state, settings, logs, problem = map(str, one)
        word = INACCESSIBLE if problem else WORDS.get(state, state.lower())
        if word not in MEANINGS:
            raise ValueError(f"state {state!r}")
        found.append(Machine(uuid, name or "<inaccessible>", word, settings, logs, problem))
    return tuple(found)
