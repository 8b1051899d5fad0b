"""What the gateway must know of one kind of request, whatever its dialect."""

from typing import Protocol

import msgspec

from controlplane.contracts import snapshot
from controlplane.gateway.error_shapes import ErrorShape


class Orders(msgspec.Struct, frozen=True, gc=False):
    """What the gateway adds for the engine. `most_tokens` bounds each completion; 0 for work that completes nothing.

    `salt` divides the cache of prompts; llama.cpp knows no salt and reuses nothing unless `reuse` is true.
    """

    most_tokens: int
    salt: str = ""
    reuse: bool = False
    adapter: str = "llama_cpp"


class Ask(Protocol):
    """A body as far as it is read. `choices` completions are asked for, each of at most `completion_tokens`.

    `completion_tokens` None leaves it to the gateway, 0 completes nothing; `prompt` is what the engine will read, in
    its order. `hides_usage`: the client asked for a stream and not for the event that tells its usage.
    """

    @property
    def model(self) -> str: ...

    @property
    def streamed(self) -> bool: ...

    @property
    def hides_usage(self) -> bool: ...

    @property
    def completion_tokens(self) -> int | None: ...

    @property
    def choices(self) -> int: ...

    @property
    def prompt(self) -> list[bytes]: ...

    def require_fit(self, adapter: str) -> None:
        """Raise BadRequest when this kind of engine would do something else than what is asked."""
        ...

    def to_engine(self, body: bytes, orders: Orders) -> bytes:
        """Return its body as the engine gets it: the client's own bytes, and what the gateway orders."""
        ...

    def to_client(self, answer: bytes) -> bytes:
        """Return a whole answer in the client's dialect. Raises ReplicaLost when it is none."""
        ...


class Surface(Protocol):
    """One route of the gateway. `path` is the client's, `engine_path` the inference server's."""

    @property
    def name(self) -> snapshot.Surface: ...

    @property
    def path(self) -> bytes: ...

    @property
    def engine_path(self) -> bytes: ...

    @property
    def errors(self) -> ErrorShape: ...

    def read(self, body: bytes) -> Ask:
        """Read a body. Raises BadRequest that names the field."""
        ...


def with_fields(body: bytes, fields: list[bytes]) -> bytes:
    """Return an object that was read already with more fields at its end.

    Every engine takes the last of two fields of one name, as our reader does: what is added here is what counts.
    """
    return b"%b,%b}" % (body.rstrip()[:-1], b",".join(fields)) if fields else body


def bound(name: bytes, ask: Ask, orders: Orders) -> list[bytes]:
    """Return the field that bounds a completion, unless the client asked for no more than it may have."""
    return [b'"%b":%d' % (name, orders.most_tokens)] if is_bounded(ask, orders.most_tokens) else []


def is_bounded(ask: Ask, most_tokens: int) -> bool:
    """Say whether the gateway sets the bound of each completion, and not the client."""
    asked = ask.completion_tokens
    return asked is None or asked > most_tokens


def isolation(orders: Orders) -> list[bytes]:
    """Return the field that keeps prompts of one tenant from warming another's; our llama.cpp reuses none by itself."""
    if orders.adapter == "llama_cpp":
        return [b'"cache_prompt":true'] if orders.reuse else []
    return [b'"cache_salt":%b' % msgspec.json.encode(orders.salt)] if orders.salt else []
