"""A control plane that takes every line and has no news: `python -m tests.bench.mock_control_plane PORT`."""

import asyncio
import json
import sys
from typing import cast

import uvloop


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
        status, answer = _answer(path, body)
        self.transport.write(
            b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(answer), answer)
        )


def _answer(path: bytes, body: bytes) -> tuple[int, bytes]:
    if path == b"/api/v1/gateway/spool":
        lines = json.loads(body)
        return 200, b'{"next_seq":%d}' % (lines["first"] + len(lines["lines"]))
    return 304 if path.startswith(b"/api/v1/gateway/snapshot") else 404, b""


def _length(head: bytes) -> int:
    low = head.lower()
    place = low.find(b"content-length: ")
    return 0 if place < 0 else int(low[place + 16 :].split(b"\r", 1)[0])


async def main(port: int) -> None:
    await asyncio.get_running_loop().create_server(ControlPlane, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
