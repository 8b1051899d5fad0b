"""How many tokens a prompt has, by the tokenizer and the template of a replica."""

import asyncio
import re
from collections.abc import Callable

import structlog

from controlplane.gateway.budget.prompts import is_written
from controlplane.gateway.directory import Endpoint
from controlplane.gateway.link import Link
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Request
from controlplane.gateway.surface.reading import ABSENT, as_bytes

log = structlog.get_logger()

Heard = Callable[[int | None], None]

_COUNT_S = 2.0
_OK = 200
_LLAMA_CPP = {
    "chat": b"/v1/chat/completions/input_tokens",
    "responses": b"/v1/responses/input_tokens",
    "messages": b"/v1/messages/count_tokens",
}
_VLLM = {"chat": b"/tokenize", "completions": b"/tokenize", "messages": b"/v1/messages/count_tokens"}
_TOLD = re.compile(rb'"(?:input_tokens|count)":\s*([0-9]{1,9})')


class _Answer:
    """Waits at a link for one whole answer."""

    def __init__(self) -> None:
        self.body: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, body: bytes) -> None:
        self._take(body if status == _OK else None)

    def stream_continued(self, payload: bytes, *, done: bool) -> None:  # noqa: ARG002 - nobody asked for a stream
        self._take(None)

    def link_lost(self, *, silent: bool) -> None:  # noqa: ARG002 - whatever came, it is no answer
        self._take(None)

    def _take(self, body: bytes | None) -> None:
        if not self.body.done():
            self.body.set_result(body)


class PromptCounter:
    """Asks a replica of the endpoint; `endpoint_now` is the endpoint as the newest snapshot has it."""

    def __init__(self, endpoint_now: Callable[[Endpoint], Endpoint]) -> None:
        self._endpoint_now = endpoint_now
        self._tasks: set[asyncio.Task[None]] = set()

    def count(self, request: Request, heard: Heard) -> None:
        """Tell the number of tokens soon, None where no replica says one."""
        task = asyncio.get_running_loop().create_task(self._count(request, heard))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _count(self, request: Request, heard: Heard) -> None:
        endpoint = self._endpoint_now(request.endpoint)
        path = _path(request, endpoint.adapter)
        open_ones = [replica for replica in endpoint.replicas if not replica.cut_off]
        tokens = None
        if path is not None and open_ones:
            replica = min(open_ones, key=lambda one: one.standing.running)
            try:
                tokens = await self._ask(replica, path, request)
            except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: an unreadable certificate
                log.warning(
                    "budget.not_counted", replica=replica.spec.replica_id, error=f"{type(error).__name__}: {error}"
                )
        heard(tokens)

    async def _ask(self, replica: Replica, path: bytes, request: Request) -> int | None:
        answer = _Answer()
        async with asyncio.timeout(_COUNT_S):
            link: Link = replica.idle_link() or await replica.open_link(fresh=False)
            try:
                link.send(answer, replica.request(path, request.request_id, request.body))
                body = await answer.body
            except BaseException:
                link.drop()
                raise
        found = _TOLD.search(body) if body is not None else None
        return int(found[1]) if found is not None else None


def _path(request: Request, adapter: str) -> bytes | None:
    """Return the engine's route that counts such a prompt.

    vLLM's takes no reasoning effort, and a template may; and it has counted images as one token each.
    """
    if adapter == "llama_cpp":
        return _LLAMA_CPP.get(request.surface.name)
    has_effort = as_bytes(getattr(request.ask, "reasoning_effort", ABSENT))
    return None if has_effort or not is_written(request.ask) else _VLLM.get(request.surface.name)
