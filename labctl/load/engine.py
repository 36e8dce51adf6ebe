"""Sends requests at their scheduled moments, whatever became of the earlier ones (open model)."""

from __future__ import annotations

import asyncio
import errno
import threading
import urllib.parse
from collections.abc import Callable

import aiohttp
import yarl

from labcore.clock import Clock, rfc3339
from labcore.errors import UsageProblem
from labctl.load.recorder import Outcome, Recorder
from labctl.load.types import LoadPlan, LoadReport, Progress

BACKEND_HEADER = "X-Labctl-Backend"
LOOK_S = 0.1  # how long a stop may go unseen
LOCAL_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class _Lost(Exception):
    """The connection ended before the answer did; nobody may send this request again."""


def run_load(
    plan: LoadPlan,
    clock: Clock,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> LoadReport:
    """Carry out a plan and account for every request. Blocks; works in any thread.

    No request is ever sent twice, redirects are not followed. `on_progress` is called about once a
    second, in this thread, and must be quick. When `stop` is set (by anybody) nothing more is
    sent, and what was sent still gets its answer or its timeout. Raises UsageProblem for a URL or
    a method that cannot be used.
    """
    check_plan(plan)
    return asyncio.run(_Run(plan, clock, on_progress, stop or threading.Event()).run())


def check_plan(plan: LoadPlan) -> None:
    """Raise UsageProblem for what `run_load` could not send."""
    try:
        parts = urllib.parse.urlsplit(plan.url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and plan.url.isascii() and plan.url.isprintable() and " " not in plan.url
    except ValueError:
        usable = False
    if not usable:
        raise UsageProblem(f"{plan.url!r} is not an HTTP URL", "write http://127.0.0.1:8080/")
    if not (plan.method.isascii() and plan.method.isalpha() and plan.method.isupper()):
        raise UsageProblem(f"{plan.method!r} is not an HTTP method", "GET, POST, PUT, ...")
    if plan.timeout_s <= 0 or plan.connections < 1:
        raise UsageProblem("the timeout must be above 0 s, and connections at least 1")


class _Run:
    """One run; lives as long as its event loop."""

    def __init__(
        self,
        plan: LoadPlan,
        clock: Clock,
        on_progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> None:
        self._plan = plan
        self._url = yarl.URL(plan.url, encoded=True)  # as it was written, %2F stays %2F
        self._clock = clock
        self._on_progress = on_progress
        self._stop = stop
        self._books = Recorder(plan)
        self._began = clock.monotonic()

    async def run(self) -> LoadReport:
        """The whole run."""
        started_at = rfc3339(self._clock.now())
        self._began = self._clock.monotonic()
        async with self._session() as session:
            watching = asyncio.create_task(self._tell())
            try:
                await self._send_all(session)
            finally:
                watching.cancel()
        self._on_progress(self._books.progress(self._elapsed()))
        return self._books.report(started_at, self._stop.is_set())

    def _session(self) -> aiohttp.ClientSession:
        plan = self._plan
        # aiohttp rounds timeouts above the threshold up to whole seconds of its loop's clock.
        timeout = aiohttp.ClientTimeout(total=plan.timeout_s, ceil_threshold=plan.timeout_s + 1)
        connector = aiohttp.TCPConnector(limit=plan.connections, force_close=not plan.keepalive)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            middlewares=(_never_again,),
        )

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        async with asyncio.TaskGroup() as requests:
            for intended_s in self._plan.schedule.send_times():
                if not await self._reach(intended_s):
                    break
                self._books.sent(intended_s, self._elapsed())
                requests.create_task(self._request(session, intended_s))

    async def _reach(self, moment_s: float) -> bool:
        """Wait for a moment of the run; False if it was stopped before."""
        # Even when behind, the loop gets a turn: answers must be read while requests are sent.
        await asyncio.sleep(0)
        while not self._stop.is_set():
            ahead = moment_s - self._elapsed()
            if ahead <= 0:
                return True
            await asyncio.sleep(min(ahead, LOOK_S))
        return False

    async def _request(self, session: aiohttp.ClientSession, intended_s: float) -> None:
        outcome = await _exchange(session, self._plan, self._url)
        self._books.ended(intended_s, self._elapsed(), outcome)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._on_progress(self._books.progress(self._elapsed()))

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._began


async def _never_again(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again when a kept connection turns out to be closed.

    It does so on ServerDisconnectedError and ClientOSError, and offers no switch; here they
    become an error that it does not know. A lost request would otherwise not show.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise _Lost from error


async def _exchange(session: aiohttp.ClientSession, plan: LoadPlan, url: yarl.URL) -> Outcome:
    try:
        async with session.request(
            plan.method, url, data=plan.body, allow_redirects=False
        ) as response:
            await response.read()
            return Outcome(response.status, backend=response.headers.get(BACKEND_HEADER))
    except TimeoutError:
        return Outcome(cause="timeout")
    except (_Lost, aiohttp.ClientError, OSError) as error:
        return Outcome(cause=_cause(error))


def _cause(error: Exception) -> str:
    """Why there is no answer, in one word. See LoadReport.failures."""
    if isinstance(error, OSError) and error.errno in LOCAL_ERRNOS:
        return "local"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect-refused" if error.errno == errno.ECONNREFUSED else "connect-failed"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "truncated"
    if isinstance(error, _Lost | OSError | aiohttp.ClientConnectionError):
        return "reset"
    return "bad-answer"
