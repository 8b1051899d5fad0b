"""Everything at once: nothing is counted twice, and nothing is left open."""

import asyncio
import random

from tests.gateway.stage import ASK, STREAMED, Call, Gateway, Stage, post, say_hi

CLIENTS = 60


async def moody(call: Call) -> None:
    match random.randrange(6):
        case 0:
            call.die()
        case 1:
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            call.die()
        case 2 if b'"stream":true' in call.request.body:
            await call.begin_stream()
            await call.event("one")
            await asyncio.sleep(0.01)
            call.die()
        case 3:
            await asyncio.sleep(0.02)
            await say_hi(call)
        case _:
            await say_hi(call)


async def erratic(gateway: Gateway) -> bytes:
    """A client that sends one to three requests and may leave at any moment."""
    reader, writer = await gateway.connect()
    try:
        for _ in range(random.randrange(1, 4)):
            data = post(random.choice((ASK, STREAMED)))
            cut = random.choice((len(data), len(data), random.randrange(len(data))))
            writer.write(data[:cut])
            await writer.drain()
            async with asyncio.timeout(random.choice((0.005, 0.05, 1.0))):
                await reader.read(random.choice((1, 100_000)))
        return b"through"
    except (TimeoutError, ConnectionError):
        return b"left"
    finally:
        writer.transport.abort()


async def test_after_a_storm_no_request_is_counted_and_no_connection_is_open(stage: Stage):
    random.seed(7)
    replicas = [await stage.replica(moody, f"replica_{n}") for n in range(3)]
    gateway = await stage.gateway(*replicas, link_idle_s=0.1)
    live = set(gateway.hub._replicas.values())  # noqa: SLF001 - the counts are what is tested

    async def change_the_snapshot() -> None:
        for number in range(20):
            await asyncio.sleep(0.03)
            specs = [r.spec.model_copy(update={"draining": random.random() < 0.2}) for r in replicas]
            gateway.adopt(*random.sample(specs, random.randrange(1, 4)) if number < 19 else specs)
            live.update(gateway.hub._replicas.values())  # noqa: SLF001 - as above

    changing = asyncio.create_task(change_the_snapshot())
    for _ in range(4):
        await asyncio.gather(*(erratic(gateway) for _ in range(CLIENTS)))
    await changing
    for _ in range(200):
        if not gateway.hub.connections and not any(r.open_writers for r in replicas):
            break
        await asyncio.sleep(0.02)

    assert {replica.standing.running for replica in live} == {0}
    assert not gateway.hub.connections
    assert not any(r.open_writers for r in replicas)
    gateway.adopt((await stage.replica(name="calm")).spec)
    assert (await gateway.chat(ASK.replace(b"hello", b"all is calm"))).status_code == 200
