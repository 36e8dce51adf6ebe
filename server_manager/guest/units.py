"""A unit of the catalogue as systemd text: started again for ever, not root, shut in.

Pure. Every service may write into its own folder and those of the services it starts `after` (the
scaler writes nginx's configuration and asks nginx to judge it), may read its secrets, and sees no
others. Secret environment stands in a file of its own that only root reads, never in the unit.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from labcore.services import Service, Unit
from labcore.wire.node import NodeConfig

SERVICE_USER = "labctl"
PREFIX = "labctl-"
SEED_UNIT = "labctl-seed.service"
RESTART_PAUSE_S = 2
# An interpreted guest needs a minute and a half for one import of Flask.
START_LIMIT_S = 900
FIRST_OPEN_PORT = 1024
BIND = "CAP_NET_BIND_SERVICE"

HARDENING = (
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)
# Not in containers: for these systemd mounts another /proc, which tells the CPU time and memory of
# the host, where that of the container tells its own (lxcfs). Nobody but root could write there.
OWN_PROC = ("ProtectProc=invisible", "ProtectKernelTunables=yes", "ProtectControlGroups=yes")
# Rootless podman maps user ids through newuidmap, which is setuid root, and mounts and makes
# namespaces itself: nothing here may imply NoNewPrivileges or filter system calls. What it runs is
# shut in by podman. The images are where provision.sh loads them, as the same user.
CONTAINERS = "/var/lib/labctl/containers"
CONTAINER_RUN = "labctl-containers"  # below /run
PODMAN = (
    "/usr/bin/podman",
    f"--root={CONTAINERS}/storage",
    f"--runroot=/run/{CONTAINER_RUN}/storage",
    "--storage-driver=overlay",
    "--cgroup-manager=cgroupfs",
)
CONTAINER = (
    "PrivateTmp=yes",
    "DevicePolicy=closed",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectControlGroups=yes",
    "KeyringMode=private",
    # All four are newuidmap's, measured: none of them reaches podman or what it runs.
    "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_DAC_OVERRIDE CAP_SYS_ADMIN",
    f"RuntimeDirectory={CONTAINER_RUN}",
    "RuntimeDirectoryMode=0700",
    f'Environment="XDG_RUNTIME_DIR=/run/{CONTAINER_RUN}"',
)
# Not for a user's own program: it may be compiled while it runs (Node.js, Java, PyPy).
OURS_ONLY = ("MemoryDenyWriteExecute=yes",)


def unit_name(service: str) -> str:
    """The name of the systemd unit of a service."""
    return f"{PREFIX}{service}.service"


def environment_file(node: NodeConfig, service: str) -> str:
    """Where the secret environment of a service stands in the guest."""
    return f"{node.directory}/environment/{service}"


def unit_text(service: Service, unit: Unit, node: NodeConfig) -> str:
    """The content of the unit file. `unit` is `service` made ready for `node`."""
    after = " ".join(map(unit_name, unit.after))
    sections = {
        "Unit": [
            f"Description={escape(f'labctl {unit.name} of {node.node} in lab {node.lab}')}",
            f"After={' '.join(filter(None, (SEED_UNIT, 'network.target', after)))}",
            "StartLimitIntervalSec=0",
        ],
        "Service": [
            *_identity(unit),
            *_life(unit),
            *(f"Environment={quote(f'{key}={value}')}" for key, value in unit.env.items()),
            *([f"EnvironmentFile={environment_file(node, unit.name)}"] if unit.secret_env else []),
            *([f"ExecStartPre={command(unit.prepare)}"] if unit.prepare else []),
            f"ExecStart={command(unit.argv)}",
            *_shut_in(service, unit, node),
            *_paths(service, unit, node),
        ],
        "Install": ["WantedBy=multi-user.target"],
    }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items()
    )


def _identity(unit: Unit) -> list[str]:
    return [
        f"User={SERVICE_USER}",
        f"Group={SERVICE_USER}",
        f"WorkingDirectory={escape(unit.directory)}",
        f"Environment={quote(f'HOME={unit.directory}')}",
        f"SyslogIdentifier={PREFIX}{unit.name}",
    ]


def _life(unit: Unit) -> list[str]:
    return [
        "Restart=always",
        f"RestartSec={RESTART_PAUSE_S}",
        f"TimeoutStartSec={START_LIMIT_S}",
        f"TimeoutStopSec={unit.stop_grace_s:g}",
        f"KillSignal={unit.stop_signal}",
        # The signal is for the main process (nginx's master knows its workers); who is left when
        # the time is over is killed.
        "KillMode=mixed",
    ]


def _shut_in(service: Service, unit: Unit, node: NodeConfig) -> tuple[str, ...]:
    if service.container:
        return CONTAINER
    own_proc = () if node.scope == "container" else OWN_PROC
    ours = OURS_ONLY if service.own_files else ()
    return (*HARDENING, *own_proc, *ours, *_capabilities(unit, node))


def _paths(service: Service, unit: Unit, node: NodeConfig) -> list[str]:
    writable = [unit.directory, *(f"{node.directory}/{name}" for name in unit.after)]
    if service.container:
        writable.append(CONTAINERS)
    lines = [f"ReadWritePaths={' '.join(quote(path) for path in writable)}"]
    files = {node.secrets[name] for name in service.secrets if name in node.secrets}
    if node.secrets and not (files - set(unit.secret_env.values())):
        # Nothing that it opens itself: what is in its environment is read before it runs.
        folder = PurePosixPath(next(iter(node.secrets.values()))).parent
        lines.append(f"InaccessiblePaths=-{escape(str(folder))}")
    return lines


def _capabilities(unit: Unit, node: NodeConfig) -> list[str]:
    """What a service needs to listen below 1024, or to let one that does try its configuration."""
    addresses = (node.listen.get(name, "") for name in (unit.name, *unit.after))
    ports = [int(address.rpartition(":")[2]) for address in addresses if address]
    if any(port < FIRST_OPEN_PORT for port in ports):
        return [f"CapabilityBoundingSet={BIND}", f"AmbientCapabilities={BIND}"]
    return ["CapabilityBoundingSet=", "AmbientCapabilities="]


def command(argv: tuple[str, ...]) -> str:
    """An argv as systemd runs it, word by word: no variables (`:`), no specifiers, no shell."""
    return " ".join((quote(":" + argv[0]), *map(quote, argv[1:])))


def quote(word: str) -> str:
    """A word in double quotes that systemd reads as that word."""
    inner = escape(word).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\x{ord(m[0]):02x}", inner) + '"'


def escape(text: str) -> str:
    """Text in which systemd finds no specifiers."""
    return text.replace("%", "%%")


def environment_text(values: dict[str, str]) -> str:
    """An EnvironmentFile that sets these variables to exactly these values."""
    return "".join(f"{key}={_quote_value(value)}\n" for key, value in values.items())


def _quote_value(value: str) -> str:
    return '"' + re.sub(r'(["\\$`])', r"\\\1", value) + '"'
