"""Asks the services of nodes how they are, from where the host stands."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Protocol

from labcore.codec import decode
from labcore.errors import LabError
from labcore.http_client import call, call_json
from labcore.services import Service
from labcore.web import split_address
from labcore.wire.scaler import ScalerStatus

PROBE_TIMEOUT_S = 2.0
# sshd starts a process for whoever knocks, and a guest may be fifty times as slow as a laptop:
# who goes away earlier never hears it.
GREETING_TIMEOUT_S = 30.0


class Prober(Protocol):
    """What the core asks besides drivers. No call raises; each is bounded by seconds."""

    def unhealthy(self, services: tuple[Service, ...], endpoints: Mapping[str, str]) -> str:
        """Why not all services are ready; "" when they are. `endpoints`: service -> address."""
        ...

    def serving(self, scaler_url: str, token: str, nodes: frozenset[str]) -> frozenset[str]:
        """Those of `nodes` that nginx sends requests to, as the scaler says; none if it is mute."""
        ...

    def refused(self, url: str) -> str:
        """Why a request through the load balancer was not served; "" when it was."""
        ...

    def mute(self, address: str) -> str:
        """Why no SSH server greets there; "" when one does."""
        ...


class HttpProber:
    """The real one."""

    def unhealthy(self, services: tuple[Service, ...], endpoints: Mapping[str, str]) -> str:
        """See Prober."""
        for service in services:
            if service.health_path is None:
                continue
            address = endpoints.get(service.name)
            if address is None:
                return f"{service.name} has no address yet"
            why = _not_ok(f"http://{address}{service.health_path}")
            if why:
                return f"{service.name}: {why}"
        return ""

    def serving(self, scaler_url: str, token: str, nodes: frozenset[str]) -> frozenset[str]:
        """See Prober."""
        try:
            answer = call_json(
                "GET", f"{scaler_url}/status", token=token, timeout_s=PROBE_TIMEOUT_S
            )
            backends = decode(ScalerStatus, answer).balancer.backends
        except LabError:
            return frozenset()
        return nodes.intersection(node for group in backends.values() for node in group)

    def refused(self, url: str) -> str:
        """See Prober. A user's own app may know no such page: that is an answer too."""
        try:
            status, _ = call("GET", url, timeout_s=PROBE_TIMEOUT_S)
        except LabError as error:
            return error.message
        return "" if status < 500 else f"{url} answers {status}"

    def mute(self, address: str) -> str:
        """See Prober. A forward of VirtualBox accepts whether or not somebody listens behind it."""
        host, port = split_address(address)
        try:
            with socket.create_connection((host, port), timeout=GREETING_TIMEOUT_S) as connection:
                said = connection.recv(256)
        except OSError as error:
            return f"{address}: {error}"
        return "" if said.startswith(b"SSH-") else f"{address} does not greet"


def _not_ok(url: str) -> str:
    try:
        status, _ = call("GET", url, timeout_s=PROBE_TIMEOUT_S)
    except LabError as error:
        return error.message
    return "" if status == 200 else f"{url} answers {status}"


class FakeProber:
    """Goes with the fake driver: all is well but what a test or a simulation says is not."""

    def __init__(self) -> None:
        self.sick: set[str] = set()  # addresses of services that are not ready
        self.unrouted: set[str] = set()  # nodes that nginx does not send requests to
        self.silent: set[str] = set()  # addresses where no SSH server greets
        self.refusal = ""  # what a request through the load balancer gets instead of an answer

    def unhealthy(self, services: tuple[Service, ...], endpoints: Mapping[str, str]) -> str:
        """See Prober."""
        return next((f"{a} is sick" for a in endpoints.values() if a in self.sick), "")

    def serving(self, scaler_url: str, token: str, nodes: frozenset[str]) -> frozenset[str]:
        """See Prober."""
        return nodes - self.unrouted

    def refused(self, url: str) -> str:
        """See Prober."""
        return self.refusal

    def mute(self, address: str) -> str:
        """See Prober."""
        return f"{address} does not greet" if address in self.silent else ""
