"""A stream that breaks goes on at another replica, where the model and its sampling allow that; else it says so."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.gateway.closing import DONE
from tests.gateway.stage import KEY, STREAMED, Call, Gateway, ScriptedReplica, Stage, endpoint, key, post, snapshot

TINY = Path(__file__).resolve().parents[2] / "images/practice/tiny_model.py"
EVENT = (
    b'data: {"id":"chatcmpl-%b","created":%d,"model":"m","object":"chat.completion.chunk",'
    b'"choices":[{"index":0,"delta":%b,"finish_reason":%b}]%b}\n\n'
)


def event(call_id: bytes, delta: bytes, *, finish: bytes = b"null", usage: bytes = b"") -> bytes:
    return EVENT % (call_id, 7 if call_id == b"A" else 8, delta, finish, usage)


def word(call_id: bytes, text: bytes) -> bytes:
    return event(call_id, b'{"content":"%b"}' % text)


async def say_half(call: Call) -> None:
    """Say two words of four, the rest of a third, and die."""
    await call.begin_stream()
    await call.chunk(event(b"A", b'{"role":"assistant","content":null}'))
    await call.chunk(word(b"A", b"one"))
    await call.chunk(word(b"A", b' \\"two'))
    await call.chunk(word(b"A", b" three")[:40])
    call.die()


async def say_the_rest(call: Call) -> None:
    await call.begin_stream()
    await call.chunk(event(b"B", b'{"role":"assistant","content":null}'))
    await call.chunk(word(b"B", b" three"))
    usage = b',"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14}'
    await call.chunk(event(b"B", b"{}", finish=b'"stop"', usage=usage))
    await call.end_stream()


def asked(**more: object) -> bytes:
    return json.dumps({**json.loads(STREAMED), **more}).encode()


async def broken(stage: Stage, rest=say_the_rest) -> tuple[Gateway, ScriptedReplica, ScriptedReplica]:
    """Return a gateway whose first request goes to the replica that dies."""
    dying, well = await stage.replica(say_half, "dying"), await stage.replica(rest, "well")
    gateway = await stage.gateway(dying, well)
    return gateway, dying, well


async def until_it_broke(gateway: Gateway, dying: ScriptedReplica, body: bytes = STREAMED) -> bytes:
    """Ask until the replica that dies has had the request."""
    answer = b""
    while not dying.requests:
        answer = await asyncio.wait_for(one(gateway, body), 10)
    return answer


async def one(gateway: Gateway, body: bytes) -> bytes:
    return await gateway.raw(post(body, b"Connection: close"))


async def test_a_stream_goes_on_with_what_was_said_behind_the_prompt(stage: Stage):
    gateway, dying, well = await broken(stage)

    answer = await until_it_broke(gateway, dying)

    sent = json.loads(well.requests[-1].body)
    assert sent["messages"] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": 'one "two'}]
    assert sent["max_tokens"] <= 38
    said = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith('data: {"')]
    assert "".join(e["choices"][0]["delta"].get("content") or "" for e in said) == 'one "two three'
    assert b"[DONE]" in answer


async def test_the_client_sees_one_stream(stage: Stage):
    gateway, dying, _ = await broken(stage)

    answer = await until_it_broke(gateway, dying, asked(stream_options={"include_usage": True}))

    said = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith('data: {"')]
    assert {(e["id"], e["created"]) for e in said} == {("chatcmpl-A", 7)}
    assert sum(e["choices"][0]["delta"].get("role") == "assistant" for e in said) == 1
    usage = said[-1]["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] == 14
    assert usage["completion_tokens"] > 2


async def test_the_outcome_counts_both_parts(stage: Stage):
    gateway, dying, _ = await broken(stage)

    await until_it_broke(gateway, dying)

    outcome = gateway.journal.outcomes[-1]
    assert (outcome.result, outcome.replica) == ("answered", "well")
    assert outcome.tokens_out is not None
    assert outcome.tokens_out > 2


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"presence_penalty": 0.5},
        {"seed": 7, "temperature": 0.8},
        {"max_tokens": 2},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "well,"}]},
    ],
    ids="-".join,
)
async def test_what_cannot_be_taken_up_ends_with_an_error_event(stage: Stage, more: dict[str, object]):
    gateway, dying, well = await broken(stage)

    answer = await until_it_broke(gateway, dying, asked(**more))

    assert b"replica_lost" in answer
    assert b"[DONE]" not in answer
    assert b"dying" not in answer
    assert not any(b'"two' in request.body for request in well.requests)


@pytest.mark.parametrize("more", [{"temperature": 0, "seed": 7}, {"presence_penalty": 0}, {"tools": None}], ids=str)
async def test_sampling_that_leaves_nothing_to_chance_is_taken_up(stage: Stage, more: dict[str, object]):
    gateway, dying, _ = await broken(stage)

    answer = await until_it_broke(gateway, dying, asked(**more))

    assert b"replica_lost" not in answer
    assert b"[DONE]" in answer


async def test_a_stream_whose_second_replica_dies_too_ends_with_an_error_event(stage: Stage):
    replicas = [await stage.replica(say_half, f"dying_{n}") for n in range(3)]
    gateway = await stage.gateway(*replicas)

    answer = await one(gateway, STREAMED)

    assert b"replica_lost" in answer
    assert sum(len(replica.requests) for replica in replicas) == 2


@pytest.mark.parametrize("after", [(), (event(b"A", b"{}"), DONE)], ids=["nothing", "all but the very end"])
async def test_a_stream_that_said_why_it_ended_is_whole_without_another_replica(stage: Stage, after: tuple[bytes, ...]):
    async def forget_the_end(call: Call) -> None:
        await call.begin_stream()
        for part in (word(b"A", b"one"), event(b"A", b"{}", finish=b'"stop"'), *after):
            await call.chunk(part)
            await asyncio.sleep(0.02)  # a read for each
        call.die()

    first, second = await stage.replica(forget_the_end, "a"), await stage.replica(forget_the_end, "b")
    gateway = await stage.gateway(first, second)

    answer = await one(gateway, STREAMED)

    assert b"replica_lost" not in answer
    assert answer.count(b"[DONE]") == 1
    assert len(first.requests) + len(second.requests) == 1


async def test_of_several_choices_the_end_of_one_is_not_the_end_of_the_stream(stage: Stage):
    async def end_one_of_two(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(word(b"A", b"one"))
        await call.chunk(event(b"A", b"{}", finish=b'"stop"'))
        call.die()

    gateway = await stage.gateway(replica := await stage.replica(end_one_of_two))
    vllm = endpoint("chat", (replica.spec,)).model_copy(update={"adapter": "vllm"})
    gateway.hub.adopt(snapshot(9, (replica.spec,), (key(KEY),)).model_copy(update={"endpoints": (vllm,)}))

    answer = await one(gateway, asked(n=2))

    assert b"replica_lost" in answer
    assert b"[DONE]" not in answer


async def test_a_stream_that_falls_silent_is_taken_up_elsewhere(stage: Stage):
    async def fall_silent(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(word(b"A", b"one"))
        await call.until_hung_up()

    silent, well = await stage.replica(fall_silent, "silent"), await stage.replica(say_the_rest, "well")
    gateway = await stage.gateway(silent, well, silence_s=0.2)

    answer = await until_it_broke(gateway, silent)

    assert b"replica_timeout" not in answer
    assert b"[DONE]" in answer


async def test_a_long_answer_is_remembered_in_few_bytes(stage: Stage):
    async def say_much(call: Call) -> None:
        await call.begin_stream()
        for n in range(400):
            await call.chunk(word(b"A", b" w%d" % n))
        call.die()

    dying, well = await stage.replica(say_much, "dying"), await stage.replica(say_the_rest, "well")
    gateway = await stage.gateway(dying, well)

    await until_it_broke(gateway, dying, asked(max_tokens=450))

    said = json.loads(well.requests[-1].body)["messages"][1]["content"]
    assert said == "".join(f" w{n}" for n in range(400))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start llama.cpp as the runner does, on a unix socket."""
    folder = tmp_path_factory.mktemp("llama")
    subprocess.run([sys.executable, TINY, folder], check=True, capture_output=True)
    socket = folder / "s.sock"
    words = {"model": folder / "practice-tiny.gguf", "alias": "m", "socket": socket, "context": 512, "work": "complete"}
    options = [f"--{name}={value}" for name, value in {**words, "parallel": 2, "threads": 1}.items()]
    command = [sys.executable, "-m", "controlplane.runner.llama_cpp_server", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        engine.stdout.readline()
        yield socket
        engine.kill()


async def pass_through(call: Call, llama: Path, *, most_events: int) -> None:
    """Ask the engine what the gateway asked; die after so many events."""
    reader, writer = await asyncio.open_unix_connection(str(llama))
    try:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(call.request.body) + call.request.body)
        await reader.readuntil(b"\r\n\r\n")
        await call.begin_stream()
        while most_events > 0 and (size := int(await reader.readline(), 16)) > 0:
            events = (await reader.readexactly(size + 2))[:-2]
            most_events -= events.count(b"data: ")
            await call.chunk(events)
        if most_events > 0:
            await call.send(b"0\r\n\r\n")
        else:
            call.die()
    finally:
        writer.transport.abort()


async def test_llama_cpp_takes_a_stream_up_where_it_broke(stage: Stage, llama: Path):
    async def die_in_the_middle(call: Call) -> None:
        await pass_through(call, llama, most_events=6)

    async def answer(call: Call) -> None:
        await pass_through(call, llama, most_events=1000)

    dying, well = await stage.replica(die_in_the_middle, "dying"), await stage.replica(answer, "well")
    gateway = await stage.gateway(dying, well)
    body = asked(max_tokens=16, temperature=0, stream_options={"include_usage": True})

    events = await until_it_broke(gateway, dying, body)

    said = [json.loads(line[6:]) for line in events.decode().splitlines() if line.startswith('data: {"')]
    words = "".join(e["choices"][0]["delta"].get("content") or "" for e in said if e["choices"]).split()
    assert b"replica_lost" not in events
    assert len(words) == 16
    assert said[-1]["usage"]["completion_tokens"] == 16
    assert len({e["id"] for e in said}) == 1


async def test_half_of_a_first_event_is_not_joined_to_another_replicas(stage: Stage):
    async def say_a_half(call: Call) -> None:
        await call.begin_stream()
        await call.chunk(word(b"A", b"one")[:40])
        call.die()

    dying, well = await stage.replica(say_a_half, "dying"), await stage.replica(say_the_rest, "well")
    gateway = await stage.gateway(dying, well)

    answer = await until_it_broke(gateway, dying)

    said = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith('data: {"')]
    assert {e["id"] for e in said} == {"chatcmpl-B"}
    assert b"[DONE]" in answer


@pytest.mark.parametrize(("engine_says", "told"), [(800, 800), (1002, 1000)])
async def test_cached_tokens_are_those_of_the_prompt_alone(stage: Stage, engine_says: int, told: int):
    async def tell_cached(call: Call) -> None:
        usage = b',"usage":{"prompt_tokens":1002,"completion_tokens":5,"total_tokens":1007,'
        usage += b'"prompt_tokens_details":{"cached_tokens":%d}}' % engine_says
        await call.begin_stream()
        await call.chunk(word(b"B", b" three"))
        await call.chunk(event(b"B", b"{}", finish=b'"stop"', usage=usage))
        await call.end_stream()

    gateway, dying, _ = await broken(stage, rest=tell_cached)

    await until_it_broke(gateway, dying)

    outcome = gateway.journal.outcomes[-1]
    assert (outcome.tokens_in, outcome.tokens_cached, outcome.tokens_out) == (1000, told, 7)
