"""How many tokens a prompt has, by the routes of each engine."""

import asyncio
from typing import Any

import pytest

from controlplane.gateway.budget.count import PromptCounter
from tests.gateway.stage import Call, Gateway, Stage, endpoint, key, snapshot
from tests.support.budgeted import request_of


async def tokenize(call: Call) -> None:
    if call.request.head.startswith(b"POST /tokenize "):
        await call.answer(b'{"count":9,"max_model_len":512,"tokens":[1,2,3,4,5,6,7,8,9],"token_strs":null}')
    else:
        await call.answer(b'{"detail":"Method Not Allowed"}', status="405 Method Not Allowed")


async def vllm(stage: Stage) -> Gateway:
    gateway = await stage.gateway(replica := await stage.replica(tokenize))
    own = endpoint("chat", (replica.spec,)).model_copy(update={"adapter": "vllm"})
    gateway.hub.adopt(snapshot(9, (replica.spec,), (key("rdk_a"),)).model_copy(update={"endpoints": (own,)}))
    return gateway


async def counted(gateway: Gateway, **fields: Any) -> int | None:
    heard: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    request = request_of(gateway.hub.directory(gateway.hub.clock.now()), **fields)
    PromptCounter(gateway.hub.endpoint_now).count(request, heard.set_result)
    return await heard


async def test_vllm_counts_a_chat_where_it_tokenizes(stage: Stage):
    assert await counted(await vllm(stage), tools=[]) == 9


@pytest.mark.parametrize(("effort", "tokens"), [("high", None), (None, 9)])
async def test_a_chat_with_an_effort_that_vllm_does_not_count_is_left_to_its_bound(stage: Stage, effort, tokens):
    """Its template may write more for an effort, and its tokenize route takes none: seen on vLLM 0.32."""
    assert await counted(await vllm(stage), reasoning_effort=effort) == tokens


@pytest.mark.parametrize(("kind", "tokens"), [("image_url", None), ("text", 9)])
async def test_a_chat_with_a_picture_is_left_to_its_bound_as_vllm_has_counted_it_as_one_token(
    stage: Stage, kind: str, tokens: int | None
):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    part = picture if kind == "image_url" else {"type": "text", "text": "hello"}

    assert await counted(await vllm(stage), messages=[{"role": "user", "content": [part]}]) == tokens
