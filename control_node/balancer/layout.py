"""The folder of one nginx: its files, its first configuration, its test."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from control_node.balancer.model import Routing
from control_node.balancer.render import Settings, generation_of, render
from control_node.balancer.state import State, digest_of, read_state
from labcore import commands, entry, files, nginx
from labcore.errors import DriverFailed
from labcore.wire.lab import Balancer, Route
from labcore.wire.node import NodeConfig

TEST_LIMIT_S = 10.0  # while a lab runs: an interpreted guest that is busy needs more than 2 s
FIRST_TEST_LIMIT_S = 20.0  # at boot, when a small guest is busy with everything else


@dataclass(frozen=True)
class Layout:
    """Where things lie below nginx's prefix."""

    directory: Path

    @classmethod
    def of_node(cls, node: NodeConfig) -> Layout:
        """That of a node's service `nginx`."""
        return cls(Path(node.directory) / "nginx")

    @property
    def conf(self) -> Path:
        """What nginx reads."""
        return self.directory / "nginx.conf"

    @property
    def candidate(self) -> Path:
        """What the scaler has tested by nginx before it becomes `conf`."""
        return self.directory / "candidate.conf"

    @property
    def first(self) -> Path:
        """The same for `prepare`, which may run while the scaler does."""
        return self.directory / "first.conf"

    @property
    def pid(self) -> Path:
        """Written by nginx."""
        return self.directory / "nginx.pid"

    @property
    def state(self) -> Path:
        """What labctl remembers of this nginx."""
        return self.directory / "balancer.json"

    @property
    def temp(self) -> Path:
        """Request and response bodies that do not fit into nginx's memory."""
        return self.directory / "temp"


def settings_for(node: NodeConfig) -> Settings:
    """The settings of a node's nginx, asked from the program. Raises UsageProblem, DriverUnusable.

    Workers run as whoever runs nginx. Only a master that is root may (and must) say so.
    """
    user = None
    if os.geteuid() == 0:
        user = f"{pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name}"
    version = nginx.program_version(node.nginx)
    return Settings(entry.listen_address(node, "nginx"), version, user=user)


def check(program: str, layout: Layout, file: Path, limit_s: float = TEST_LIMIT_S) -> None:
    """Let nginx judge a configuration that lies in its folder.

    Raises DriverFailed with nginx's own lines if it is refused, TimedOut after `limit_s`.
    """
    argv = (program, "-p", str(layout.directory), "-e", "stderr", "-t", "-q", "-c", file.name)
    result = commands.run(argv, timeout_s=limit_s)
    result.check("nginx refuses the configuration", f"look at {file}")


def prepare(node: NodeConfig) -> bool:
    """Make sure that nginx can start: its folders, and a configuration that it accepts.

    The one that is there stays if it was made for the address that the node has now and nginx
    accepts it; else the first one is written, which answers 503, and true is returned. May be
    called, and killed, at any time. Raises LabError if nginx refuses the first one too.
    """
    layout = Layout.of_node(node)
    layout.temp.mkdir(parents=True, exist_ok=True)
    if _listens(layout.conf, entry.listen_address(node, "nginx")):
        try:
            check(node.nginx, layout, layout.conf, FIRST_TEST_LIMIT_S)
            return False
        except DriverFailed:
            pass
    write_first(node, layout)
    return True


def _listens(conf: Path, address: str) -> bool:
    """Whether the configuration was made for that address: the node may have another one now."""
    try:
        return f"listen {address};" in conf.read_text(errors="replace")
    except FileNotFoundError:
        return False


def write_first(node: NodeConfig, layout: Layout) -> None:
    """Replace the configuration by one without backends. Raises LabError."""
    settings = settings_for(node)
    state = read_state(layout.state)
    # Which groups there will be is only known to the scaler.
    routing = Routing((Balancer("first", node.group, (Route("/", "agent"),)),))
    text = render(routing, settings)
    files.write_atomic(layout.first, text)
    check(node.nginx, layout, layout.first, FIRST_TEST_LIMIT_S)
    generation = generation_of(routing, settings)
    State(
        submitted=generation,
        digest=digest_of(text.encode()),
        old_workers=state.old_workers,
        known=state.remembering(generation, {}),
    ).write(layout.state)
    files.write_atomic(layout.conf, text)
