"""The server-manager's HTTP API, as labctl and the scaler call it.

Every method raises the LabError that the server-manager answered with, or Unreachable.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping

from labcore.codec import decode, encode
from labcore.errors import LabError
from labcore.http_client import call_bytes, call_json
from labcore.wire.event import Event
from labcore.wire.image import Image, ImageWish
from labcore.wire.lab import AdoptedNode, Lab, LabElsewhere, Mode, Server

# A driver may take 30 s to say how its servers are; a server-manager that is gone is told at once.
READ_LIMIT_S = 40.0
# A wish asks the driver how it is, and is on the disk before it is answered.
WISH_LIMIT_S = 60.0
IMAGE_LIMIT_S = 300.0  # a step of an earlier build ends first


class ManagerClient:
    """One server-manager at `url`, with one token."""

    def __init__(self, url: str, token: str | None, *, timeout_s: float = READ_LIMIT_S) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    def request(
        self, method: str, path: str, body: object = None, *, timeout_s: float | None = None
    ) -> object:
        """Any call: `path` begins below `/api/v1`. The JSON value of the answer."""
        return call_json(
            method,
            f"{self.url}/api/v1{path}",
            body,
            token=self._token,
            timeout_s=timeout_s or self._timeout_s,
        )

    def is_alive(self) -> bool:
        """Whether a server-manager answers at the URL."""
        try:
            answer = call_json("GET", self.url + "/", timeout_s=2.0)
        except LabError:
            return False
        return isinstance(answer, dict) and answer.get("service") == "server-manager-api"

    def lab(self, lab: str) -> Lab:
        """One lab, with all its groups and servers."""
        return decode(Lab, self.request("GET", f"/labs/{lab}"))

    def labs(self) -> tuple[Lab, ...]:
        """All labs of this user."""
        answer = self.request("GET", "/labs")
        return decode(tuple[Lab, ...], answer["labs"])  # type: ignore[index]

    def elsewhere(self) -> tuple[LabElsewhere, ...]:
        """Labs of others that are to be seen in the back ends of this user's labs."""
        answer = self.request("GET", "/elsewhere")
        return decode(tuple[LabElsewhere, ...], answer["labs"])  # type: ignore[index]

    def put_lab(self, lab: str, spec: Mapping[str, object]) -> int:
        """Wish for a lab; the number of the run, whose end is a `lab` event with that `run`."""
        return _run(self.request("PUT", f"/labs/{lab}", spec, timeout_s=WISH_LIMIT_S))

    def lab_file(self, lab: str) -> dict[str, object]:
        """The lab file, as JSON, of the last wish for a lab."""
        answer = self.request("GET", f"/labs/{lab}/file")
        return dict(answer) if isinstance(answer, dict) else {}

    def adopt(
        self, lab: str, file: Mapping[str, object], machines: Mapping[str, str]
    ) -> tuple[AdoptedNode, ...]:
        """Register machines (node -> name or id) as a lab."""
        body = {"file": file, "machines": machines}
        answer = self.request("PUT", f"/labs/{lab}/adoption", body, timeout_s=WISH_LIMIT_S)
        return decode(tuple[AdoptedNode, ...], answer["nodes"])  # type: ignore[index]

    def adoption_seed(self, lab: str, node: str) -> bytes:
        """The seed of an adopted node, as a tar."""
        url = f"{self.url}/api/v1/labs/{lab}/adoption/seeds/{node}"
        return call_bytes("GET", url, token=self._token, timeout_s=WISH_LIMIT_S)

    def finish_adoption(self, lab: str) -> int:
        """Every node has its seed: want the lab up; the number of the run."""
        path = f"/labs/{lab}/adoption/finish"
        return _run(self.request("POST", path, timeout_s=WISH_LIMIT_S))

    def down(self, lab: str) -> int:
        """Wish for its power to be off; the number of the run."""
        return _run(self.request("POST", f"/labs/{lab}/down", timeout_s=WISH_LIMIT_S))

    def destroy(self, lab: str) -> int:
        """Wish for it to be gone; the number of the run."""
        return _run(self.request("DELETE", f"/labs/{lab}", timeout_s=WISH_LIMIT_S))

    def cancel(self, lab: str) -> None:
        """Stop what a run has not begun yet."""
        self.request("POST", f"/labs/{lab}/cancel")

    def set_group(
        self, lab: str, group: str, *, desired_count: int | None = None, mode: Mode | None = None
    ) -> None:
        """Write how many nodes a group should have, or who decides that."""
        wish: dict[str, object] = {}
        if desired_count is not None:
            wish["desired_count"] = desired_count
        if mode is not None:
            wish["mode"] = mode
        self.request("PATCH", f"/labs/{lab}/groups/{group}", wish)

    def power(self, server: str, action: str, *, timeout_s: float = 90.0) -> str:
        """Turn a server (`agent-3`, or `lab/agent-3`) `on` or `off`; the status sentence."""
        body = {"action": action, "server": server}
        answer = self.request("POST", "/servers/power", body, timeout_s=timeout_s)
        return str(answer["status"]) if isinstance(answer, dict) else ""

    def server_action(self, lab: str, name: str, action: str, *, timeout_s: float = 90.0) -> None:
        """`pause`, `resume` or `kill` a server; for a scaler `standby`, and `pause` of such."""
        self.request("POST", f"/servers/{lab}/{name}/{action}", timeout_s=timeout_s)

    def server(self, lab: str, name: str) -> Server:
        """One server."""
        return decode(Server, self.request("GET", f"/servers/{lab}/{name}"))

    def events(
        self, lab: str | None = None, *, after: int = 0, wait_s: float = 0.0, limit: int = 1000
    ) -> tuple[Event, ...]:
        """Events with a higher `seq` than `after`, oldest first; waits up to `wait_s` for one."""
        query = {"after": after, "wait_s": wait_s, "limit": limit, **({"lab": lab} if lab else {})}
        path = f"/events?{urllib.parse.urlencode(query)}"
        answer = self.request("GET", path, timeout_s=self._timeout_s + wait_s)
        return decode(tuple[Event, ...], answer["events"])  # type: ignore[index]

    def post_event(self, event: Event) -> None:
        """Add an event to the lab's history."""
        self.request("POST", "/events", encode(event))

    def put_image(self, driver: str, name: str, wish: ImageWish) -> int:
        """Wish for an image; the number of the run, whose end is an `image` event with it."""
        path = f"/images/{driver}/{name}"
        return _run(self.request("PUT", path, encode(wish), timeout_s=IMAGE_LIMIT_S))

    def images(self) -> tuple[Image, ...]:
        """All images."""
        answer = self.request("GET", "/images", timeout_s=WISH_LIMIT_S)
        return decode(tuple[Image, ...], answer["images"])  # type: ignore[index]

    def image(self, driver: str, name: str) -> Image:
        """One image."""
        path = f"/images/{driver}/{name}"
        return decode(Image, self.request("GET", path, timeout_s=WISH_LIMIT_S))

    def image_action(self, driver: str, name: str, action: str, body: object = None) -> None:
        """`cancel` a build; or tell it that we are `working` in its builder, or how that ended:
        `provisioned`, with the error of an error answer if it failed."""
        self.request("POST", f"/images/{driver}/{name}/{action}", body)

    def remove_image(self, driver: str, name: str) -> None:
        """Remove an image, whose build is stopped first."""
        self.request("DELETE", f"/images/{driver}/{name}", timeout_s=IMAGE_LIMIT_S)


def _run(answer: object) -> int:
    run = answer.get("run") if isinstance(answer, dict) else None
    if not isinstance(run, int):
        raise LabError(f"the server-manager's answer names no run: {answer!r}")
    return run
