"""How often a request is sent, how long it may take, and how much it may use."""

import asyncio
import json

import pytest

from controlplane.gateway.budget.budgets import Asking, Hold, NoHold
from controlplane.gateway.request import Request
from tests.gateway.stage import ASK, KEY, STREAMED, Call, Gateway, ScriptedReplica, Stage, key, post, say_hi, snapshot


async def kill(call: Call) -> None:
    """Die of this one prompt, answer any other."""
    if b"poison" in call.request.body:
        call.die()
    else:
        await say_hi(call)


POISON = ASK.replace(b"hello", b"poison")


def sent(*replicas: ScriptedReplica) -> int:
    return sum(b"poison" in request.body for replica in replicas for request in replica.requests)


async def wait_for_ever(call: Call) -> None:
    await call.until_hung_up()


class TestAPromptThatKillsEngines:
    async def test_is_sent_twice_at_most_over_links_that_were_used_before(self, stage: Stage):
        replicas = [await stage.replica(kill, f"replica_{n}") for n in range(4)]
        gateway = await stage.gateway(*replicas)
        for _ in range(8):
            await gateway.chat()

        response = await gateway.chat(POISON)

        assert response.status_code == 502
        assert sent(*replicas) == 2

    async def test_is_not_sent_again_when_its_client_tries_again(self, stage: Stage):
        replicas = [await stage.replica(kill, f"replica_{n}") for n in range(4)]
        gateway = await stage.gateway(*replicas)

        first, second = await gateway.chat(POISON), await gateway.chat(POISON)
        other = await gateway.chat()

        assert (first.status_code, second.status_code, other.status_code) == (502, 422, 200)
        assert second.json()["error"]["code"] == "request_kills_replicas"
        assert sent(*replicas) == 2

    async def test_is_counted_over_requests_when_each_lost_one(self, stage: Stage):
        replica = await stage.replica(kill)
        gateway = await stage.gateway(replica)

        statuses = [(await gateway.chat(POISON)).status_code]
        gateway.hub.suspects._own = {  # noqa: SLF001 - six seconds pass
            digest: (value, at_s - 6)
            for digest, (value, at_s) in gateway.hub.suspects._own.items()  # noqa: SLF001 - as above
        }
        statuses += [(await gateway.chat(POISON)).status_code for _ in range(2)]

        assert statuses == [502, 502, 422]
        assert sent(replica) == 2

    async def test_is_none_when_the_second_replica_answers_it(self, stage: Stage):
        async def die_once(call: Call) -> None:
            if len(dying.requests) == 1:
                call.die()
            else:
                await say_hi(call)

        dying, well = await stage.replica(die_once, "dying"), await stage.replica(name="well")
        gateway = await stage.gateway(dying, well)

        statuses = [(await gateway.chat(POISON)).status_code for _ in range(6)]

        assert statuses == [200] * 6

    async def test_is_none_when_many_copies_of_it_were_with_one_lost_replica(self, stage: Stage):
        async def die_together(call: Call) -> None:
            if len(lost.requests) == 5:
                for writer in tuple(lost.open_writers):
                    writer.transport.abort()
                await lost.stop()
            else:
                await call.until_hung_up()

        lost = await stage.replica(die_together, "lost")
        gateway = await stage.gateway(lost)
        await asyncio.gather(*(gateway.chat(POISON) for _ in range(5)))

        gateway.adopt((await stage.replica(name="well")).spec)

        assert (await gateway.chat(POISON)).status_code == 200


class TestTime:
    async def test_a_deadline_ends_a_request_that_no_replica_answers(self, stage: Stage):
        gateway = await stage.gateway(await stage.replica(wait_for_ever))

        response = await gateway.chat(headers={"X-Redoubt-Deadline": "0.1"})

        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_passed")

    async def test_a_deadline_ends_a_stream_that_still_talks(self, stage: Stage):
        async def talk(call: Call) -> None:
            await call.begin_stream()
            for _ in range(100):
                await call.event("one")
                await asyncio.sleep(0.01)
            await call.end_stream()

        gateway = await stage.gateway(await stage.replica(talk))

        answer = await gateway.raw(post(STREAMED, b"X-Redoubt-Deadline: 0.1"))

        assert b"deadline_passed" in answer
        assert b"[DONE]" not in answer

    async def test_a_stream_that_waits_for_its_first_token_hears_that_it_waits(self, stage: Stage):
        async def think(call: Call) -> None:
            await asyncio.sleep(0.3)
            await say_hi(call)

        gateway = await stage.gateway(await stage.replica(think), heartbeat_s=0.05)

        response = await gateway.chat(STREAMED)

        assert response.status_code == 200
        assert response.text.startswith(": waiting\n\n")
        assert response.text.endswith("data: [DONE]\n\n")

    async def test_what_fails_after_a_heartbeat_is_told_by_an_event(self, stage: Stage):
        gateway = await stage.gateway(await stage.replica(wait_for_ever), heartbeat_s=0.05, first_byte_s=0.2)

        answer = await gateway.raw(post(STREAMED))

        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"replica_timeout" in answer
        assert b"[DONE]" not in answer

    async def test_a_plain_answer_has_no_heartbeat(self, stage: Stage):
        gateway = await stage.gateway(await stage.replica(wait_for_ever), heartbeat_s=0.05, first_byte_s=0.2)

        assert (await gateway.chat()).status_code == 504


class Allowance:
    """Budgets that hold for a while and may be renewed."""

    def __init__(self, gateway: Gateway, *, lasts_s: float, renewals: int) -> None:
        self._gateway = gateway
        self._lasts_s = lasts_s
        self._renewals = renewals
        self._holds: list[NoHold] = []

    def clear(self, request: Request, asking: Asking) -> Hold | None:
        hold = NoHold(request.ask.completion_tokens or 512)
        hold.ends_at_s = self._gateway.hub.time() + self._lasts_s
        self._holds.append(hold)
        return hold

    def sweep(self, now_s: float) -> None:
        for hold in self._holds:
            if self._renewals and hold.ends_at_s < now_s + self._lasts_s / 2:
                self._renewals -= 1
                hold.ends_at_s += self._lasts_s


class TestTheHold:
    async def test_an_engine_that_goes_on_beyond_its_limit_is_cut_with_the_finish_reason_length(self, stage: Stage):
        async def never_stop(call: Call) -> None:
            await call.begin_stream()
            while True:
                await call.event("word")

        gateway = await stage.gateway(await stage.replica(never_stop))

        response = await gateway.chat(STREAMED)

        *_, last, done = response.text.removesuffix("\n\n").split("\n\n")
        assert json.loads(last.removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert done == "data: [DONE]"
        assert response.text.count('"content":"word"') <= 3 * 40 + 100
        assert [o.result for o in gateway.journal.outcomes] == ["answered"]

    async def test_that_is_not_renewed_ends_a_stream_with_the_finish_reason_length(self, stage: Stage):
        gateway = await stage.gateway(await stage.replica(slow))
        gateway.hub.budgets = Allowance(gateway, lasts_s=0.2, renewals=0)

        response = await gateway.chat(STREAMED)

        assert '"finish_reason":"length"' in response.text
        assert response.text.endswith("data: [DONE]\n\n")

    async def test_that_is_renewed_lets_a_stream_end_by_itself(self, stage: Stage):
        gateway = await stage.gateway(await stage.replica(slow))
        gateway.hub.budgets = Allowance(gateway, lasts_s=0.2, renewals=50)

        response = await gateway.chat(STREAMED)

        assert response.text.count("word") == 60
        assert ": waiting" not in response.text
        assert '"finish_reason":"length"' not in response.text

    async def test_that_ends_before_a_plain_answer_refuses_it(self, stage: Stage):
        gateway = await stage.gateway(await stage.replica(wait_for_ever))
        gateway.hub.budgets = Allowance(gateway, lasts_s=0.1, renewals=0)

        response = await gateway.chat()

        assert (response.status_code, response.json()["error"]["code"]) == (429, "budget_ran_out")


async def slow(call: Call) -> None:
    await call.begin_stream()
    for _ in range(60):
        await call.event("word")
        await asyncio.sleep(0.01)
    await call.end_stream()


class TestAReplicaThatAnswersThatItFailed:
    async def test_is_replaced_unseen(self, stage: Stage):
        async def fail(call: Call) -> None:
            await call.answer(b'{"error":{"message":"CUDA error"}}', "500 Internal Server Error")

        for body in (ASK, STREAMED):
            broken, well = await stage.replica(fail, "broken"), await stage.replica(name="well")
            gateway = await stage.gateway(broken, well)

            statuses = [(await gateway.chat(body)).status_code for _ in range(4)]

            assert statuses == [200] * 4
            assert broken.requests

    async def test_may_be_right_so_two_are_asked_at_most(self, stage: Stage):
        async def fail(call: Call) -> None:
            await call.answer(b"{}", "500 Internal Server Error")

        replicas = [await stage.replica(fail, f"replica_{n}") for n in range(4)]
        gateway = await stage.gateway(*replicas)

        response = await gateway.chat()

        assert (response.status_code, response.json()["error"]["code"]) == (502, "replica_lost")
        assert sum(len(replica.requests) for replica in replicas) == 2


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable", "429 Too Many Requests"])
async def test_what_every_replica_refuses_has_used_no_token(stage: Stage, status: str):
    async def refuse(call: Call) -> None:
        await call.answer(b'{"error":{"message":"no"}}', status)

    gateway = await stage.gateway(await stage.replica(refuse, "a"), await stage.replica(refuse, "b"))

    await gateway.chat()

    assert [(o.tokens_in, o.tokens_out) for o in gateway.journal.outcomes] == [(0, 0)]


async def test_a_refusal_after_a_loss_does_not_say_that_nothing_was_used(stage: Stage):
    async def lose_or_refuse(call: Call) -> None:
        if len(first.requests) + len(second.requests) == 1:
            call.die()
        else:
            await call.answer(b"{}", "503 Service Unavailable")

    first, second = await stage.replica(lose_or_refuse, "a"), await stage.replica(lose_or_refuse, "b")
    gateway = await stage.gateway(first, second)

    await gateway.chat()

    assert [(o.tokens_in, o.tokens_out) for o in gateway.journal.outcomes] == [(None, None)]


async def test_an_endpoint_made_anew_under_its_name_gets_nothing_that_was_meant_for_the_old_one(stage: Stage):
    old, new = await stage.replica(name="old"), await stage.replica(name="new")
    gateway = await stage.gateway(old)
    gateway.journal.holds = True
    asking = asyncio.create_task(gateway.chat())
    while not gateway.journal.waiting:  # noqa: ASYNC110 - it comes on another connection
        await asyncio.sleep(0.005)

    renewed = snapshot(99, (new.spec,), (key(KEY),))
    endpoints = [e.model_copy(update={"endpoint_id": f"{e.endpoint_id}_2"}) for e in renewed.endpoints]
    gateway.hub.adopt(renewed.model_copy(update={"endpoints": tuple(endpoints)}))
    gateway.journal.waiting.pop().recorded()

    assert (await asking).status_code == 503
    assert new.requests == []
