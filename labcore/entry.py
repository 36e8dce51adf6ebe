"""How a program of a node begins and ends: its config file, its log, and a stop that loses nothing.

Every program of ours inside a node is `<module> --config node.json`; `run` is its whole main.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labcore import codec, files
from labcore.clock import Clock
from labcore.errors import LabError, UsageProblem
from labcore.wire.node import NodeConfig

log = logging.getLogger(__name__)


def run(name: str, program: Callable[[NodeConfig], None], argv: Sequence[str] | None = None) -> int:
    """Read the node config that `--config` names, run the program, and return the exit code.

    0 when it returned; a LabError becomes one line on stderr (its details below) and its own exit
    code, so a config that cannot be used is 2. An OSError (the address is taken, a folder is
    missing) is 1.
    """
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(levelname)s {name}: %(message)s")
    logging.getLogger("waitress").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--config", required=True, type=Path, help="the node config file")
    path = parser.parse_args(argv).config
    try:
        program(read_config(path))
    except LabError as error:
        hint = f" ({error.hint})" if error.hint else ""
        log.error("%s: %s%s", name, error.message, "\n".join((hint, *error.details)))
        return error.exit_code
    except OSError as error:
        log.error("%s", error)
        return 1
    return 0


def read_config(path: Path) -> NodeConfig:
    """The node config in a file; raises UsageProblem saying which file, where in it, and what."""
    try:
        value = files.read_json(path)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"node config {path}: {error}") from error
    if value is None:
        raise UsageProblem(f"node config {path}: there is no such file")
    return codec.decode(NodeConfig, value, where=str(path))


def listen_address(config: NodeConfig, service: str) -> str:
    """Where a service listens; raises UsageProblem if the node has no such service."""
    if service not in config.listen:
        raise UsageProblem(
            f"node {config.node} has no address for {service!r}",
            f"the config's `listen` has: {', '.join(config.listen) or 'nothing'}",
        )
    return config.listen[service]


def secret(config: NodeConfig, name: str) -> str:
    """The content of one of the node's secrets; raises UsageProblem if it is missing or empty."""
    path = config.secrets.get(name)
    if path is None:
        raise UsageProblem(f"node {config.node} has no secret {name!r}")
    try:
        content = files.read_secret(Path(path))
    except (OSError, ValueError) as error:
        raise UsageProblem(f"secret {name!r}: {error}") from error
    if not content:
        raise UsageProblem(f"secret {name!r}: {path} is empty")
    return content


def serve(server: Any, *, grace_s: float, clock: Clock) -> None:
    """Run a server of `labcore.web.make_server` until SIGTERM or SIGINT, then end it in order.

    Says in the log where it listens; from then on a signal ends it in order: what the kernel has
    already accepted for us is taken, and no more; requests being read, queued, worked on or
    answered are finished, each answer saying `Connection: close`; idle connections are closed.
    After `grace_s` seconds the rest is cut off, with a warning. Main thread only.

    waitress's own `run` cannot do this: its `shutdown` stops the loop that sends the answers.
    """
    stop = threading.Event()

    def told(_signal: int, _frame: object) -> None:
        stop.set()
        server.pull_trigger()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    log.info("listening on %s:%s", server.effective_host, server.effective_port)
    while not stop.is_set():
        _turn(server, 1.0)
    _stop_listening(server)
    until = clock.monotonic() + grace_s
    while server.active_channels and clock.monotonic() < until:
        _turn(server, 0.05)
        for channel in tuple(server.active_channels.values()):
            _let_go(channel)
    if server.active_channels:
        log.warning("%d connections cut off after %g s", len(server.active_channels), grace_s)
    with contextlib.suppress(OSError):
        server.close()


def is_busy(channel: Any) -> bool:
    """Whether a connection of waitress has a request that is read, queued, worked on or answered.

    May be asked from any thread.
    """
    return bool(channel.requests or channel.request is not None or channel.total_outbufs_len)


def _turn(server: Any, timeout_s: float) -> None:
    """Let waitress's loop handle what is ready, waiting at most `timeout_s` for something."""
    server.asyncore.loop(
        timeout=timeout_s, use_poll=server.adj.asyncore_use_poll, map=server._map, count=1
    )


def _stop_listening(server: Any) -> None:
    before = -1
    while before != len(server.active_channels):
        before = len(server.active_channels)
        server.handle_accept()
    # The listening socket alone: the server's own `close` would take the loop's trigger with it.
    server.asyncore.dispatcher.close(server)


def _let_go(channel: Any) -> None:
    for request in tuple(channel.requests):
        request.headers["CONNECTION"] = "close"
    if not is_busy(channel):
        channel.will_close = True
