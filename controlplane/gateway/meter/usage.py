"""What one request used, as far as it is known."""

import msgspec


class Usage(msgspec.Struct, gc=False):
    """Tokens None where the replica has not told; `events` is how many the client was sent.

    `wall_us` is from its seat at a replica to its end, `gpu_us` its part of the time of the replica's GPUs.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    events: int = 0
    wall_us: int = 0
    gpu_us: int = 0
    dispatched: bool = False  # a replica may have heard of it
