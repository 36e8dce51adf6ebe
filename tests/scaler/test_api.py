"""The API on a real waitress, over a desk whose server-manager is in memory."""

import threading

import pytest

from control_node.scaler.api import make_app
from control_node.scaler.desk import Desk
from control_node.scaler.hands import Wishes
from control_node.scaler.types import SetCount
from labcore.clock import FakeClock
from labcore.codec import decode
from labcore.errors import Conflict, LabError, NotFound, Unauthorized, UsageProblem
from labcore.http_client import call, call_json
from labcore.web import MOST_BODY_BYTES, make_server
from labcore.wire.scaler import (
    Action,
    BalancerStatus,
    Decision,
    GroupStatus,
    ScalerStatus,
)

TOKEN = "scaler-api-secret"
AT = "2026-01-01T00:00:00.000Z"


class Manager:
    """Takes wishes; refuses what it is told to refuse. Nothing here needs the rest of it."""

    def __init__(self) -> None:
        self.wishes: list[tuple[str, int | None, str | None]] = []
        self.refusal: LabError | None = None

    def set_group(self, lab, group, *, desired_count=None, mode=None):
        if self.refusal is not None:
            raise self.refusal
        self.wishes.append((group, desired_count, mode))

    def lab(self, lab):
        raise NotImplementedError

    def power(self, server, action):
        raise NotImplementedError

    def server_action(self, lab, name, action):
        raise NotImplementedError

    def post_event(self, event):
        raise NotImplementedError


def group(name="agent", **changes):
    values = {"mode": "auto", "policy": "threshold", "min": 2, "max": 5, "desired_count": 2}
    return GroupStatus(
        name, **{**values, **changes}, serving=2, cooldown_remaining_s=0.0,
        last_decision=None, removal=None,
    )  # fmt: skip


def status(*groups):
    return ScalerStatus("demo", AT, True, BalancerStatus("g1", {}), groups, ())


class Api:
    def __init__(self) -> None:
        self.manager = Manager()
        self.clock = FakeClock()
        self.wishes = Wishes("demo", self.manager, self.clock)
        self.woken = 0
        self.resets: list[str] = []
        self.desk = Desk(self.wishes, status(group()), wake=self._wake, reset=self.resets.append)
        app = make_app(self.desk, frozenset({"127.0.0.1"}), TOKEN)
        self.server = make_server(app, "127.0.0.1:0", most_body_bytes=MOST_BODY_BYTES)
        self.url = f"http://127.0.0.1:{self.server.effective_port}"
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def _wake(self):
        self.woken += 1

    def get(self, path):
        return call_json("GET", self.url + path, token=TOKEN)

    def post(self, path, body):
        return call_json("POST", self.url + path, body, token=TOKEN)


@pytest.fixture(scope="module")
def served():
    api = Api()
    yield api
    api.server.close()
    api.thread.join(10)


@pytest.fixture
def api(served):
    served.desk.show(status(group()), ())
    served.manager.wishes, served.manager.refusal, served.woken = [], None, 0
    return served


def test_only_the_root_is_open(api):
    assert call_json("GET", api.url + "/") == {"service": "scaler-api", "status": "running"}
    for method, path in [("GET", "/status"), ("GET", "/decisions"), ("POST", "/scale")]:
        with pytest.raises(Unauthorized):
            call_json(method, api.url + path, {} if method == "POST" else None)


def test_status_is_a_scaler_status(api):
    assert decode(ScalerStatus, api.get("/status")) == status(group())


def test_scale_writes_count_and_manual_then_wakes_the_loop(api):
    answer = decode(GroupStatus, api.post("/scale", {"count": 4}))
    assert (answer.desired_count, answer.mode) == (4, "manual")
    assert api.manager.wishes == [("agent", 4, "manual")]
    assert api.woken == 1


@pytest.mark.parametrize(("count", "named"), [(99, "maximum is 5"), (1, "minimum is 2")])
def test_scale_outside_the_limits_names_them_and_writes_nothing(api, count, named):
    with pytest.raises(UsageProblem, match=named):
        api.post("/scale", {"count": count})
    assert api.manager.wishes == []


@pytest.mark.parametrize(
    "body", [{}, {"count": "3"}, {"count": True}, {"count": 3.5}, {"count": 3, "x": 1}, [], None, 7]
)
def test_bad_bodies_are_400_with_a_reason(api, body):
    with pytest.raises(UsageProblem) as caught:
        api.post("/scale", body)
    assert caught.value.message


def test_a_body_that_is_not_json_is_400(api):
    code, raw = call("POST", api.url + "/scale", token=TOKEN)
    assert code == 400
    assert b"not JSON" in raw


def test_mode_is_written(api):
    api.desk.show(status(group(mode="manual")), ())
    answer = decode(GroupStatus, api.post("/mode", {"mode": "auto"}))
    assert answer.mode == "auto"
    assert api.manager.wishes == [("agent", None, "auto")]
    with pytest.raises(UsageProblem, match="auto, manual"):
        api.post("/mode", {"mode": "wild"})


def test_a_reset_is_handed_on(api):
    answer = decode(GroupStatus, api.post("/reset", {}))
    assert (answer.group, answer.breaker, api.resets) == ("agent", None, ["agent"])


def test_a_group_must_be_named_where_there_are_several(api):
    api.desk.show(status(group("east"), group("west", max=9)), ())
    with pytest.raises(UsageProblem, match="say which"):
        api.post("/scale", {"count": 3})
    with pytest.raises(NotFound, match="north"):
        api.post("/scale", {"count": 3, "group": "north"})
    api.post("/scale", {"count": 9, "group": "west"})
    assert api.manager.wishes == [("west", 9, "manual")]


def test_before_the_lab_is_known_it_is_409(api):
    api.desk.show(status(), ())
    with pytest.raises(Conflict, match="does not know"):
        api.post("/scale", {"count": 3})


def test_what_the_server_manager_refuses_comes_through(api):
    api.manager.refusal = Conflict("lab 'demo' is not to be up", "labctl up")
    with pytest.raises(Conflict, match="not to be up"):
        api.post("/scale", {"count": 3})
    assert api.woken == 0


def test_decisions_newest_last(api):
    made = [
        Decision(n, AT, "east" if n % 2 else "west", "threshold", Action.HOLD, 2, 2, ("calm",))
        for n in range(1, 31)
    ]
    api.desk.show(status(group()), made)
    assert len(api.get("/decisions")["decisions"]) == 20
    told = api.get("/decisions?group=east&limit=2")["decisions"]
    assert [d["seq"] for d in told] == [27, 29]
    for limit in ("0", "-1", "x", "1e3"):
        with pytest.raises(UsageProblem, match="limit"):
            api.get(f"/decisions?limit={limit}")


def test_unknown_paths_are_404_in_json(api):
    with pytest.raises(NotFound):
        api.get("/nothing")


def test_a_policy_that_looked_before_a_person_spoke_has_no_say(api):
    looked = api.clock.monotonic()
    api.clock.advance(1)
    api.post("/scale", {"count": 4})
    with pytest.raises(Conflict, match="a person"):
        api.wishes.by_policy(SetCount("agent", 3, looked))
    api.clock.advance(1)
    api.wishes.by_policy(SetCount("agent", 3, api.clock.monotonic()))
    assert [w[1] for w in api.manager.wishes] == [4, 3]
