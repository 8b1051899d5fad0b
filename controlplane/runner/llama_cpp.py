"""llama.cpp's server, from the xllamacpp wheel."""

import sys
from pathlib import Path

import httpx

from controlplane.contracts.runs import RunSpec

MOST_THREADS = 16  # more rarely help one small model on a shared host


class LlamaCpp:
    def command(self, spec: RunSpec, socket: Path, *, cpus: int) -> tuple[str, ...]:
        server = (sys.executable, "-m", "controlplane.runner.llama_cpp_server")
        sizes = {"context": spec.context_tokens, "parallel": spec.parallel, "threads": min(cpus, MOST_THREADS)}
        return (
            *server,
            f"--model={spec.model_path}",
            f"--alias={spec.model_name}",
            f"--socket={socket}",
            *(f"--{name}={size}" for name, size in sizes.items()),
        )

    async def is_up(self, server: httpx.AsyncClient) -> bool:
        try:
            return (await server.get("/health")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def prove(self, server: httpx.AsyncClient, spec: RunSpec) -> str:
        ask = {"model": spec.model_name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        try:
            answer = await server.post("/v1/chat/completions", json=ask)
            body = answer.json()
        except (httpx.TransportError, ValueError) as error:
            return f"the first completion failed: {type(error).__name__}: {error}"
        if answer.status_code != httpx.codes.OK:
            return f"the first completion failed: {answer.status_code} {str(body)[:300]}"
        # One token may be half a character, so the count is the proof and not the text.
        return "" if body["usage"]["completion_tokens"] >= 1 else "the first completion held no token"
