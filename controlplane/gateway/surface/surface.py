"""What the gateway must know of one kind of request, whatever its dialect."""

from typing import Protocol

import msgspec

from controlplane.contracts import snapshot


class Ask(Protocol):
    """A body as far as it is read. `choices` completions are asked for, each of at most `completion_tokens`.

    `completion_tokens` None leaves it to the gateway; `prompt` is what the engine will read, in its order.
    """

    @property
    def model(self) -> str: ...

    @property
    def streamed(self) -> bool: ...

    @property
    def completion_tokens(self) -> int | None: ...

    @property
    def choices(self) -> int: ...

    @property
    def prompt(self) -> list[bytes]: ...


class Orders(msgspec.Struct, frozen=True, gc=False):
    """What the gateway adds for the engine. `most_tokens` bounds each completion; 0 for work that completes nothing.

    `salt` divides the cache of prompts; an engine that knows no salt reuses nothing unless `reuse` is true.
    """

    most_tokens: int
    salt: str = ""
    reuse: bool = True
    adapter: str = "llama_cpp"


class Surface(Protocol):
    """One route of the gateway. `path` is the client's, `engine_path` the inference server's."""

    name: snapshot.Surface
    path: bytes
    engine_path: bytes

    def read(self, body: bytes) -> Ask:
        """Read a body. Raises BadRequest that names the field."""
        ...

    def to_engine(self, ask: Ask, body: bytes, orders: Orders) -> bytes:
        """Return the body as the engine gets it: the client's own bytes, and what the gateway orders."""
        ...


def with_fields(body: bytes, fields: bytes) -> bytes:
    """Return an object that was read already with more fields at its end; none of them may be in it yet."""
    return body.rstrip()[:-1] + b"," + fields + b"}"
