"""llama.cpp's server, from the xllamacpp wheel: it completes, embeds or ranks."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # an answer is as the server tells it

import httpx

from controlplane.contracts.runs import RunSpec

MOST_THREADS = 16  # more rarely help one small model on a shared host


@dataclass(frozen=True)
class LlamaCpp:
    """`work` is what the server is started for; the others say how it is asked for a proof and where that is."""

    work: str
    path: str
    question: dict[str, object]
    proof: tuple[str | int, ...]

    def command(self, spec: RunSpec, socket: Path, *, cpus: int) -> tuple[str, ...]:
        server = (sys.executable, "-m", "controlplane.runner.llama_cpp_server")
        sizes = {"context": spec.context_tokens, "parallel": spec.parallel, "threads": min(cpus, MOST_THREADS)}
        return (
            *server,
            f"--model={spec.model_path}",
            f"--alias={spec.model_name}",
            f"--socket={socket}",
            f"--work={self.work}",
            *(f"--{name}={size}" for name, size in sizes.items()),
        )

    async def is_up(self, server: httpx.AsyncClient) -> bool:
        try:
            return (await server.get("/health")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def prove(self, server: httpx.AsyncClient, spec: RunSpec) -> str:
        try:
            answer = await server.post(self.path, json={"model": spec.model_name, **self.question})
            body = answer.json()
        except (httpx.TransportError, ValueError) as error:
            return f"the first answer failed: {type(error).__name__}: {error}"
        if answer.status_code != httpx.codes.OK:
            return f"the first answer failed: {answer.status_code} {str(body)[:300]}"
        return "" if _at(body, self.proof) else "the first answer was empty"


def _at(body: Any, place: tuple[str | int, ...]) -> Any:
    """Return what is at that place of an answer, None when it is not there."""
    try:
        for step in place:
            body = body[step]
    except (KeyError, IndexError, TypeError):
        return None
    return body


COMPLETE = LlamaCpp(
    "complete",
    "/v1/chat/completions",
    {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
    ("usage", "completion_tokens"),  # one token may be half a character, so the count is the proof and not the text
)
EMBED = LlamaCpp("embed", "/v1/embeddings", {"input": "Hello"}, ("data", 0, "embedding", 0))
RANK = LlamaCpp("rank", "/v1/rerank", {"query": "Hello", "documents": ["Hello"]}, ("results", 0, "relevance_score"))
