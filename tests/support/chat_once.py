"""One chat request, as a module: URL KEY CA MODEL. Prints the status and the error code."""

import ssl
import sys

import httpx


def main(url: str, key: str, ca: str, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    verify = ssl.create_default_context(cafile=ca)
    with httpx.Client(verify=verify, trust_env=False, timeout=60) as client:
        answer = client.post(f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    code = answer.json()["error"]["code"] if answer.is_error else ""
    sys.stdout.write(f"{answer.status_code} {code}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
