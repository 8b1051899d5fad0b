import asyncio

import pytest

from controlplane.kit.loop import run_every


class Enough(BaseException):
    """Ends a loop that has no end."""


async def test_a_loop_goes_on_after_a_failure_that_lasts_for_hours():
    calls = 0

    async def step() -> None:
        nonlocal calls
        calls += 1
        if calls > 1100:  # 2**1024 is no float
            raise Enough
        raise OSError("the other side is away")

    with pytest.raises(Enough):
        await asyncio.wait_for(run_every("test", 0.0, step), timeout=30)

    assert calls == 1101


async def test_a_loop_that_fails_waits_longer_and_recovers(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    outcomes = iter([None, OSError(), OSError(), OSError(), None])

    async def step() -> None:
        outcome = next(outcomes, Enough())
        if outcome is not None:
            raise outcome

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)

    with pytest.raises(Enough):
        await run_every("test", 5.0, step)

    assert waits == [5.0, 10.0, 10.0, 10.0, 5.0]


async def test_a_loop_that_rests_pauses_for_as_long_as_its_step_took(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    clock = iter([0.0, 3.0, 3.0, 3.1])
    steps = iter([None, None])

    async def step() -> None:
        if next(steps, Enough) is Enough:
            raise Enough

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    monkeypatch.setattr("controlplane.kit.loop.now_s", lambda: next(clock, loop.time()))

    with pytest.raises(Enough):
        await run_every("test", 0.2, step, rests=True)

    assert waits == [3.0, 0.2]
