"""A control plane that takes all lines, grants all and has no news: `python -m tests.bench.mock_control_plane PORT`."""

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

_PLENTY = 10**12
_AHEAD = 10**8
_WAIT = re.compile(rb"[?&]wait_s=([0-9.]+)")


class ControlPlane(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._buffer = b""
        path = head.split(b" ", 2)[1]
        waits = _WAIT.search(path)
        if waits is None:
            self._say(*_answer(path, body))
        else:  # as the control plane does while it has nothing newer
            asyncio.get_running_loop().call_later(float(waits[1]), self._say, 204, b"")

    def _say(self, status: int, answer: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(answer), answer)
        )


def _answer(path: bytes, body: bytes) -> tuple[int, bytes]:
    if path == b"/api/v1/gateway/spool":
        lines = json.loads(body)
        return 200, b'{"next_seq":%d}' % (lines["first"] + len(lines["lines"]))
    if path == b"/api/v1/gateway/allotments":
        return 200, json.dumps({"accounts": [_grant(asked) for asked in json.loads(body)["accounts"]]}).encode()
    return 204 if path.startswith(b"/api/v1/gateway/snapshot") else 404, b""


def _grant(asked: dict) -> dict:
    """Grant all that is asked for, and enough for the next burst: a bench of requests is none of asks."""
    granted = max(asked["granted"], asked["used"] + asked["wanted"] + asked["ahead"] + _AHEAD)
    rest = {"left": _PLENTY, "elsewhere": 0, "at_best": _PLENTY, "recall": False}
    return {"account": asked["account"], "granted": granted, **rest}


def _length(head: bytes) -> int:
    low = head.lower()
    place = low.find(b"content-length: ")
    return 0 if place < 0 else int(low[place + 16 :].split(b"\r", 1)[0])


async def main(port: int) -> None:
    await asyncio.get_running_loop().create_server(ControlPlane, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
