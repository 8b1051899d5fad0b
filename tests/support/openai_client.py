"""The official client, unmodified, lists models and streams. Run as a module: URL KEY CA MODEL."""

import json
import ssl
import sys

import httpx2  # the official client's own HTTP library
from openai import OpenAI


def speak(url: str, key: str, ca: str, model: str) -> dict[str, object]:
    """Return what the client saw."""
    verify = ssl.create_default_context(cafile=ca) if ca else True
    with OpenAI(
        base_url=url, api_key=key, http_client=httpx2.Client(verify=verify, trust_env=False), max_retries=0
    ) as client:
        models = [entry.id for entry in client.models.list()]
        stream = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "What keeps a fortress safe?"}],
            max_tokens=16,
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    return {"models": models, "pieces": len([piece for piece in pieces if piece]), "answer": "".join(pieces)}


if __name__ == "__main__":
    json.dump(speak(*sys.argv[1:5]), sys.stdout)
