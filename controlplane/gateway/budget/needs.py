"""What one request may use at most: an upper bound of every unit, so that a hold of it can never be too small."""

from dataclasses import dataclass

from controlplane.contracts.snapshot import Surface
from controlplane.gateway.budget.accounts import UNITS
from controlplane.gateway.budget.prompts import follows_a_tool, is_plain
from controlplane.gateway.request import Request

PROMPT, COMPLETION, CALLS, RETRIES, TOOL_STEPS, WALL, GPU = range(len(UNITS))
INJECTED = 4096  # completion tokens where the client names no limit
LONGEST_S = 600.0  # of a request whose time counts and that names no deadline
SHORTEST_MS = 1000

# What a tokenizer adds to each prompt that has no template, and a template to each message after the first.
_PROMPT_TOKENS = 16
_MESSAGE_TOKENS = 16
TEMPLATED: frozenset[Surface] = frozenset({"chat", "responses", "messages", "count_tokens"})
_IN_PAIRS: frozenset[Surface] = frozenset({"rerank", "score"})  # one text is read again with each of the others


@dataclass(slots=True)
class Needs:
    """`amounts` by unit. `choices` completions of at most `most_tokens` each; `exact`: the prompt was counted.

    Completion tokens and time may be lowered, because engine and gateway keep to them; the rest may not. `digest` tells
    a retry of it, where retries are told.
    """

    amounts: list[int]
    most_tokens: int
    choices: int
    gpus: int
    exact: bool = False
    digest: int | None = None

    def count_prompt(self, tokens: int) -> None:
        self.amounts[PROMPT], self.exact = tokens, True

    def lower_tokens(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self.amounts[COMPLETION] = most_tokens * self.choices

    def lower_time(self, time_ms: int) -> None:
        self.amounts[WALL] = time_ms
        self.amounts[GPU] = time_ms * self.gpus


def needs_of(
    request: Request, units: frozenset[int], *, template_tokens: int | None, retry: bool, digest: int | None
) -> Needs:
    """Return what a request may use at most of the units that some budget counts."""
    ask, endpoint = request.ask, request.endpoint
    most = _most_tokens(ask.completion_tokens, endpoint.context_tokens, injects=COMPLETION in units)
    time_ms = int((request.work.deadline_s or LONGEST_S) * 1000)
    amounts = [
        prompt_bound(request, template_tokens) if PROMPT in units else 0,
        most * ask.choices,
        1,
        int(retry),
        int(TOOL_STEPS in units and follows_a_tool(ask)),
        time_ms,
        time_ms * endpoint.gpus,
    ]
    return Needs(amounts, most, ask.choices, endpoint.gpus, digest=digest)


def prompt_bound(request: Request, template_tokens: int | None) -> int:
    """Return what no tokenizer goes beyond: a token is at least a byte, and no engine takes more than its context.

    `template_tokens` are those of a prompt with next to nothing in it; None: not known yet.
    """
    body, prompts, context = len(request.body), len(request.ask.prompt), request.endpoint.context_tokens
    if request.surface.name not in TEMPLATED:
        read = body * prompts if request.surface.name in _IN_PAIRS else body
        return min(context * max(1, prompts), read + _PROMPT_TOKENS * prompts)
    if template_tokens is None:
        return context
    bound = template_tokens + body + _MESSAGE_TOKENS * prompts
    return bound if bound < context and is_plain(request.ask) else context


def _most_tokens(asked: int | None, context: int, *, injects: bool) -> int:
    if asked is None:
        return min(INJECTED, context) if injects else context
    return min(asked, context)
