"""Many requests at once to a gateway, as a module: URL KEY CA MODEL COUNT MAX_TOKENS [HEADER=VALUE ...]."""

import json
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

AT_ONCE = 8


def ask_many(url: str, key: str, ca: str, ask: dict, count: int, headers: dict[str, str]) -> list[dict]:
    """Return of each its status, its usage, its code of refusal and what the gateway's headers say."""
    verify = ssl.create_default_context(cafile=ca)
    headers = headers | {"authorization": f"Bearer {key}", "connection": "close"}  # so that every worker gets some

    def ask_once(number: int) -> dict:
        body = ask | {"messages": [{"role": "user", "content": f"Say something of the number {number}."}]}
        with httpx.Client(verify=verify, trust_env=False, timeout=120) as client:
            try:
                answer = client.post(f"{url}/v1/chat/completions", json=body, headers=headers)
            except httpx.TransportError as error:
                return {"status": 0, "code": type(error).__name__, "usage": None, "headers": {}}
        told = answer.json()
        ours = {name: value for name, value in answer.headers.items() if name.startswith("x-re")}
        code = told.get("error", {}).get("code", "")
        return {"status": answer.status_code, "code": code, "usage": told.get("usage"), "headers": ours}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask_once, range(count)))


if __name__ == "__main__":
    url, key, ca, model, count, most, *pairs = sys.argv[1:]
    asked = {"model": model, "max_tokens": int(most)}
    json.dump(ask_many(url, key, ca, asked, int(count), dict(pair.split("=", 1) for pair in pairs)), sys.stdout)
