"""A model of engines with small caches and of chats that fill them, in simulated time."""

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

TOKEN_BYTES = 4
BLOCK_TOKENS = 16
PREFILL_S = 40e-6  # per token
DECODE_S = 10e-3  # per token
SYSTEM_BYTES = 12 * 1024


@dataclass(frozen=True)
class Load:
    """Chats of several tenants, each tenant with its own system prompt; requests come at random."""

    per_s: float
    users: int  # of each tenant
    tenants: int = 12
    seconds: float = 60.0
    turns: int = 6
    turn_bytes: int = 2560
    answer_tokens: int = 40
    seed: int = 1


@dataclass(frozen=True)
class Turn:
    at_s: float
    tenant: int
    chat: int
    messages: tuple[bytes, ...]


@dataclass
class Result:
    cached: int = 0
    tokens: int = 0
    ttft_s: list[float] = field(default_factory=list)
    work: list[int] = field(default_factory=list)  # tokens read, by engine
    requests: list[int] = field(default_factory=list)

    @property
    def hit(self) -> float:
        return self.cached / self.tokens

    @property
    def busiest(self) -> float:
        """Return the tokens that the busiest engine had to read, as a multiple of the mean."""
        return max(self.work) * len(self.work) / sum(self.work)

    def ttft_ms(self, quantile: float) -> float:
        return 1000 * sorted(self.ttft_s)[int(quantile * (len(self.ttft_s) - 1))]


def turns(load: Load) -> Iterator[Turn]:
    """Yield the requests in their order."""
    random_ = random.Random(load.seed)
    systems = [random_.randbytes(SYSTEM_BYTES // 2).hex().encode() for _ in range(load.tenants)]
    chats: dict[tuple[int, int], list[bytes]] = {}
    at_s, number = 0.0, 0
    while at_s < load.seconds:
        at_s += random_.expovariate(load.per_s)
        who = random_.randrange(load.tenants), random_.randrange(load.users)
        said = chats.get(who)
        if said is None or len(said) > load.turns:
            said = chats[who] = [systems[who[0]]]
            number += 1
        said.append(random_.randbytes(random_.randrange(load.turn_bytes // 4, load.turn_bytes * 3 // 4)).hex().encode())
        yield Turn(at_s, who[0], hash(who), tuple(said))


class Engine:
    """An LRU cache of blocks and one queue of prompts to read."""

    def __init__(self, cache_tokens: int) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._most = cache_tokens // BLOCK_TOKENS
        self.free_at_s = 0.0

    def read(self, text: bytes) -> tuple[int, int]:
        """Read a prompt; return its tokens and how many were cached."""
        size, chain, cached, blocks = BLOCK_TOKENS * TOKEN_BYTES, 0, 0, []
        for at in range(0, len(text) - len(text) % size, size):
            chain = hash((chain, text[at : at + size]))
            blocks.append(chain)
        while cached < len(blocks) and blocks[cached] in self._blocks:
            cached += 1
        for block in reversed(blocks):
            self._blocks.pop(block, None)
            self._blocks[block] = None
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        return len(text) // TOKEN_BYTES, cached * BLOCK_TOKENS


Choose = Callable[[Turn, float], tuple[int, Callable[[float], None], Callable[[float, int, int], None]]]


def _end(over: Callable[[float, int, int], None], cached: int, tokens: int, at_s: float) -> None:
    over(at_s, cached, tokens)


def simulate(load: Load, engines: Sequence[Engine], choose: Choose) -> Result:
    """Run the load. `choose` returns the engine, and what to call at the first byte and at the end."""
    result = Result(work=[0] * len(engines), requests=[0] * len(engines))
    events: list[tuple[float, int, Callable[[float], None]]] = []
    order = 0
    for turn in turns(load):
        while events and events[0][0] <= turn.at_s:
            at_s, _, act = heapq.heappop(events)
            act(at_s)
        chosen, heard, over = choose(turn, turn.at_s)
        engine, text = engines[chosen], b"".join(turn.messages)
        tokens, cached = engine.read(text)
        begins_s = max(turn.at_s, engine.free_at_s)
        first_s = engine.free_at_s = begins_s + (tokens - cached) * PREFILL_S
        ends_s = first_s + load.answer_tokens * DECODE_S
        order += 2
        heapq.heappush(events, (first_s, order, heard))
        ends: Callable[[float], None] = partial(_end, over, cached, tokens)
        heapq.heappush(events, (ends_s, order + 1, ends))
        result.cached += cached
        result.tokens += tokens
        result.ttft_s.append(first_s - turn.at_s)
        result.work[chosen] += tokens - cached
        result.requests[chosen] += 1
    return result
