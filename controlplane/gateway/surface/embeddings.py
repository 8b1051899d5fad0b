"""Embeddings: one vector for each text."""

from typing import Literal

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import OPENAI
from controlplane.gateway.errors import BadRequest
from controlplane.gateway.surface.asks import AskBase, Prompts, texts
from controlplane.gateway.surface.reading import read_body


class EmbeddingAsk(AskBase):
    input: Prompts
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None

    @property
    def prompt(self) -> list[bytes]:
        return texts(self.input)

    def require_fit(self, adapter: str) -> None:
        if self.dimensions is not None and adapter == "embed":  # llama.cpp would give all of them
            detail = "this endpoint gives vectors of one length"
            raise BadRequest(detail, remedy="leave dimensions out", param="dimensions")


class Embeddings:
    name: SurfaceName = "embeddings"
    path = engine_path = b"/v1/embeddings"
    errors = OPENAI

    def read(self, body: bytes) -> EmbeddingAsk:
        return read_body(_DECODER, body, "embeddings")


_DECODER = msgspec.json.Decoder(EmbeddingAsk)
