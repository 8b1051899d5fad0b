"""What the workers of a node know of each other's requests: what runs where, and which prompts were read there.

What a worker reads it tells the others, and each keeps its own mirrors of all engines by that: a choice looks at
nobody's memory but its own. Marks are hashes of one parent's children, which alone share its memory.
"""

from array import array
from collections.abc import Sequence
from typing import Final, Protocol

from controlplane.gateway.node_page import RING, NodePage
from controlplane.gateway.routing.choose import Choosable
from controlplane.gateway.routing.standing import Standing

_HEAD: Final = 4  # words before the marks: length, hash of what comes after it, column, new bytes
_AT_ONCE: Final = RING // 4  # words of what one other worker has told; the longest prompt has some 130
_LOOKS_EVERY_S: Final = 0.001


class Neighbours(Protocol):
    """The other workers of this node. `name` is of a replica at its place, the same at all of them."""

    def join(self, name: str, standing: Standing) -> None:
        """Tell from now on how this replica stands, and hear it."""
        ...

    def part(self, standing: Standing) -> None:
        """The replica is gone."""
        ...

    def look(self, replicas: Sequence[Choosable], now: float) -> None:
        """Let these standings know what the others do there."""
        ...

    def tell(self, standing: Standing, marks: Sequence[int], new_bytes: int) -> None:
        """The replica reads a prompt of these marks, of which so much is new to it."""
        ...


class NoNeighbours:
    """One worker is alone."""

    def join(self, name: str, standing: Standing) -> None:
        """Do nothing: nobody is told."""

    def part(self, standing: Standing) -> None:
        """Do nothing: nobody was told."""

    def look(self, replicas: Sequence[Choosable], now: float) -> None:
        """Do nothing: nobody else sends anything."""

    def tell(self, standing: Standing, marks: Sequence[int], new_bytes: int) -> None:
        """Do nothing: nobody listens."""


class NodeNeighbours:
    """What was overwritten before it was heard, or is torn, is missed: then others believe a little less."""

    def __init__(self, page: NodePage) -> None:
        self._page = page
        self._standings: dict[int, Standing] = {}
        self._heard: dict[int, int] = {}
        self._looked_at = 0.0

    def join(self, name: str, standing: Standing) -> None:
        at = self._page.claim(name)
        if at is not None:
            standing.share(self._page.words, self._page.own, at)
            self._standings[at] = standing

    def part(self, standing: Standing) -> None:
        at = standing.column
        if self._standings.pop(at, None) is not None:
            standing.unshare()
            self._page.release(at)

    def look(self, replicas: Sequence[Choosable], now: float) -> None:
        if now - self._looked_at >= _LOOKS_EVERY_S:
            self._looked_at = now
            self.listen(now)
        for replica in replicas:
            standing = replica.standing
            if now - standing.counted_at >= _LOOKS_EVERY_S:  # of each by itself: another endpoint may look more often
                standing.counted_at = now
                standing.count(self._page.others)

    def listen(self, now: float) -> None:
        """Hear what the others have read, some of it at once."""
        heard = self._heard
        for row in self._page.others:
            head = self._page.head(row)
            if heard.get(row) != head:
                heard[row] = self._hear(row, heard.get(row, head), head, now)

    def tell(self, standing: Standing, marks: Sequence[int], new_bytes: int) -> None:
        told = (standing.column, new_bytes, *marks)
        self._page.put(array("q", (len(told) + 2, hash(told), *told)))

    def _hear(self, row: int, start: int, head: int, now: float) -> int:
        """Return up to where it was heard; a worker that is new to us is heard from now on."""
        if head - start > RING:
            return head
        words = self._page.read(row, start, min(head - start, _AT_ONCE))
        at, end = 0, len(words)
        while at < end:
            length = words[at]
            if length < _HEAD or length > head - start - at:
                return head
            if length > end - at:
                break
            told = tuple(words[at + 2 : at + length])
            if hash(told) != words[at + 1]:
                return head
            self._learn(told, now)
            at += length
        return start + at

    def _learn(self, told: tuple[int, ...], now: float) -> None:
        standing, new_bytes = self._standings.get(told[0]), told[1]
        if standing is not None:
            standing.mirror.read(told[2:], new_bytes)
            standing.work(new_bytes, now)
