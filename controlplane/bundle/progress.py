"""Who is told how far long work with bundles is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from controlplane.bundle.reader import Advance


class Progress(Protocol):
    """Who is told how far it is."""

    def start(self, what: str, total_bytes: int) -> None: ...
    def advance(self, size_bytes: int) -> None: ...
    def end(self) -> None: ...


class Unseen:
    """Nobody watches."""

    def start(self, what: str, total_bytes: int) -> None: ...
    def advance(self, size_bytes: int) -> None: ...
    def end(self) -> None: ...


UNSEEN = Unseen()


@contextmanager
def watched(progress: Progress, what: str, total_bytes: int) -> Iterator[Advance]:
    """Tell of one step from its start to its end, however it ends."""
    progress.start(what, total_bytes)
    try:
        yield progress.advance
    finally:
        progress.end()
