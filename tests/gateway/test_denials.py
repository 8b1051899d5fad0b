"""Refusals of known keys are on record: the first of a kind at once, then one count a minute."""

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.gateway.denials import EVERY_S
from controlplane.gateway.records import Denial
from tests.gateway.stage import KEY, Gateway, ScriptedReplica, Stage, key


@pytest.fixture
async def replica(stage: Stage) -> ScriptedReplica:
    return await stage.replica()


@pytest.fixture
async def gateway(stage: Stage, replica: ScriptedReplica) -> Gateway:
    return await stage.gateway(replica)


def denials(gateway: Gateway) -> list[tuple[str, int]]:
    return [(note.code, note.times) for note in gateway.journal.notes if isinstance(note, Denial)]


async def test_a_known_key_that_is_refused_leaves_a_line_at_once(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, purposes=("support",)),))

    await gateway.chat(headers={"X-Redoubt-Purpose": "profiling"})

    (line,) = gateway.journal.notes
    assert (line.code, line.project, line.source, line.times) == ("purpose_not_allowed", "blue", "127.0.0.1", 1)
    assert "profiling" not in repr(line)


async def test_an_expired_key_and_a_model_out_of_reach_are_denials_of_their_own(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, zones=("south",)),))
    await gateway.chat()
    gateway.adopt(replica.spec, keys=(key(KEY, expires_at=datetime.now(UTC) - timedelta(seconds=1)),))
    await gateway.chat()

    assert denials(gateway) == [("model_not_found", 1), ("expired_api_key", 1)]


async def test_a_stranger_leaves_no_line(gateway, replica):
    gateway.adopt(replica.spec, keys=(key("rdk_another"),))

    assert (await gateway.chat()).status_code == 401
    assert denials(gateway) == []


async def test_repeated_denials_become_one_count_a_minute_and_none_is_lost(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, purposes=("support",)),))
    for _ in range(5):
        await gateway.chat(headers={"X-Redoubt-Purpose": "profiling"})
    assert denials(gateway) == [("purpose_not_allowed", 1)]

    gateway.hub.denials.settle(before_s=gateway.hub.tick + EVERY_S)
    await gateway.chat(headers={"X-Redoubt-Purpose": "profiling"})

    assert denials(gateway) == [("purpose_not_allowed", 1), ("purpose_not_allowed", 4), ("purpose_not_allowed", 1)]
