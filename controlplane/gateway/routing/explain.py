"""Why a request would go where it would go now: what each replica bids, in bytes of prompt, and what decides.

Where projects share an endpoint, what is there of others is told in powers of two, and no sum of it and of the
caller's own: who asks again and again learns that it is busy, and not how long somebody's prompts are.
"""

from collections.abc import Sequence

import msgspec

from controlplane.gateway import answer
from controlplane.gateway.directory import Endpoint
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Request
from controlplane.gateway.routing.choose import Bid, Wish, bid_of, find_home, part_of
from controlplane.gateway.routing.isolation import reuses_prompts
from controlplane.gateway.routing.prefix import MARKED_BYTES
from controlplane.gateway.routing.router import Around, make_wish, run_of
from controlplane.gateway.surface.chat import Chat
from controlplane.gateway.surroundings import Client, Surroundings

_SEEN_FROM = "one gateway node: others count what they sent themselves"
_LEAST_BYTES = 16 * 1024  # told of what is not nothing


class ExplainRoute(Chat):
    """Takes a chat completion, and answers where it would go."""

    path = b"/v1/explain-route"


EXPLAIN = ExplainRoute()


class Candidate(msgspec.Struct, omit_defaults=True):
    """One replica. `cost_bytes`, where one project has the endpoint, is what speaks against it: the least wins."""

    replica: str
    revision: str
    held_bytes: int
    waiting_to_be_read_bytes: int
    running: int
    cost_bytes: int | None = None
    reasons: tuple[str, ...] = ()


class Explanation(msgspec.Struct):
    endpoint: str
    chosen: str | None
    because: str
    prompt_bytes: int
    part: int
    seen_from: str
    candidates: tuple[Candidate, ...]


def tell(around: Surroundings, client: Client, request: Request) -> None:
    """Answer the client with the explanation."""
    body = explain(around, request, around.endpoint_now(request.endpoint))
    client.write(answer.small(200, request.request_id, body, keep_alive=client.keep_alive, head_only=False))
    client.answered()


def explain(around: Around, request: Request, endpoint: Endpoint) -> bytes:
    """Return the explanation as JSON; nothing is sent anywhere and nothing learned."""
    pinned = run_of(around, request)[1]
    replicas = [r for r in endpoint.replicas if pinned is None or r.revision == pinned]
    wish, now = make_wish(request), around.tick
    around.neighbours.look(replicas, around.time())
    part, home = part_of(replicas, wish.parallel), find_home(replicas, wish.prefix.home)
    bids = [bid_of(r, wish, part, now, is_home=bool(wish.prefix.marks) and r is home) for r in replicas]
    best = min(range(len(bids)), key=lambda n: bids[n].cost, default=None)
    shown = _Shown(exact=endpoint.exclusive)
    return msgspec.json.encode(
        Explanation(
            endpoint=endpoint.name,
            chosen=None if best is None else replicas[best].spec.replica_id,
            because=_because(endpoint, replicas, bids, best, pinned=pinned is not None),
            prompt_bytes=wish.prefix.size,
            part=shown.requests(part),
            seen_from=_SEEN_FROM,
            candidates=tuple(_candidate(r, b, wish, part, now, shown) for r, b in zip(replicas, bids, strict=True)),
        )
    )


def _because(
    endpoint: Endpoint, replicas: Sequence[Replica], bids: Sequence[Bid], best: int | None, *, pinned: bool
) -> str:
    if best is None:
        return "the run's revision is no longer served" if pinned and endpoint.replicas else "there is no ready replica"
    if len(replicas) == 1:
        return "the run stays on its revision, and one replica has it" if pinned else "there is no other replica"
    bid = bids[best]
    if bid.held == max(b.held for b in bids) > min(b.held for b in bids):
        return f"it is believed to hold {MARKED_BYTES[bid.held]} bytes of the prompt"
    if any(b.held > bid.held for b in bids):
        return "whoever holds more of the prompt is busier than reading it anew is worth"
    if bid.session:
        return "the session was there before"
    if bid.home:
        return "nobody holds the prompt, and this is its home"
    if not reuses_prompts(endpoint):
        return "it is the least busy; these engines keep no prompts, because several projects share them"
    return "it is the least busy"


class _Shown:
    """What may be told of a load: all of it where it is one project's, its size where it may be others'."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact

    def cost(self, bid: Bid) -> int | None:
        return int(bid.cost) if self._exact else None

    def requests(self, number: int) -> int:
        return number if self._exact or not number else 1 << (number - 1).bit_length()

    def bytes_(self, number: float) -> int:
        whole = int(number)
        return whole if self._exact or whole <= 0 else self.requests(max(whole, _LEAST_BYTES))


def _candidate(replica: Replica, bid: Bid, wish: Wish, part: int, now: float, shown: _Shown) -> Candidate:
    standing = replica.standing
    running, part = shown.requests(standing.running + standing.running_elsewhere), shown.requests(part)
    waiting = standing.prefilling + standing.prefilling_elsewhere
    reasons = {
        f"rests for {standing.rests_until - now:.0f} s more, after a failure": standing.rests_until > now,
        f"is young and gets {standing.warmth(now):.0%} of its part": standing.warm_from > now,
        f"runs {running} and its part is {part}": running >= part,
        "was the session's last": bid.session,
        "is the prompt's home": bid.home,
    }
    return Candidate(
        replica.spec.replica_id, replica.spec.revision_id, min(MARKED_BYTES[bid.held], wish.prefix.size),
        shown.bytes_(waiting), running, shown.cost(bid), tuple(reason for reason, holds in reasons.items() if holds),
    )  # fmt: skip
