"""Removals with a real nginx, the real scaler, and all kinds of requests under way."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from benchmarks.harness.load import Load
from benchmarks.harness.processes import nginx_programs
from control_node.scaler.controller import CUT_AFTER_S
from labcore.wire.event import EventKind
from labcore.wire.lab import Route, Scaling, Wanted
from tests.balancer.conftest import Rig, make_rig, named
from tests.drain.app import App
from tests.drain.clients import Clients, End
from tests.scaler.running import Manager, Scaler, until

pytestmark = pytest.mark.local

KINDS = ("slow", "sse", "websocket", "upload")
STREAMS = ("sse", "websocket")


@dataclass
class Lab:
    """Two agents behind an nginx, and a scaler."""

    rig: Rig
    manager: Manager
    scaler: Scaler

    async def remove_one(self) -> dict[str, float]:
        """Ask for one node less; when that was, and when agent-2 was off (the loop's time)."""
        loop = asyncio.get_running_loop()
        times = {"asked": loop.time()}
        await asyncio.to_thread(self.scaler.desk.scale, 1, None)
        agent = self.manager.agents["agent-2"]
        await asyncio.to_thread(until, lambda: agent.wanted is Wanted.OFF, "agent-2 to be off")
        times["off"] = loop.time()
        return times

    def in_flight(self) -> int:
        """The requests at both agents."""
        return sum(agent.in_flight for agent in self.manager.agents.values())

    def drained(self) -> tuple[str, object]:
        """What was told of the end of the drain, and how many were cut."""
        told = [e for e in self.manager.events if e.kind is EventKind.MEMBERSHIP]
        (event,) = [e for e in told if e.data["change"] == "drained"]
        return event.message, event.data.get("cut", 0)


@pytest.fixture(params=nginx_programs(), ids=named)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = make_rig(request.param, tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def lab(rig: Rig, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    manager = Manager(App)
    manager.scaling = Scaling(min=1, max=3, interval_s=0.5, drain_s=request.param)
    manager.routes = (
        Route("/", "agent"),
        Route("/events", "agent", ("sse",)),
        Route("/ws", "agent", ("websocket",)),
    )
    scaler = Scaler(manager, rig.balancer(), tmp_path)
    try:
        until(lambda: scaler.serving() == ["agent-1", "agent-2"], "both to serve")
        until(lambda: rig.balancer().poll().drained, "nginx to be at rest")
        yield Lab(rig, manager, scaler)
    finally:
        scaler.stop()
        for agent in manager.agents.values():
            agent.off()


def at_agent_2(ends: list[End]) -> list[End]:
    return [end for end in ends if end.node == "agent-2"]


@pytest.mark.parametrize("lab", [12.0], indirect=True)
def test_what_ends_within_the_cap_ends_whole(lab: Lab):
    async def run():
        address = lab.rig.node.listen["nginx"]
        async with aiohttp.ClientSession() as session:
            clients = Clients(session, lab.rig.url)
            for kind in KINDS:
                await clients.open_on_each(kind, seconds=2.5)
                await asyncio.to_thread(until, lambda: lab.in_flight() >= 2, "them to arrive")
            done = asyncio.get_running_loop().create_future()
            busy, idle = Load(address, 8, gap_s=0.03), Load(address, 8, gap_s=2.0)
            loads = [asyncio.create_task(load.run(done)) for load in (busy, idle)]
            times = await lab.remove_one()
            ends = await asyncio.gather(*clients.ends)
            done.set_result(None)
            return times, ends, await asyncio.gather(*loads)

    times, ends, ledgers = asyncio.run(run())
    assert [(end.kind, end.node) for end in ends if not end.whole] == []
    # nginx keeps an upload until it is whole, and only then chooses: by then agent-2 is out.
    assert {end.kind for end in at_agent_2(ends)} >= set(KINDS) - {"upload"}
    # Off as soon as the last of them had ended, long before the cap.
    assert max(end.at for end in ends) < times["off"] < times["asked"] + 10
    for ledger in ledgers:
        assert ledger.sent > 8
        assert +ledger.lost == {}
    assert lab.drained() == ("agent-2 is drained", 0)
    assert lab.manager.agents["agent-2"].in_flight_when_off == 0
    assert lab.manager.agents["agent-2"].was_drained


@pytest.mark.parametrize("lab", [1.5], indirect=True)
def test_what_takes_longer_is_cut_at_the_cap_and_that_is_told(lab: Lab):
    async def run():
        async with aiohttp.ClientSession() as session:
            clients = Clients(session, lab.rig.url)
            for kind in STREAMS:
                await clients.open_on_each(kind, seconds=60)
            times = await lab.remove_one()
            ends = await asyncio.gather(*clients.ends)
            return times, ends

    times, ends = asyncio.run(run())
    cut = at_agent_2(ends)
    assert sorted((end.kind, end.whole) for end in cut) == [("sse", False), ("websocket", False)]
    for end in cut:
        assert times["asked"] + 1.5 <= end.at
        assert end.at < times["off"] + 1
    # Streams of the node that stays hang on nginx's old workers, which go a moment later.
    for end in ends:
        assert end in cut or end.at >= times["asked"] + 1.5 + CUT_AFTER_S
    told = "agent-2 is drained: 2 requests that are still open after 1.5 s are cut"
    assert lab.drained() == (told, 2)
    assert lab.manager.agents["agent-2"].in_flight_when_off == 2
