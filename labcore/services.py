"""The catalogue of services: each program described once, run as a child process or as a unit.

A service is a template; a driver, which knows its own paths and programs, turns it into a `Unit`.
Placeholders in `argv`, `prepare` and `env` values: `{config}` the node config file, `{dir}` the
service's own folder, `{nginx}` the nginx program, `{address}` `{host}` `{port}` what to listen on.
An `env` value `secret:NAME` becomes the content of the node's secret NAME when the service starts.
An argv that begins with `{module}` runs a Python module of ours: what follows is the module's name;
with `{podman}`, a container.
"""

from __future__ import annotations

import dataclasses
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labcore.errors import UsageProblem
from labcore.files import read_secret
from labcore.wire.node import NodeConfig

SECRET_PREFIX = "secret:"  # noqa: S105 - how an env value says that it names one


@dataclass(frozen=True)
class HostPort:
    """Which port of the host leads to a service: `base`, plus the node's number for agents."""

    base: int
    plus_index: bool = False


@dataclass(frozen=True)
class Service:
    """One program on a node."""

    name: str
    argv: tuple[str, ...]
    port: int | None = None  # inside the node
    host_port: HostPort | None = None
    health_path: str | None = None  # answers 200 when the service is ready
    prepare: tuple[str, ...] | None = None  # run to its end before every start
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()  # services of the same node that start before it
    stop_signal: int = signal.SIGTERM
    stop_grace_s: float = 5.0
    secrets: tuple[str, ...] = ()  # names (labcore.wire.node) of secrets it reads
    own_files: bool = True  # runs our code: needs the node program
    container: bool = False  # runs a container image: podman on the node, `with_image`


NGINX = Service(
    name="nginx",
    argv=("{nginx}", "-p", "{dir}", "-e", "stderr", "-c", "nginx.conf", "-g", "daemon off;"),
    prepare=("{module}", "control_node.balancer", "--config", "{config}"),
    port=80,
    host_port=HostPort(8080),
    health_path="/.labctl/health",  # the generation beside it is told to loopback only
    stop_signal=3,  # SIGQUIT, a name that Windows does not know
)
SCALER = Service(
    name="scaler",
    argv=("{module}", "control_node.scaler", "--config", "{config}"),
    port=5200,
    host_port=HostPort(5200),
    health_path="/",
    after=("nginx",),
    secrets=("scaler-token", "scaler-api-token", "agent-token"),
)
METRICS = Service(
    name="metrics",
    argv=("{module}", "agent.metrics", "--config", "{config}"),
    port=5100,
    host_port=HostPort(5100, plus_index=True),
    health_path="/health",
    secrets=("agent-token",),
)
APP = Service(
    name="app",
    argv=("{module}", "agent.app", "--config", "{config}"),
    port=5000,
    host_port=HostPort(5000, plus_index=True),
    health_path="/health",
    env={"PORT": "{port}", "HOST": "{host}"},
    stop_grace_s=35.0,
)
SSH_PORT = 22
SSH_HOST_PORTS = {"control": HostPort(2223), "agent": HostPort(2223, plus_index=True)}

CATALOGUE: Mapping[str, Service] = {s.name: s for s in (NGINX, SCALER, METRICS, APP)}


def service(name: str) -> Service:
    """The service of that name; raises UsageProblem with the known ones."""
    if name not in CATALOGUE:
        raise UsageProblem(f"unknown service {name!r}", f"known: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def with_command(base: Service, command: str, env: Mapping[str, str]) -> Service:
    """A user's own program in place of `base`: same ports, health path and life, other argv."""
    return dataclasses.replace(
        base,
        argv=tuple(shlex.split(command)),
        env={**base.env, **env},
        own_files=False,
    )


def with_image(base: Service, image: str, env: Mapping[str, str]) -> Service:
    """A container image in place of `base`, run by podman: same port, health path and life.

    It runs as uid 1000 inside, whatever user it names; what is in `env` reaches it, by no argv. It
    is never pulled: the node has it, or the service fails and says so.
    """
    env = {**base.env, **env}
    return dataclasses.replace(
        base,
        argv=(
            "{podman}",
            "run",
            "--rm",
            "--replace",
            f"--name=labctl-{base.name}",
            "--pull=never",
            # The node's own network: its firewall is the border, and no byte is copied twice.
            "--network=host",
            # systemd limits and ends the whole service; podman needs no cgroups of its own for it.
            "--cgroups=disabled",
            "--log-driver=passthrough",
            "--user=1000:1000",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--env=LABCTL_*",
            *(f"--env={key}" for key in env),
            image,
        ),
        env=env,
        own_files=False,
        container=True,
    )


@dataclass(frozen=True)
class Unit:
    """A service made ready for one node: nothing left to fill in."""

    name: str
    argv: tuple[str, ...]
    prepare: tuple[str, ...] | None
    env: Mapping[str, str]
    directory: str
    after: tuple[str, ...]
    stop_signal: int
    stop_grace_s: float
    secret_env: Mapping[str, str] = field(default_factory=dict)  # variable -> file with its value

    def environment(self) -> dict[str, str]:
        """`env`, with the content of the secret files that are to stand in it. Raises OSError."""
        return {**self.env, **{k: read_secret(Path(p)) for k, p in self.secret_env.items()}}


@dataclass(frozen=True)
class Runtime:
    """What a driver knows of the machine a node runs on."""

    # runs a module of ours: ("python3", "-I", "-m") or, with the node program as a folder,
    # ("python3", "-I", "/opt/labctl")
    module: tuple[str, ...]
    config: str  # the node config file
    podman: tuple[str, ...] = ("podman",)  # the program with its global options


def make_unit(service: Service, node: NodeConfig, runtime: Runtime) -> Unit:
    """Fill in a service's placeholders for one node. Pure; unknown ones stay as they are."""
    directory = f"{node.directory}/{service.name}"
    address = node.listen.get(service.name, "")
    host, _, port = address.rpartition(":")
    values = {
        "config": runtime.config,
        "dir": directory,
        "nginx": node.nginx,
        "address": address,
        "host": host,
        "port": port,
    }
    plain, secret = {}, {}
    for key, text in service.env.items():
        if text.startswith(SECRET_PREFIX):
            secret[key] = node.secrets[text.removeprefix(SECRET_PREFIX)]
        else:
            plain[key] = _fill(text, values)
    about = {"LABCTL_LAB": node.lab, "LABCTL_NODE": node.node, "LABCTL_REGION": node.region}
    return Unit(
        name=service.name,
        argv=_fill_argv(service.argv, values, runtime),
        prepare=_fill_argv(service.prepare, values, runtime) if service.prepare else None,
        env={**about, **plain},
        directory=directory,
        after=service.after,
        stop_signal=int(service.stop_signal),
        stop_grace_s=service.stop_grace_s,
        secret_env=secret,
    )


def _fill_argv(
    argv: tuple[str, ...], values: Mapping[str, str], runtime: Runtime
) -> tuple[str, ...]:
    programs = {"{module}": runtime.module, "{podman}": runtime.podman}
    head = programs.get(argv[0], (_fill(argv[0], values),))
    return (*head, *(_fill(word, values) for word in argv[1:]))


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace `{name}` for the known names only: a user's command may hold other braces."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text
