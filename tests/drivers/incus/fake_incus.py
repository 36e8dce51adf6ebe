"""An Incus that lives in memory and answers as the real one does: in place of its client program.

Answers and error texts are those of Incus 6.0.4; `test_fake_incus` asks both the same questions.
"""

import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labcore.commands import Result
from labcore.errors import TimedOut

Answer = Any
BRIDGE = "labbr0"
MEMBER_CODES = {"Running": 103, "Stopped": 102, "Frozen": 110, "Error": 400}


class Refused(Exception):
    """What the client prints behind `Error: `."""


def _journal(words: Sequence[str]) -> str:
    """A booted container's, whatever container it is."""
    entries = [
        {"UNIT": "labctl-seed.service", "MESSAGE": "Starting labctl-seed.service"},
        {"_SYSTEMD_UNIT": "labctl-seed.service", "MESSAGE": "labctl-seed: applied 0"},
        {"_SYSTEMD_UNIT": "labctl-sleeper.service", "MESSAGE": "up"},
    ]
    unit = next((w.partition("=")[2] for w in words if w.startswith("--unit=")), None)
    return "".join(json.dumps(e) + "\n" for e in entries if unit in (None, *e.values()))


@dataclass
class Container:
    name: str
    project: str
    type: str
    config: dict[str, str]
    devices: dict[str, dict[str, str]]
    profiles: list[str]
    location: str
    status: str = "Stopped"
    files: dict[str, bytes] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        if self.status == "Error":  # its member is away: nobody can be asked
            about = {"config": None, "devices": None, "profiles": None, "type": self.type}
            place = {"name": self.name, "project": self.project, "location": self.location}
            return {**about, **place, "status": "Error", "status_code": 112}
        return {
            "name": self.name,
            "project": self.project,
            "type": self.type,
            "config": dict(self.config),
            "devices": {k: dict(v) for k, v in self.devices.items()},
            "profiles": self.profiles,
            "location": self.location,
            "status": self.status,
            "status_code": MEMBER_CODES[self.status],
        }


class FakeIncus:
    """Called as `labcore.commands.run` is."""

    def __init__(self, *, members: Sequence[str] = (), images: Sequence[str] = ("labguest",)):
        self.containers: dict[tuple[str, str], Container] = {}
        self.members = dict.fromkeys(members, ("Online", "Fully operational"))
        self.images = set(images)
        self.projects = {"default"}
        self.remote = "local"  # as `incus remote switch` set it
        self.networks = {BRIDGE: {"ipv4.address": "10.77.0.1/24", "ipv4.dhcp.ranges": ""}}
        self.calls: list[tuple[str, ...]] = []
        self.failing: list[tuple[str, str]] = []  # method and path's part, what is said: once each
        self.hanging: list[
            tuple[str, str, bool]
        ] = []  # the same, and whether it is done all the same
        self._lock = threading.RLock()

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Result:
        command = tuple(argv)
        with self._lock:
            self.calls.append(command)
            try:
                answer = self._answer(command[1:], stdin, timeout_s)
            except Refused as refusal:
                return Result(command, 1, "", f"Error: {refusal}\n")
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return Result(command, 0, text, "")

    # ------------------------------------------------------------------ what a test may do

    def member_is(self, name: str, status: str, message: str) -> None:
        """A member goes (or comes): its instances are in error, as soon as it is noticed."""
        self.members[name] = (status, message)
        for container in self.containers.values():
            if container.location == name and status != "Online":
                container.status = "Error"

    def one(self, name: str, project: str = "default") -> Container:
        return self.containers[project, name]

    def copy(self, name: str, to: str, project: str = "default") -> Container:
        """As `incus copy`: the labels stay, the UUID does not."""
        old = self.one(name)
        config = {**old.config, "volatile.uuid": str(uuid.uuid4())}
        new = Container(
            to, project, old.type, config, deepcopy(old.devices), old.profiles, old.location
        )
        self.containers[project, to] = new
        return new

    # ------------------------------------------------------------------ the client's commands

    def _answer(self, words: tuple[str, ...], stdin: bytes | None, limit_s: float) -> Answer:
        if words[0] == "query":
            return self._query(words[1:], limit_s)
        if words[:2] == ("file", "push"):
            where = words[-1].partition(":")[2]
            name, _, path = where.partition("/")
            project = words[words.index("--project") + 1]
            self._found(project, name).files[f"/{path}"] = stdin or b""
            return ""
        if words == ("remote", "get-default"):
            return f"{self.remote}\n"
        if words[0] == "exec" and "journalctl" in words:
            return _journal(words)
        raise Refused(f"unknown command {' '.join(words)!r}")

    def _query(self, words: tuple[str, ...], limit_s: float) -> Answer:
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        data = json.loads(words[words.index("--data") + 1]) if "--data" in words else {}
        remote, _, rest = words[-1].partition(":")
        if remote not in ("local", "lc"):
            raise Refused(f'The remote "{remote}" doesn\'t exist')
        parts = urlsplit(rest)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix("/1.0")
        self._go_wrong(method, path, lambda: self._route(method, path, query, data), limit_s)
        return self._route(method, path, query, data)

    def _go_wrong(self, method: str, path: str, do: Callable[[], object], limit_s: float) -> None:
        for plan in [p for p in self.hanging if p[0] == method and p[1] in path][:1]:
            self.hanging.remove(plan)
            if plan[2]:
                do()
            raise TimedOut(f"`incus query` did not end within {limit_s:g} s")
        for place, said in [f for f in self.failing if f[0].split()[0] == method]:
            if place.split()[1] in path:
                self.failing.remove((place, said))
                raise Refused(said)

    def _route(
        self, method: str, path: str, query: Mapping[str, str], data: dict[str, Any]
    ) -> Answer:
        if query.get("project", "default") not in self.projects:
            raise Refused("Project not found")
        words = [word for word in path.split("/") if word]
        routes: dict[str, Callable[..., Answer]] = {
            "": self._server,
            "profiles": self._profile,
            "networks": self._network,
            "cluster": self._cluster,
            "instances": self._instances,
        }
        return routes[words[0] if words else ""](method, words[1:], query, data)

    def _server(self, *_: object) -> Answer:
        environment = {"server_version": "6.0.4", "server_clustered": bool(self.members)}
        return {"environment": environment}

    def _profile(self, method: str, words: list[str], *_: object) -> Answer:
        if words[0] != "default":
            raise Refused("Profile not found")
        nic = {"name": "eth0", "network": BRIDGE, "type": "nic"}
        return {"name": "default", "devices": {"eth0": nic}}

    def _network(
        self, method: str, words: list[str], query: Mapping[str, str], *_: object
    ) -> Answer:
        if words[0] not in self.networks:
            raise Refused("Network not found")
        if words[1:] == ["leases"]:
            return [
                {"address": c.devices["eth0"]["ipv4.address"], "type": "static"}
                for c in self.containers.values()
                if "ipv4.address" in c.devices.get("eth0", {})
                and c.project == query.get("project", "default")
            ]
        return {"name": words[0], "managed": True, "config": self.networks[words[0]]}

    def _cluster(self, *_: object) -> Answer:
        return [
            {"server_name": name, "status": status, "message": message, "groups": ["default"]}
            for name, (status, message) in self.members.items()
        ]

    def _instances(
        self, method: str, words: list[str], query: Mapping[str, str], data: dict[str, Any]
    ) -> Answer:
        project = query.get("project", "default")
        if not words:
            return (
                self._add(project, query, data) if method == "POST" else self._list(project, query)
            )
        found = self._found(project, words[0])
        if words[1:] == ["state"]:
            return self._change(found, data)
        if method == "PATCH":
            found.config.update(data.get("config", {}))
            found.devices.update(data.get("devices", {}))
        elif method == "DELETE":
            if found.status != "Stopped":
                raise Refused("Instance is running")
            del self.containers[project, found.name]
        return found.told()

    def _found(self, project: str, name: str) -> Container:
        if (project, name) not in self.containers:
            raise Refused(
                f'Failed to fetch instance "{name}" in project "{project}": Instance not found'
            )
        return self.containers[project, name]

    def _list(self, project: str, query: Mapping[str, str]) -> Answer:
        key, _, value = query.get("filter", "").removeprefix("config.").partition(" eq ")
        return [
            c.told()
            for (where, _), c in self.containers.items()
            if where == project and (not key or (c.told()["config"] or {}).get(key) == value)
        ]

    def _add(self, project: str, query: Mapping[str, str], data: dict[str, Any]) -> Answer:
        target = query.get("target")
        if target is not None and not self.members:
            raise Refused("Target only allowed when clustered")
        if (project, data["name"]) in self.containers:
            raise Refused(
                "Failed creating instance record: Add instance info to the database: Failed to"
                ' create "instances" entry: UNIQUE constraint failed: instances.project_id,'
                " instances.name"
            )
        if data["source"]["alias"] not in self.images:
            raise Refused("Image not provided for instance creation")
        if data["type"] == "virtual-machine":
            raise Refused(
                'Requested image\'s type "container" doesn\'t match instance type "virtual-machine"'
            )
        self.containers[project, data["name"]] = Container(
            name=data["name"],
            project=project,
            type=data["type"],
            config={"volatile.uuid": str(uuid.uuid4()), **data["config"]},
            devices=data["devices"],
            profiles=data["profiles"],
            location=target or (next(iter(self.members)) if self.members else "none"),
        )
        return {"status": "Success"}

    def _change(self, found: Container, data: dict[str, Any]) -> Answer:
        action, status = data["action"], found.status
        if found.status == "Error":
            raise Refused("Cluster member is offline")
        refusals = {
            ("start", "Running"): "The instance is already running",
            ("stop", "Stopped"): "The instance is already stopped",
            ("freeze", "Stopped"): "The instance isn't running",
            ("freeze", "Frozen"): "The container is already frozen",
            ("unfreeze", "Running"): "The container is already running",
            ("unfreeze", "Stopped"): "The container is already running",
        }
        if (action, status) in refusals:
            raise Refused(refusals[action, status])
        if action == "start":
            self._check_address(found)
        reached = {"start": "Running", "stop": "Stopped", "freeze": "Frozen", "unfreeze": "Running"}
        found.status = reached[action]
        return {"status": "Success"}

    def _check_address(self, found: Container) -> None:
        address = found.devices.get("eth0", {}).get("ipv4.address")
        for other in self.containers.values():
            has = other.devices.get("eth0", {}).get("ipv4.address")
            if other is not found and other.name == found.name:  # of another project
                raise Refused(
                    'Failed start validation for device "eth0": Instance DNS name'
                    f' "{found.name}" already used on network'
                )
            if other is not found and address is not None and has == address:
                raise Refused(
                    f'Failed start validation for device "eth0": IP address "{address}" already'
                    " defined on another NIC"
                )
