"""Which tokens a text is for a model."""

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import OPENAI
from controlplane.gateway.errors import ReplicaLost
from controlplane.gateway.surface.asks import AskBase
from controlplane.gateway.surface.reading import read_body
from controlplane.gateway.surface.surface import Orders


class _LlamaQuestion(msgspec.Struct):
    content: str
    add_special: bool
    parse_special: bool = True


class _Tokens(msgspec.Struct):
    tokens: list[int]
    count: int = 0


class TokenizeAsk(AskBase):
    prompt_: str = msgspec.field(name="prompt")
    add_special_tokens: bool | None = None

    @property
    def prompt(self) -> list[bytes]:
        return [self.prompt_.encode()]

    def to_engine(self, body: bytes, orders: Orders) -> bytes:
        if orders.adapter == "vllm":
            return body
        return msgspec.json.encode(_LlamaQuestion(self.prompt_, self.add_special_tokens is not False))

    def to_client(self, answer: bytes) -> bytes:
        try:
            told = msgspec.json.decode(answer, type=_Tokens)
        except ValueError:
            raise ReplicaLost("the replica's tokens cannot be read", remedy="try again") from None
        return msgspec.json.encode(_Tokens(told.tokens, len(told.tokens)))


class Tokenize:
    name: SurfaceName = "tokenize"
    path = engine_path = b"/tokenize"
    errors = OPENAI

    def read(self, body: bytes) -> TokenizeAsk:
        return read_body(_DECODER, body, "a tokenization; to count those of messages use /v1/messages/count_tokens")


_DECODER = msgspec.json.Decoder(TokenizeAsk)
