"""Rerank and score: how well texts answer a query. One question to the engine, two dialects."""

from typing import Annotated

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import OPENAI
from controlplane.gateway.errors import ReplicaLost
from controlplane.gateway.surface.asks import AskBase
from controlplane.gateway.surface.generation import AtLeastOne
from controlplane.gateway.surface.reading import read_body
from controlplane.gateway.surface.surface import Orders

_ENGINE_PATH = b"/v1/rerank"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    text: str


_Documents = Annotated[list[str | _Document], msgspec.Meta(min_length=1)]


class _Result(msgspec.Struct, omit_defaults=True):
    index: int
    relevance_score: float
    document: _Document | None = None


class _Ranking(msgspec.Struct):
    """What an engine answers; `usage` passes as it came."""

    results: list[_Result]
    usage: msgspec.Raw = msgspec.Raw(b"{}")
    model: str = ""
    object: str = "list"


class _Question(msgspec.Struct, omit_defaults=True):
    """What an engine is asked."""

    model: str
    query: str
    documents: list[str]
    top_n: int | None = None
    truncate_prompt_tokens: int | None = None


class RerankAsk(AskBase):
    query: str
    documents: _Documents
    top_n: AtLeastOne | None = None
    return_documents: bool | None = None
    truncate_prompt_tokens: int | None = None

    @property
    def texts(self) -> list[str]:
        return [document if isinstance(document, str) else document.text for document in self.documents]

    @property
    def prompt(self) -> list[bytes]:
        return [text.encode() for text in (self.query, *self.texts)]

    def to_engine(self, body: bytes, orders: Orders) -> bytes:  # noqa: ARG002 - made anew: engines differ in documents
        question = _Question(self.model, self.query, self.texts, self.top_n, self.truncate_prompt_tokens)
        return msgspec.json.encode(question)

    def to_client(self, answer: bytes) -> bytes:
        ranking, texts = _read_ranking(answer, len(self.documents)), self.texts
        for result in ranking.results:
            result.document = _Document(texts[result.index]) if self.return_documents else None
        return msgspec.json.encode(ranking)


class _Score(msgspec.Struct):
    index: int
    score: float
    object: str = "score"


class _Scores(msgspec.Struct):
    data: list[_Score]
    usage: msgspec.Raw
    model: str
    object: str = "list"


class ScoreAsk(AskBase):
    text_1: str
    text_2: str | Annotated[list[str], msgspec.Meta(min_length=1)]
    truncate_prompt_tokens: int | None = None

    @property
    def texts(self) -> list[str]:
        return [self.text_2] if isinstance(self.text_2, str) else self.text_2

    @property
    def prompt(self) -> list[bytes]:
        return [text.encode() for text in (self.text_1, *self.texts)]

    def to_engine(self, body: bytes, orders: Orders) -> bytes:  # noqa: ARG002 - asked in the words of rerank
        question = _Question(self.model, self.text_1, self.texts, truncate_prompt_tokens=self.truncate_prompt_tokens)
        return msgspec.json.encode(question)

    def to_client(self, answer: bytes) -> bytes:
        ranking = _read_ranking(answer, len(self.texts))
        results = sorted(ranking.results, key=lambda result: result.index)
        scores = [_Score(result.index, result.relevance_score) for result in results]
        return msgspec.json.encode(_Scores(scores, ranking.usage, ranking.model))


class Rerank:
    name: SurfaceName = "rerank"
    path = engine_path = _ENGINE_PATH
    errors = OPENAI

    def read(self, body: bytes) -> RerankAsk:
        return read_body(_RERANK_DECODER, body, "a rerank")


class Score:
    name: SurfaceName = "score"
    path = b"/v1/score"
    engine_path = _ENGINE_PATH
    errors = OPENAI

    def read(self, body: bytes) -> ScoreAsk:
        return read_body(_SCORE_DECODER, body, "a score")


def _read_ranking(answer: bytes, count: int) -> _Ranking:
    try:
        ranking = msgspec.json.decode(answer, type=_Ranking)
    except ValueError:
        ranking = None
    if ranking is None or not all(0 <= result.index < count for result in ranking.results):
        raise ReplicaLost("the replica's ranking cannot be read", remedy="try again")
    return ranking


_RERANK_DECODER = msgspec.json.Decoder(RerankAsk)
_SCORE_DECODER = msgspec.json.Decoder(ScoreAsk)
