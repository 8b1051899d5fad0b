"""A line of a batch as a client of the exchange: nobody hangs up, nothing is streamed, the answer is kept."""

import asyncio

import msgspec

from controlplane.gateway.error_shapes import ErrorShape
from controlplane.gateway.errors import Refusal, ReplicaLost
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.hub import Hub
from controlplane.gateway.request import Request

_OK = 200


class Reply(msgspec.Struct, frozen=True):
    """`refusal` None is an answer of the endpoint."""

    status: int
    body: bytes
    refusal: Refusal | None = None


class LineClient:
    keep_alive = True
    chunked_answers = False

    def __init__(self, hub: Hub, request: Request) -> None:
        self.deadline = hub.tick + hub.limits.clear_s
        self._errors: ErrorShape = request.surface.errors
        self._request_id = request.request_id
        self._parts: list[bytes] = []
        self.reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._exchange = Exchange(hub, self, request)

    def begin(self) -> None:
        self._exchange.begin()

    # --- what the exchange calls

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def answered(self) -> None:
        answer = b"".join(self._parts)
        while answer.startswith(b"HTTP/1.1 1"):  # it waited, and was told so
            answer = answer.partition(b"\r\n\r\n")[2]
        self._tell(Reply(_OK, answer.partition(b"\r\n\r\n")[2]))

    def refuse(self, refusal: Refusal, headers: bytes = b"") -> None:  # noqa: ARG002 - nobody reads them
        self._tell(Reply(refusal.status, self._errors.body(refusal, self._request_id), refusal))

    def leave(self) -> None:
        self.refuse(ReplicaLost("the answer broke off", remedy="send the request again"))

    # --- what the sweep calls

    def on_deadline(self) -> None:
        self._exchange.time_out()

    def finish_and_close(self) -> None:
        """Do nothing: a line that is under way finishes."""

    def abort(self) -> None:
        self._exchange.cancel()
        self._tell(None)

    def _tell(self, reply: Reply | None) -> None:
        if not self.reply.done():
            self.reply.set_result(reply)


async def ask(hub: Hub, request: Request) -> Reply | None:
    """Send one request the way every request goes; None when the process ends. Cancelled, it cancels the work."""
    client = LineClient(hub, request)
    hub.connections.add(client)
    try:
        client.begin()
        return await client.reply
    except asyncio.CancelledError:
        client.abort()
        raise
    finally:
        hub.connections.discard(client)
