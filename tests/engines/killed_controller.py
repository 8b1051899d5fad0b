"""A process that starts one run, made to be killed at any moment of it."""

import asyncio
import json
import sys

from controlplane.engines.port import RunOrder
from tests.engines.benches import connect


async def main() -> None:
    ask = json.loads(sys.argv[1])
    order = RunOrder(name=ask["name"], argv=tuple(ask["argv"]), environment={}, gpus=0, gpu_type="", time_limit_s=120)
    engine = connect(ask["recipe"])
    print("starting", flush=True)
    await engine.start(order)


asyncio.run(main())
