"""The collector against real servers, most of which misbehave."""

import asyncio
import json
import math

import pytest

from control_node.scaler import collector as collector_module
from control_node.scaler import fetch
from control_node.scaler.collector import Collector, Target, read_sample
from control_node.scaler.fetch import Reply
from labcore.clock import SystemClock

GOOD = {
    "cpu": 45.2,
    "memory": {"total": 8, "available": 4, "percent": 50.0},
    "status": "active",
    "node": "agent-1",
    "seq": 17,
    "uptime_s": 93.1,
    "in_flight": 3,
    "gauges": {"sessions": 2.0},
}


def answer(body: bytes = b"", status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


class Server:
    """Answers each request with `reply`, whatever it is; None: never."""

    def __init__(self, reply: bytes | None, *, then_close: bool = False) -> None:
        self.reply = reply
        self.then_close = then_close
        self.requests: list[bytes] = []
        self.open: set[asyncio.Transport] = set()
        self.connections = 0
        self.address = ""

    async def __aenter__(self) -> "Server":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for transport in self.open:
            transport.abort()
        await self._server.wait_closed()


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server

    def connection_made(self, transport) -> None:
        self.server.connections += 1
        self.server.open.add(transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.server.requests.append(data)
        if self.server.reply is not None:
            self.transport.write(self.server.reply)
        if self.server.then_close:
            self.transport.close()


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL_S", 0.4)
    monkeypatch.setattr(fetch, "CONNECT_S", 0.3)


def probe_of(reply: bytes | None, **options):
    """What the collector makes of an app that answers so."""

    async def ask():
        async with Server(reply, **options) as server:
            collector = Collector(SystemClock(), lambda: None)
            await collector.sweep([Target("agent-1", server.address, None)])
            collector.close()
            return collector.probes["agent-1"]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("reply", "health"),
    [
        (answer(b"ok"), "ok"),
        (answer(status="204 No Content"), "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        (answer(b"no", "503 Service Unavailable"), "bad"),
        (answer(b"", "302 Found"), "bad"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", "bad"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "bad"),
        (b"x" * (70 * 1024), "bad"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "timeout"),
        (b"HTTP/1.1 20", "timeout"),
        (None, "timeout"),
    ],
)
def test_what_an_answer_says_of_health(reply, health):
    probe = probe_of(reply)
    assert probe.health == health
    assert (probe.failures, bool(probe.reason)) == ((0, False) if health == "ok" else (1, True))


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
def test_a_connection_closed_before_its_answer_is_bad(reply):
    assert probe_of(reply, then_close=True).health == "bad"


def test_a_trickle_does_not_move_the_deadline():
    async def ask():
        async with Server(b"") as server:
            collector = Collector(SystemClock(), lambda: None)
            began = asyncio.get_running_loop().time()
            collector.ask([Target("a", server.address, None)], every_s=1, urgent_s=1)
            while "a" not in collector.probes:
                for transport in server.open:
                    transport.write(b"H")
                await asyncio.sleep(0.02)
            took = asyncio.get_running_loop().time() - began
            collector.close()
            return collector.probes["a"].health, took

    health, took = asyncio.run(ask())
    assert health == "timeout"
    assert fetch.TOTAL_S <= took < 3 * fetch.TOTAL_S


def test_those_that_wait_for_a_turn_are_not_late(monkeypatch):
    monkeypatch.setattr(fetch, "MOST_ASKING", 1)

    async def ask():
        async with Server(None) as silent, Server(answer(b"ok")) as quick:
            collector = Collector(SystemClock(), lambda: None)
            targets = [Target(f"silent-{i}", silent.address, None) for i in range(2)]
            await collector.sweep([*targets, Target("quick", quick.address, None)])
            collector.close()
            return {name: probe.health for name, probe in collector.probes.items()}

    assert asyncio.run(ask()) == {"silent-0": "timeout", "silent-1": "timeout", "quick": "ok"}


def test_where_nothing_listens_is_refused():
    async def ask():
        async with Server(b"") as server:
            address = server.address
        collector = Collector(SystemClock(), lambda: None)
        await collector.sweep([Target("agent-1", address, None)])
        await collector.sweep([Target("agent-1", address, None)])
        collector.close()
        return collector.probes["agent-1"]

    probe = asyncio.run(ask())
    assert (probe.health, probe.failures) == ("refused", 2)


def test_one_connection_is_kept_and_a_closed_one_is_replaced_without_a_failure():
    async def ask():
        async with Server(answer(b"ok")) as server:
            collector = Collector(SystemClock(), lambda: None)
            target = Target("agent-1", server.address, None)
            for _ in range(3):
                await collector.sweep([target])
            kept = server.connections
            server.then_close = True  # closes after the next answer, as idle servers do
            for _ in range(3):
                await collector.sweep([target])
            collector.close()
            return kept, server.connections, collector.probes["agent-1"]

    kept, all_in_all, probe = asyncio.run(ask())
    assert kept == 1
    assert all_in_all == 3
    assert (probe.health, probe.failures) == ("ok", 0)


def test_a_silent_node_delays_no_other():
    async def ask():
        async with Server(None) as silent, Server(answer(b"ok")) as quick:
            answered = asyncio.Event()
            collector = Collector(SystemClock(), answered.set)
            targets = [Target("a", silent.address, None), Target("b", quick.address, None)]
            collector.ask(targets, every_s=1, urgent_s=1)
            await answered.wait()
            seen = dict(collector.probes)
            collector.close()
            return seen

    seen = asyncio.run(ask())
    assert seen["b"].health == "ok"
    assert "a" not in seen


def test_it_asks_no_more_often_than_told_but_urgent_ones():
    async def ask():
        async with Server(answer(b"ok")) as calm, Server(answer(b"ok")) as urgent:
            collector = Collector(SystemClock(), lambda: None)
            collector.urgent = frozenset({"b"})
            targets = [Target("a", calm.address, None), Target("b", urgent.address, None)]
            for _ in range(4):
                collector.ask(targets, every_s=60, urgent_s=0)
                await asyncio.sleep(0.05)
            collector.close()
            return len(calm.requests), len(urgent.requests)

    calm, urgent = asyncio.run(ask())
    assert calm == 1
    assert urgent > 1


def test_a_forgotten_node_is_gone_with_its_connections():
    async def ask():
        async with Server(None) as server:
            collector = Collector(SystemClock(), lambda: None)
            collector.ask([Target("a", server.address, None)], every_s=1, urgent_s=1)
            await asyncio.sleep(0.05)
            collector.keep_only(frozenset())
            await collector.sweep([])
            collector.close()
            return dict(collector.probes)

    assert asyncio.run(ask()) == {}


def test_samples_grow_old_when_their_seq_stands_still():
    async def ask():
        async with Server(answer(json.dumps(GOOD).encode())) as server:
            collector = Collector(SystemClock(), lambda: None)
            target = Target("agent-1", None, server.address)
            await collector.sweep([target])
            first = collector.probes["agent-1"]
            await collector.sweep([target])
            again = collector.probes["agent-1"]
            server.reply = answer(json.dumps({**GOOD, "seq": 18}).encode())
            await collector.sweep([target])
            collector.close()
            return first, again, collector.probes["agent-1"]

    first, again, later = asyncio.run(ask())
    assert first.metrics is not None
    assert first.metrics.cpu == 45.2
    assert again.changed_at == first.changed_at
    assert again.metrics_asked_at > first.metrics_asked_at
    assert later.changed_at > first.changed_at
    assert later.cpu_history == (45.2, 45.2)


def body(**changes) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"not json", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[]", "expected an object"),
        (b"{}", "missing"),
        (body(cpu=math.nan), "not a number"),
        (body(cpu=math.inf), "not a number"),
        (body(cpu="45"), "expected float"),
        (body(cpu=-1), "cpu -1 %"),
        (body(cpu=101), "cpu 101 %"),
        (body(memory={"total": 1, "available": 1, "percent": 120}), "memory 120 %"),
        (body(memory={"total": -1, "available": 1, "percent": 1}), "negative memory"),
        (body(seq=-1), "negative seq"),
        (body(in_flight=-1), "in_flight"),
        (body(node="agent-2"), "it is 'agent-2'"),
        (body(status="asleep"), "asleep"),
    ],
)
def test_nonsense_is_no_sample_and_says_why(raw, problem):
    sample, why = read_sample("agent-1", Reply(200, raw))
    assert sample is None
    assert problem in why


def test_an_unknown_in_flight_is_a_sample():
    sample, why = read_sample("agent-1", Reply(200, body(in_flight=None)))
    assert sample is not None
    assert (sample.in_flight, why) == (None, "")


def test_the_last_good_sample_stays_beside_the_reason_for_no_new_one():
    good = collector_module.with_metrics("agent-1", None, 1.0, Reply(200, body()))
    after = collector_module.with_metrics(
        "agent-1", good, 2.0, Reply(problem="timeout", reason="x")
    )
    assert after.metrics == good.metrics
    assert (after.changed_at, after.metrics_problem) == (1.0, "x")


def test_many_at_once(monkeypatch):
    monkeypatch.setattr(fetch, "CONNECT_S", 20.0)
    monkeypatch.setattr(fetch, "TOTAL_S", 20.0)

    async def ask():
        async with Server(answer(b"ok")) as server:
            collector = Collector(SystemClock(), lambda: None)
            await collector.sweep(Target(f"n-{i}", server.address, None) for i in range(300))
            collector.close()
            return [p.health for p in collector.probes.values()]

    assert asyncio.run(ask()) == ["ok"] * 300
