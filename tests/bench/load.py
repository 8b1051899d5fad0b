"""The load: raw connections that send one prepared request after the other, and notice every wrong answer."""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

_HEADERS = b"".join(
    b"%b: %b\r\n" % pair
    for pair in (
        (b"Host", b"gateway.practice.internal:9443"),
        (b"Accept-Encoding", b"gzip, deflate"),
        (b"Connection", b"keep-alive"),
        (b"Accept", b"application/json"),
        (b"Content-Type", b"application/json"),
        (b"User-Agent", b"OpenAI/Python 1.99.0"),
        (b"X-Stainless-Lang", b"python"),
        (b"X-Stainless-Package-Version", b"1.99.0"),
        (b"X-Stainless-OS", b"Linux"),
        (b"X-Stainless-Arch", b"x64"),
        (b"X-Stainless-Runtime", b"CPython"),
        (b"X-Stainless-Runtime-Version", b"3.13.1"),
        (b"X-Stainless-Async", b"false"),
        (b"X-Stainless-Raw-Response", b"false"),
        (b"X-Stainless-Retry-Count", b"0"),
        (b"X-Stainless-Read-Timeout", b"600"),
        (b"X-Redoubt-Workflow", b"claims"),
        (b"X-Redoubt-Agent", b"reader"),
        (b"X-Redoubt-Run", b"run-1"),
    )
)


def request(key: str, prompt_bytes: int, *, stream: bool, opening: bytes = b"") -> bytes:
    """Return a chat request with the 18 headers of an SDK, and three that say what it is a part of."""
    body = b'{"messages":[{"role":"user","content":"%b"}],"model":"chat","max_tokens":40,"stream":%b}' % (
        opening + (b"tell me of the river and the sea " * (prompt_bytes // 33 + 1))[:prompt_bytes],
        b"true" if stream else b"false",
    )
    head = b"POST /v1/chat/completions HTTP/1.1\r\n%bAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    return head % (_HEADERS, key.encode(), len(body)) + body


VOLLEY = 40
_AT_ONCE = 250


@dataclass
class Count:
    """`taken_s` holds each answer's (for a stream: its first event's) time."""

    answers: int = 0
    events: int = 0
    errors: int = 0
    skipped: int = 0
    cpu_s: float = 0.0
    lasted_s: float = 0.0
    taken_s: list[float] = field(default_factory=list)

    def reset(self) -> None:
        """Forget the warm-up, but no error."""
        self.answers = self.events = self.skipped = 0
        self.taken_s = []


class Caller(asyncio.Protocol):
    """One connection. `paced` waits to be told; otherwise the next request follows the last answer."""

    transport: asyncio.Transport

    def __init__(self, request_bytes: bytes, count: Count, *, stream: bool, paced: bool) -> None:
        self._request = request_bytes
        self._count = count
        self._stream = stream
        self._paced = paced
        self._got = 0
        self._needed = 0
        self._sent_at = 0.0
        self.busy = False
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def call(self) -> None:
        self.busy = True
        self._got = self._needed = 0
        self._sent_at = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._got == 0:
            if not data.startswith(b"HTTP/1.1 200"):
                self._count.errors += 1
            if self._stream:
                self._count.taken_s.append(time.perf_counter() - self._sent_at)
            else:
                low = data[:600].lower()
                place = low.find(b"content-length: ")
                self._needed = data.index(b"\r\n\r\n") + 4 + int(low[place + 16 : low.index(b"\r", place)])
        self._got += len(data)
        if self._stream:
            self._count.events += data.count(b"data: ")
            done = data.endswith(b"0\r\n\r\n")
        else:
            done = self._got >= self._needed
        if done:
            self._answered()

    def _answered(self) -> None:
        self.busy = False
        self._count.answers += 1
        if not self._stream:
            self._count.taken_s.append(time.perf_counter() - self._sent_at)
        if not self._paced and not self.stopped:
            self.call()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.busy and not self.stopped:
            self._count.errors += 1


@dataclass(frozen=True)
class Target:
    """Where a request goes; `context` None is plain HTTP."""

    name: str
    port: int
    key: str
    context: ssl.SSLContext | None = None


async def _connect(target: Target, callers: int, request_bytes: bytes, count: Count, *, stream: bool, paced: bool):
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(callers):
        _, caller = await loop.create_connection(
            lambda: Caller(request_bytes, count, stream=stream, paced=paced),
            "127.0.0.1",
            target.port,
            ssl=target.context,
            server_hostname="localhost" if target.context else None,
        )
        made.append(caller)
    return made


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for it, for at most five seconds."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)


def _hang_up(callers: list[Caller]) -> None:
    for caller in callers:
        caller.stopped = True
        caller.transport.abort()


async def hurry(
    target: Target, *, callers: int, seconds: float, prompt_bytes: int, cpu_s: Callable[[], float]
) -> Count:
    """Keep every connection busy; connecting and a warm-up are not counted."""
    count = Count()
    made = await _connect(
        target, callers, request(target.key, prompt_bytes, stream=False), count, stream=False, paced=False
    )
    for caller in made:
        caller.call()
    await _until(lambda: count.answers >= 3 * callers)
    count.reset()
    began, cpu = time.perf_counter(), cpu_s()
    await asyncio.sleep(seconds)
    count.cpu_s, count.lasted_s = cpu_s() - cpu, time.perf_counter() - began
    _hang_up(made)
    return count


async def pace(
    target: Target, *, per_second: int, seconds: float, stream: bool, callers: int, cpu_s: Callable[[], float]
) -> Count:
    """Start requests at a fixed rate whatever the answers do; one without a free connection is skipped and counted.

    A first volley fills the gateway's own connections and is not counted.
    """
    count = Count()
    made = await _connect(target, callers, request(target.key, 600, stream=stream), count, stream=stream, paced=True)
    for caller in made[: min(VOLLEY, per_second)]:
        caller.call()
    await _until(lambda: not any(caller.busy for caller in made))
    count.reset()
    loop = asyncio.get_running_loop()
    began, cpu = loop.time(), cpu_s()
    for number in range(int(per_second * seconds)):
        wait_s = began + number / per_second - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        free = next((caller for caller in made if not (caller.busy or caller.transport.is_closing())), None)
        if free is None:
            count.skipped += 1
        else:
            free.call()
    await _until(lambda: not any(caller.busy for caller in made))
    count.cpu_s = cpu_s() - cpu
    _hang_up(made)
    return count


async def hold(target: Target, *, streams: int, figures: Callable[[], float], opening: bytes) -> tuple[float, int]:
    """Open that many streams that never end; return what `figures` says once all have begun, and the errors."""
    count = Count()
    request_bytes = request(target.key, 600, stream=True, opening=opening)
    made: list[Caller] = []
    while len(made) < streams:
        more = await _connect(target, min(_AT_ONCE, streams), request_bytes, count, stream=True, paced=True)
        made += more
        for caller in more:
            caller.call()
        await _until(partial(_have_begun, count, len(made)))
    found = figures()
    begun = len(count.taken_s)
    _hang_up(made)
    return found, count.errors + len(made) - begun


def _have_begun(count: Count, streams: int) -> bool:
    return len(count.taken_s) >= streams
