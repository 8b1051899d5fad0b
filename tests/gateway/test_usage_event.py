"""Streams tell their usage to the gateway, and to a client that asked."""

import pytest

from tests.gateway.stage import STREAMED, Call, Stage

ASKED = STREAMED.replace(b'"stream":true', b'"stream":true,"stream_options":{"include_usage":true}')
EVENTS = (
    b'data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"completion_tokens":1,"prompt_tokens":63,"total_tokens":64}}\n\n',
    b"data: [DONE]\n\n",
)


def telling(*parts: bytes):
    async def tell(call: Call) -> None:
        await call.begin_stream()
        for part in parts:
            await call.chunk(part)
        await call.send(b"0\r\n\r\n")

    return tell


@pytest.mark.parametrize("parts", [EVENTS, (b"".join(EVENTS),), (b"".join(EVENTS)[:-50], b"".join(EVENTS)[-50:])])
async def test_a_client_that_did_not_ask_sees_every_event_but_the_usage(stage: Stage, parts: tuple[bytes, ...]):
    gateway = await stage.gateway(await stage.replica(telling(*parts)))

    hidden, shown = await gateway.chat(STREAMED), await gateway.chat(ASKED)

    assert hidden.content == EVENTS[0] + EVENTS[1] + EVENTS[3]
    assert shown.content == b"".join(EVENTS)


async def test_the_usage_is_recorded_whether_the_client_asked_or_not(stage: Stage):
    gateway = await stage.gateway(await stage.replica(telling(*EVENTS)))

    for body in (STREAMED, ASKED):
        await gateway.chat(body)

    told = [(outcome.tokens_in, outcome.tokens_out, outcome.finish) for outcome in gateway.journal.outcomes]
    assert told == [(63, 1, "stop")] * 2
