"""Replicas that die, lie or dawdle, and clients that leave."""

import asyncio
import json

import httpx

from tests.gateway.stage import ASK, COMPLETION, STREAMED, Call, Stage, post, say_hi


async def test_a_replica_that_dies_before_its_first_byte_is_replaced_unseen(stage: Stage):
    async def die(call: Call) -> None:
        call.die()

    for body in (ASK, STREAMED):
        gateway = await stage.gateway(await stage.replica(die, "dying"), await stage.replica(name="well"))

        responses = [await gateway.chat(body) for _ in range(4)]

        assert [r.status_code for r in responses] == [200] * 4


async def test_a_replica_that_dies_inside_a_plain_answer_is_replaced_unseen(stage: Stage):
    async def die(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        call.die()

    gateway = await stage.gateway(await stage.replica(die, "dying"), await stage.replica(name="well"))

    assert [(await gateway.chat()).content for _ in range(2)] == [COMPLETION] * 2


async def test_a_request_that_kills_engines_is_given_to_two_of_them_at_most(stage: Stage):
    async def die(call: Call) -> None:
        call.die()

    replicas = [await stage.replica(die, f"dying_{n}") for n in range(4)]
    gateway = await stage.gateway(*replicas)

    response = await gateway.chat()

    assert response.status_code == 502
    assert response.json()["error"]["code"] == "replica_lost"
    assert sum(len(replica.requests) for replica in replicas) == 2


async def test_a_stream_that_breaks_ends_with_an_error_event_and_without_done(stage: Stage):
    async def die(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await call.send(b'40\r\ndata: {"half an ')
        call.die()

    gateway = await stage.gateway(await stage.replica(die))

    answer = await gateway.raw(post(STREAMED))

    last_event = answer.rstrip().rpartition(b"data: ")[2]
    assert json.loads(last_event)["error"]["code"] == "replica_lost"
    assert b"one" in answer
    assert b"half an" not in answer
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_a_pooled_link_that_went_stale_is_replaced_by_a_fresh_one(stage: Stage):
    async def answer_once(call: Call) -> None:
        await call.answer()
        if len(replica.requests) == 1:
            closing.set()
            await call.reader.readuntil(b"\r\n\r\n")  # the next request comes, and the connection goes
            call.die()

    closing = asyncio.Event()
    replica = await stage.replica(answer_once)
    gateway = await stage.gateway(replica)

    first = await gateway.chat()
    await closing.wait()
    second = await gateway.chat()

    assert (first.status_code, second.status_code) == (200, 200)
    assert replica.connections == 2


async def test_garbage_from_a_replica_is_a_502_and_never_reaches_the_client(stage: Stage):
    garbage = (
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\nsecret",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 6\r\n\r\nsecret",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nsecret",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nsecret",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;secret=1\r\nsecret\r\n0\r\n\r\n",
        b"x" * 40_000,
    )
    for rubbish in garbage:

        async def babble(call: Call, rubbish: bytes = rubbish) -> None:
            await call.send(rubbish)
            await call.until_hung_up()

        gateway = await stage.gateway(await stage.replica(babble))

        response = await gateway.chat()

        assert response.status_code == 502, rubbish
        assert "secret" not in response.text


async def test_a_link_on_which_more_comes_than_was_asked_is_never_used_again(stage: Stage):
    async def say_too_much(call: Call) -> None:
        await call.answer(extra=b"")
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    replica = await stage.replica(say_too_much)
    gateway = await stage.gateway(replica)

    responses = [await gateway.chat() for _ in range(5)]

    assert [r.content for r in responses] == [COMPLETION] * 5


async def test_a_replica_that_cannot_be_reached_is_passed_over(stage: Stage):
    gone, well = await stage.replica(name="gone"), await stage.replica(name="well")
    await gone.stop()
    gateway = await stage.gateway(gone, well)

    responses = [await gateway.chat() for _ in range(4)]

    assert [r.status_code for r in responses] == [200] * 4


async def test_a_replica_with_another_certificate_than_its_own_gets_nothing(stage: Stage):
    replica, other = await stage.replica(name="real"), await stage.replica(name="impostor")
    gateway = await stage.gateway()
    gateway.adopt(replica.spec.model_copy(update={"port": other.port}))

    response = await gateway.chat()

    assert response.status_code == 503
    assert (replica.requests, other.requests) == ([], [])


async def test_a_replica_without_room_is_passed_over(stage: Stage):
    async def busy(call: Call) -> None:
        await call.answer(b'{"error":{"message":"loading"}}', "503 Service Unavailable")

    gateway = await stage.gateway(await stage.replica(busy, "busy"), await stage.replica(name="free"))
    lonely = await stage.gateway(await stage.replica(busy, "lonely"))

    assert [(await gateway.chat()).status_code for _ in range(4)] == [200] * 4
    assert (await lonely.chat()).status_code == 503


async def test_an_engine_that_fails_is_a_502_without_its_words(stage: Stage):
    async def fail(call: Call) -> None:
        await call.answer(b'{"error":{"message":"at /srv/secret/ggml.c:17"}}', "500 Internal Server Error")

    gateway = await stage.gateway(await stage.replica(fail))

    response = await gateway.chat()

    assert response.status_code == 502
    assert "secret" not in response.text


async def test_a_silent_replica_runs_into_the_time_limit(stage: Stage):
    async def say_nothing(call: Call) -> None:
        await call.until_hung_up()
        hung_up.set()

    hung_up = asyncio.Event()
    gateway = await stage.gateway(await stage.replica(say_nothing), first_byte_s=1.0)

    response = await gateway.chat()

    assert response.status_code == 504
    await asyncio.wait_for(hung_up.wait(), 5)


async def test_a_stream_that_falls_silent_ends_with_an_error_event(stage: Stage):
    async def stop_talking(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await call.until_hung_up()

    gateway = await stage.gateway(await stage.replica(stop_talking), silence_s=0.1)

    answer = await gateway.raw(post(STREAMED))

    assert b"one" in answer
    assert b"replica_timeout" in answer


async def test_a_client_that_leaves_stops_the_work_upstream(stage: Stage):
    async def talk_for_ever(call: Call) -> None:
        if b'"stream":true' in call.request.body:
            await call.begin_stream()
            await call.event("one")
        asked.set()
        await call.until_hung_up()
        hung_up.set()

    for body in (STREAMED, ASK):
        asked, hung_up = asyncio.Event(), asyncio.Event()
        gateway = await stage.gateway(await stage.replica(talk_for_ever))
        _, writer = await gateway.connect()
        writer.write(post(body))
        await asyncio.wait_for(asked.wait(), 5)

        writer.close()

        await asyncio.wait_for(hung_up.wait(), 5)


async def test_a_client_that_does_not_read_holds_the_replica_back_and_not_our_memory(stage: Stage):
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.begin_stream()
        for _ in range(800):
            await call.chunk(b"data: " + b"x" * 80_000 + b"\n\n")
            sent += 80_000
        await call.end_stream()

    gateway = await stage.gateway(await stage.replica(flood))
    reader, writer = await gateway.connect()
    writer.write(post(STREAMED.replace(b"40", b"400")))
    seen = -1
    while seen != sent or sent == 0:  # until a whole tenth of a second brings nothing more
        seen = sent
        await asyncio.sleep(0.1)
    held_back_at = sent

    got = 0
    while b"[DONE]" not in (data := await asyncio.wait_for(reader.read(1 << 20), 5)):
        got += len(data)
    writer.close()

    assert held_back_at < 40_000_000
    assert got > 63_000_000


async def test_a_client_that_never_reads_is_cut_off(stage: Stage):
    async def flood(call: Call) -> None:
        await call.begin_stream()
        for _ in range(800):
            await call.chunk(b"data: " + b"x" * 80_000 + b"\n\n")
        over.set()

    over = asyncio.Event()
    replica = await stage.replica(flood)
    gateway = await stage.gateway(replica, stalled_client_s=0.2)
    reader, writer = await gateway.connect()
    writer.write(post(STREAMED.replace(b"40", b"400")))
    await reader.read(10)

    for _ in range(200):
        if not replica.open_writers:
            break
        await asyncio.sleep(0.05)
    writer.transport.abort()

    assert not replica.open_writers
    assert not over.is_set()


async def test_a_draining_replica_finishes_what_it_has_and_keeps_no_idle_link(stage: Stage):
    async def wait_and_answer(call: Call) -> None:
        asked.set()
        await go_on.wait()
        await call.answer()

    asked, go_on = asyncio.Event(), asyncio.Event()
    old, new = await stage.replica(wait_and_answer, "old"), await stage.replica(name="new")
    gateway = await stage.gateway(old)
    running = asyncio.create_task(gateway.chat())
    await asked.wait()

    gateway.adopt(old.spec.model_copy(update={"draining": True}), new.spec)
    later = [await gateway.chat() for _ in range(2)]
    go_on.set()
    first = await running
    for _ in range(100):
        if not old.open_writers:
            break
        await asyncio.sleep(0.02)

    assert (first.status_code, [r.status_code for r in later]) == (200, [200, 200])
    assert (len(old.requests), len(new.requests)) == (1, 2)
    assert not old.open_writers


async def test_a_replica_that_is_no_longer_vouched_for_is_cut_off_in_the_middle(stage: Stage):
    async def talk(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        asked.set()
        await call.until_hung_up()

    asked = asyncio.Event()
    lost = await stage.replica(talk, "lost")
    gateway = await stage.gateway(lost)
    running = asyncio.create_task(gateway.raw(post(STREAMED)))
    await asked.wait()

    gateway.adopt()

    assert b"replica_lost" in await asyncio.wait_for(running, 5)


async def test_a_request_that_waits_on_a_lost_replica_moves_to_another(stage: Stage):
    async def wait(call: Call) -> None:
        asked.set()
        await call.until_hung_up()

    asked = asyncio.Event()
    lost, well = await stage.replica(wait, "lost"), await stage.replica(name="well")
    gateway = await stage.gateway(lost)
    running = asyncio.create_task(gateway.chat())
    await asked.wait()

    gateway.adopt(well.spec)

    assert (await running).status_code == 200


async def test_hundreds_of_requests_at_once_each_get_their_own_answer(stage: Stage):
    async def echo(call: Call) -> None:
        await asyncio.sleep(0)
        await call.answer(call.request.body)

    replicas = [await stage.replica(echo, f"replica_{n}") for n in range(2)]
    gateway = await stage.gateway(*replicas)
    bodies = [ASK.replace(b"hello", b"number %d" % n) for n in range(120)]

    async with gateway.client() as client:
        client.timeout = httpx.Timeout(30)
        answers = await asyncio.gather(*(client.post("/v1/chat/completions", content=body) for body in bodies))

    assert [a.content for a in answers] == bodies
    assert sum(len(replica.requests) for replica in replicas) == 120


async def test_a_small_write_never_waits_for_an_acknowledgement(stage: Stage):
    async def talk(call: Call) -> None:
        await call.begin_stream()
        for n in range(20):
            await call.event(str(n))
            await asyncio.sleep(0.002)
        await call.end_stream()

    gateway = await stage.gateway(await stage.replica(talk))
    await gateway.chat()
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(3):
        began = loop.time()
        await gateway.chat(STREAMED)
        took.append(loop.time() - began)

    assert min(took) < 0.6  # twenty delayed acknowledgements would take 0.8 s


async def test_say_hi_is_what_the_other_tests_think_it_is(stage: Stage):
    replica = await stage.replica(say_hi)
    gateway = await stage.gateway(replica)

    assert (await gateway.chat(STREAMED)).text.count("data: ") == 4
