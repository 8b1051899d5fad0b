"""What one request may use at most: an upper bound of every unit, so that a hold of it can never be too small."""

import re
from dataclasses import dataclass

from controlplane.contracts.snapshot import Surface
from controlplane.gateway.budget.accounts import UNITS
from controlplane.gateway.request import Request
from controlplane.kit.search import holds

PROMPT, COMPLETION, CALLS, RETRIES, TOOL_STEPS, WALL, GPU = range(len(UNITS))
INJECTED = 4096  # completion tokens where the client names no limit
LONGEST_S = 600.0  # of a request whose time counts and that names no deadline
SHORTEST_MS = 1000

# What a template puts around a prompt and around each message of it; the longest of common models has some 40.
_TEMPLATE_TOKENS = 256
_MESSAGE_TOKENS = 16
_ONE_PROMPT: frozenset[Surface] = frozenset({"chat", "responses", "messages", "count_tokens"})
# Templates write tools and schemas out in their own way, and an image's tokens have nothing to do with its bytes.
# A quote within a JSON string is escaped: no text that a user wrote can look like a field.
_FREE_FIELDS = (
    b'"tools"', b'"functions"', b'"chat_template_kwargs"', b'"structured_outputs"', b'"previous_response_id"',
)  # fmt: skip
_TYPE = b'"type"'
_OTHER_TYPE = re.compile(rb'"type"\s*:\s*(?!"(?:text|input_text|output_text|message)")')
_TOOL_RESULT = re.compile(rb'"role"\s*:\s*"(?:tool|function)"|"type"\s*:\s*"(?:tool_result|function_call_output)"')


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


def needs_of(request: Request, units: frozenset[int], *, retry: bool, digest: int | None) -> Needs:
    """Return what a request may use at most of the units that some budget counts."""
    ask, endpoint = request.ask, request.endpoint
    most = _most_tokens(ask.completion_tokens, endpoint.context_tokens, injects=COMPLETION in units)
    time_ms = int((request.work.deadline_s or LONGEST_S) * 1000)
    amounts = [
        prompt_bound(request) if PROMPT in units else 0,
        most * ask.choices,
        1,
        int(retry),
        int(TOOL_STEPS in units and _follows_a_tool(request)),
        time_ms,
        time_ms * endpoint.gpus,
    ]
    return Needs(amounts, most, ask.choices, endpoint.gpus, digest=digest)


def prompt_bound(request: Request) -> int:
    """Return what no tokenizer goes beyond: a token is at least a byte, and no engine takes more than its context."""
    body, prompts, context = request.body, len(request.ask.prompt), request.endpoint.context_tokens
    most = context if request.surface.name in _ONE_PROMPT else context * max(1, prompts)
    bytes_bound = len(body) + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * prompts
    return most if bytes_bound >= most or not _is_plain(body) else bytes_bound


def _is_plain(body: bytes) -> bool:
    """Say whether all that the engine reads is text that stands in the body."""
    if any(holds(body, name) for name in _FREE_FIELDS):
        return False
    return not holds(body, _TYPE) or _OTHER_TYPE.search(body) is None


def _follows_a_tool(request: Request) -> bool:
    prompts = request.ask.prompt
    return bool(prompts) and _TOOL_RESULT.search(prompts[-1]) is not None


def _most_tokens(asked: int | None, context: int, *, injects: bool) -> int:
    if asked is None:
        return min(INJECTED, context) if injects else context
    return min(asked, context)
