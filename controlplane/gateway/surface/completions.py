"""Completions of bare text."""

from typing import Literal

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import OPENAI
from controlplane.gateway.surface.asks import Prompts, count_prompts, texts
from controlplane.gateway.surface.generation import Generation, ordered
from controlplane.gateway.surface.reading import read_body
from controlplane.gateway.surface.surface import Orders, bound


class TextAsk(Generation, kw_only=True):
    prompt_: Prompts = msgspec.field(name="prompt")
    best_of: Literal[1] | None = None  # more would be generated than is told of
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None
    add_special_tokens: bool | None = None

    @property
    def choices(self) -> int:
        return (self.n or 1) * max(1, count_prompts(self.prompt_))

    @property
    def prompt(self) -> list[bytes]:
        return texts(self.prompt_)

    def to_engine(self, body: bytes, orders: Orders) -> bytes:
        return ordered(self, body, bound(b"max_tokens", self, orders), orders)


class Completions:
    name: SurfaceName = "completions"
    path = engine_path = b"/v1/completions"
    errors = OPENAI

    def read(self, body: bytes) -> TextAsk:
        return read_body(_DECODER, body, "a completion")


_DECODER = msgspec.json.Decoder(TextAsk)
