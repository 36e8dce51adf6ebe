"""The ledger must see a loss, and must not see one where there is none."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.__main__ import names
from benchmarks.harness.app import ANSWER, App
from benchmarks.harness.load import Ledger, Load
from benchmarks.harness.rows import at_least, at_most, table


class Moody(App):
    """An app that does not answer as it should."""

    def __init__(self, answer: bytes, last: bool, made: list[Moody]) -> None:
        self.answer = answer
        self.last = last
        self.gone = asyncio.Event()
        made.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)
        if self.last:
            self.transport.close()


def load(answer: bytes, *, last: bool) -> Ledger:
    async def measured() -> Ledger:
        loop = asyncio.get_running_loop()
        made: list[Moody] = []
        server = await loop.create_server(lambda: Moody(answer, last, made), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        ledger = await Load(f"{host}:{port}", 4, 0.01).run(0.2)
        await asyncio.gather(*(app.gone.wait() for app in made))
        server.close()
        return ledger

    return asyncio.run(measured())


@pytest.mark.parametrize(
    ("answer", "last", "lost"),
    [
        (ANSWER, False, set()),
        (ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), True, set()),
        (ANSWER.replace(b"200 OK", b"502 Bad"), False, {"502"}),
        (b"", True, {"closed"}),
        (ANSWER[:20], True, {"closed"}),
    ],
)
def test_every_request_is_answered_or_lost(answer, last, lost):
    ledger = load(answer, last=last)
    assert ledger.sent > 4
    assert {kind for kind, count in ledger.lost.items() if count} == lost
    assert (ledger.lost.total() == ledger.sent) is bool(lost)
    assert len(ledger.latencies_s) + ledger.lost.total() == ledger.sent


def test_a_bar_is_judged():
    rows = [at_least("a", 1, "x", 2), at_most("b", 1, "x", 2)]
    assert [row.ok for row in rows] == [False, True]
    assert table(rows).splitlines()[1].endswith("MISSED")


def test_what_can_be_run():
    assert {"nginx_price", "reload_loss"} <= set(names())
