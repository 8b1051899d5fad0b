"""How much of large bodies a worker has in hand: no key may fill its memory, and neither may all of them."""

from typing import Final

from controlplane.gateway.errors import TooMuchAtOnce
from controlplane.gateway.limits import Limits

SMALL: Final = 64 * 1024  # a body is counted in steps of this; smaller ones are not: connections bound those


class Bodies:
    """Bytes from the first of a body that is awaited to the end of its answer."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all = 0
        self._by_key: dict[str, int] = {}

    def take(self, key: str, size: int) -> None:
        """Count bytes that a key's request will need. Raises TooMuchAtOnce."""
        of_key = self._by_key.get(key, 0) + size
        if of_key > self._limits.bodies_of_key_bytes:
            raise TooMuchAtOnce("this key has too many large requests on their way", remedy="send fewer at a time")
        if self._all + size > self._limits.bodies_bytes:
            raise TooMuchAtOnce("too many large requests are on their way", remedy="try again in a few seconds")
        self._by_key[key] = of_key
        self._all += size

    def give_back(self, key: str, size: int) -> None:
        self._all -= size
        left = self._by_key[key] - size
        if left:
            self._by_key[key] = left
        else:
            del self._by_key[key]
