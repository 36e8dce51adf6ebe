"""`python -m server_manager [--port N]`: serves until it is told to end or has nothing to do."""

from __future__ import annotations

import argparse
import importlib
import logging
import logging.handlers
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import filelock
import psutil

from labcore.clock import Clock, SystemClock
from labcore.errors import Conflict, LabError
from labcore.files import write_json
from labcore.waiting import NotYet, wait_until
from labcore.web import MOST_BODY_BYTES, make_server
from server_manager.app import make_app
from server_manager.core import Core, Drivers, make_core
from server_manager.drivers.registry import DriverContext, make_driver
from server_manager.drivers.registry import names as driver_names
from server_manager.executors import Threads
from server_manager.idle import Idle
from server_manager.manager import Manager
from server_manager.metrics import Metrics
from server_manager.paths import StatePaths
from server_manager.ports import LOOPBACK, holder
from server_manager.probes import HttpProber, Prober
from server_manager.secrets import Redact

DOCUMENTED_PORT = 3000
THREADS = 24  # of these long polls hold 8 at most
LOG_BYTES = 2 * 1024 * 1024
ANOTHER_ENDS_S = 5.0
MOST_LOST_PORTS = 5
FOREVER_S = 10 * 365 * 86400.0
_log = logging.getLogger("server_manager")


def main(argv: list[str] | None = None) -> int:
    """Run one; the exit code of the error tree."""
    parser = argparse.ArgumentParser(prog="python -m server_manager", description=__doc__)
    parser.add_argument("--port", type=int, help="instead of 3000, while no lab exists")
    arguments = parser.parse_args(argv)
    paths, clock = StatePaths.find(), SystemClock()
    context = DriverContext.of(paths, clock, os.environ)
    drivers = Drivers(driver_names(), lambda name, settings: make_driver(name, context, settings))
    return run(paths, drivers, HttpProber(), clock, arguments.port)


def run(paths: StatePaths, drivers: Drivers, prober: Prober, clock: Clock, port: int | None) -> int:
    """Serve one state directory; the exit code. A failure is also left in `manager.json`."""
    paths.make()
    # The one before us may be on its way out.
    lock = filelock.FileLock(paths.running_lock, timeout=ANOTHER_ENDS_S)
    try:
        with lock:
            core = make_core(paths, drivers, prober, clock, Threads())
            configure_log(paths, core)
            serve(core, port)
    except filelock.Timeout:
        print_error(Conflict(f"a server-manager runs already for {paths.root}"))
        return Conflict.exit_code
    except LabError as error:
        write_json(paths.manager, {"pid": os.getpid(), **error.to_wire()})
        print_error(error)
        return error.exit_code
    return 0


def print_error(error: LabError) -> None:
    """To stderr, which a starter has sent into the log."""
    sys.stderr.write(f"server-manager: {error.message}; {error.hint}\n")


def configure_log(paths: StatePaths, core: Core) -> None:
    """Plain lines into `manager.log`, no secret among them."""
    handler = logging.handlers.RotatingFileHandler(paths.log, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(Redact(core.secrets.values))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def serve(core: Core, port: int | None) -> None:
    """Listen, go on with what was begun, answer until SIGTERM or until there is nothing to do."""
    metrics = Metrics()
    manager = Manager(core, metrics.observe)
    metrics.watch(manager)
    idle = Idle(core, manager.runs, manager.images)
    server = listen(core, idle.watch(make_app(manager, metrics)), port)
    url = f"http://{LOOPBACK}:{server.effective_port}"
    core.settings.manager_port = int(server.effective_port)
    stop = threading.Event()

    def told(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
    manager.recover()
    created = psutil.Process().create_time()
    write_json(core.paths.manager, {"pid": os.getpid(), "created": created, "url": url}, mode=0o600)
    _log.info("serving %s from %s", url, core.paths.root)
    threading.Thread(target=server.run, name="waitress", daemon=True).start()
    core.executor.start("warm", warm)
    wait_for_end(core, idle, stop)
    core.events.close()
    server.close()
    core.database.close()
    core.paths.manager.unlink(missing_ok=True)
    _log.info("ended")


def warm() -> None:
    """Import what the first lab file would wait for."""
    importlib.import_module("server_manager.labfile")


def wait_for_end(core: Core, idle: Idle, stop: threading.Event) -> None:
    """Until somebody tells it to end, or nobody needs it any more."""

    def probe() -> None:
        if not stop.is_set() and not idle.is_over():
            raise NotYet

    wait_until(probe, name="the end", limit_s=FOREVER_S, clock=core.clock, interval_s=0.01)


def listen(core: Core, app: Any, port: int | None) -> Any:
    """A bound server. The port is fixed as long as labs exist: their nodes were told it."""
    fixed = core.settings.manager_port if core.labs.count() else None
    if fixed is None:
        return listen_somewhere(core, app, port or DOCUMENTED_PORT)
    if core.ports.is_free(fixed):
        return bound(app, fixed)
    raise Conflict(
        f"port {fixed} of the server-manager is held by {holder(fixed)}",
        "end that program, then try again; the labs that exist know this port",
    )


def listen_somewhere(core: Core, app: Any, wanted: int) -> Any:
    """A bound server on the wanted port, else on a free one. Another program may be quicker to
    take what was free a moment ago: that port is then passed over."""
    lost: set[int] = set()
    while True:
        is_wanted_free = wanted not in lost and core.ports.is_free(wanted)
        candidate = wanted if is_wanted_free else core.ports.free(lost)
        try:
            return bound(app, candidate)
        except Conflict:
            if len(lost) >= MOST_LOST_PORTS:
                raise
            lost.add(candidate)


def bound(app: Any, port: int) -> Any:
    """A server that listens; raises Conflict if somebody was quicker to take the port."""
    try:
        return make_server(
            app, f"{LOOPBACK}:{port}", threads=THREADS, most_body_bytes=MOST_BODY_BYTES
        )
    except OSError as error:
        raise Conflict(f"cannot listen on port {port}: {error.strerror}", "try again") from error


if __name__ == "__main__":
    raise SystemExit(main())
