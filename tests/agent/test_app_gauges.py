"""What the metrics service makes of what an app says, or does not say."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics.api import Sources
from agent.metrics.app_gauges import ASK_AGAIN_S, PATH, AppGauges, Gauges, parse
from agent.metrics.drain import DrainState
from agent.metrics.meters import SystemMeter
from agent.metrics.sampler import Sampler
from labcore.clock import FakeClock

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("body", "gauges"),
    [
        (b'{"in_flight": 3}', Gauges(3)),
        (b'{"in_flight": 0, "queued": 2.5, "users": 7}', Gauges(0, {"queued": 2.5, "users": 7.0})),
        (b"{}", Gauges()),
        (b'{"in_flight": -1}', Gauges()),
        (b'{"in_flight": true, "b": false, "c": null, "d": "1"}', Gauges()),
        (b'{"in_flight": NaN, "x": Infinity, "y": 1e999}', Gauges()),
        (b'{"a b": 1, "1a": 2, "\\u00e4": 3, "": 4, "ok": 5}', Gauges(None, {"ok": 5.0})),
        (b"[]", None),
        (b"3", None),
        (b"<html>", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_takes_numbers_with_good_names_and_nothing_else(body: bytes, gauges: Gauges | None):
    assert parse(body) == gauges


@given(st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_answer_of_an_app_is_a_failure(body: bytes):
    gauges = parse(body)
    assert gauges is None or gauges.in_flight is None or gauges.in_flight >= 0


def test_a_huge_number_is_no_gauge():
    assert parse(b'{"in_flight": 1' + b"0" * 400 + b"}") == Gauges()


def test_no_more_than_64_gauges():
    gauges = parse(json.dumps({f"g{n}": n for n in range(100)} | {"in_flight": 1}).encode())
    assert gauges is not None
    assert gauges.in_flight == 1
    assert len(gauges.others) == 64


class App(ThreadingHTTPServer):
    """An app that answers everything with `answer`, or keeps silent until `silence` is over."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = (200, b'{"in_flight": 1}')
        self.silence = threading.Event()
        self.silence.set()
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: App

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.silence.wait(10)
        status, body = self.server.answer
        with contextlib.suppress(OSError):  # whoever asked does not wait any more
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def app() -> Iterator[App]:
    with App() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.silence.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_every_refresh_asks(app: App, clock: FakeClock, host: str):
    gauges = AppGauges(f"{host}:{app.server_port}", clock)
    assert gauges.latest == Gauges()
    assert gauges.refresh(5) == gauges.latest == Gauges(1)
    app.answer = (200, b'{"in_flight": 0, "queued": 4}')
    assert gauges.refresh(5) == gauges.latest == Gauges(0, {"queued": 4.0})
    assert app.asked == [PATH, PATH]


@pytest.mark.parametrize("answer", [(404, b'{"in_flight": 1}'), (200, b"<html>"), (500, b"")])
def test_an_app_without_gauges_is_left_in_peace(
    app: App, clock: FakeClock, answer: tuple[int, bytes]
):
    gauges = AppGauges(f"127.0.0.1:{app.server_port}", clock)
    app.answer = answer
    for _ in range(5):
        assert gauges.refresh(5) == Gauges()
    assert len(app.asked) == 1
    clock.advance(ASK_AGAIN_S)
    app.answer = (200, b'{"in_flight": 2}')
    assert gauges.refresh(5) == Gauges(2)


def test_what_an_app_said_before_does_not_stand_when_it_falls_silent(app: App, clock: FakeClock):
    gauges = AppGauges(f"127.0.0.1:{app.server_port}", clock)
    assert gauges.refresh(5) == Gauges(1)
    app.silence.clear()
    assert gauges.refresh(0.05) == gauges.latest == Gauges()
    app.silence.set()
    assert gauges.refresh(5) == Gauges(1)


def test_nobody_listens(app: App, clock: FakeClock):
    free = App()
    free.server_close()
    assert AppGauges(f"127.0.0.1:{free.server_port}", clock).refresh(5) == Gauges()


def test_while_the_node_drains_every_question_asks_the_app(
    app: App, clock: FakeClock, tmp_path: Path
):
    """Somebody waits for `in_flight` to be 0: what the last sample knew is too old."""
    sampler = Sampler(SystemMeter(), clock)
    sampler.sample()
    clock.advance(0.5)
    sampler.sample()  # the only sample that is ever taken here
    gauges = AppGauges(f"127.0.0.1:{app.server_port}", clock)
    drain = DrainState(tmp_path / "drain.json", 1.0)
    sources = Sources("agent-1", sampler, gauges, drain, lambda: 1.0)
    gauges.refresh(5)
    app.answer = (200, b'{"in_flight": 0}')
    assert sources.metrics().in_flight == 1
    drain.set(True)
    assert sources.metrics().in_flight == 0
    app.answer = (200, b'{"in_flight": 7}')
    assert sources.metrics().in_flight == 7
    drain.set(False)
    app.answer = (200, b'{"in_flight": 8}')
    assert sources.metrics().in_flight == 7


def test_a_node_without_an_app(clock: FakeClock):
    assert AppGauges(None, clock).refresh(5) == Gauges()
