"""What most asks have in common: one pass over a prompt, and bodies that pass as they came."""

from typing import TYPE_CHECKING

import msgspec

from controlplane.gateway.errors import NotServed
from controlplane.gateway.surface.surface import Ask, Orders, Surface

if TYPE_CHECKING:
    from controlplane.gateway.directory import Endpoint

_UNSALTED_AT_VLLM = frozenset({"embeddings", "rerank", "score"})  # no salt is sent there
Prompts = str | list[str | int | list[int]]  # one text, several, one of tokens, several of tokens


class AskBase(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    model: str

    @property
    def streamed(self) -> bool:
        return False

    @property
    def hides_usage(self) -> bool:
        return False

    @property
    def completion_tokens(self) -> int | None:
        return 0

    @property
    def choices(self) -> int:
        return 1

    def require_fit(self, adapter: str) -> None:
        """Accept every kind of engine."""

    def to_engine(self, body: bytes, orders: Orders) -> bytes:  # noqa: ARG002 - nothing is ordered
        return body

    def to_client(self, answer: bytes) -> bytes:
        return answer


def require_served(surface: Surface, ask: Ask, endpoint: "Endpoint") -> None:
    """Raise NotServed or BadRequest when the endpoint does not do this, or would do something else."""
    if surface.name not in endpoint.surfaces:
        served = ", ".join(sorted(endpoint.surfaces))
        detail = f"{endpoint.name} does not serve {surface.path.decode()}"
        raise NotServed(detail, remedy=f"it serves {served}; see GET /v1/models", param="model")
    if surface.name in _UNSALTED_AT_VLLM and endpoint.adapter == "vllm" and not endpoint.exclusive:
        detail = f"{endpoint.name} is shared, and at {surface.path.decode()} its engine keeps no tenants apart"
        raise NotServed(detail, remedy="use /v1/chat/completions, or an exclusive endpoint", param="model")
    ask.require_fit(endpoint.adapter)


def texts(prompts: Prompts) -> list[bytes]:
    """Return each prompt as bytes."""
    if isinstance(prompts, str):
        return [prompts.encode()]
    if all(isinstance(part, int) for part in prompts):
        return [msgspec.json.encode(prompts)]
    return [part.encode() if isinstance(part, str) else msgspec.json.encode(part) for part in prompts]


def count_prompts(prompts: Prompts) -> int:
    """Return how many prompts there are; a list of tokens is one."""
    return 1 if isinstance(prompts, str) or all(isinstance(part, int) for part in prompts) else len(prompts)
