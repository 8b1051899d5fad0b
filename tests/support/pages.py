"""Several workers of a node in one process."""

from controlplane.gateway.node_page import NodePage


class PageInProcess(NodePage):
    """Locks of a file do not exclude their own process: here whoever shares `taken` has different rows."""

    def __init__(self, memory: int, taken: set[int]) -> None:
        self._taken = taken
        super().__init__(memory)

    def _lock(self, number: int) -> bool:
        if number in self._taken:
            return False
        self._taken.add(number)
        return True

    def _unlock(self, number: int) -> None:
        self._taken.discard(number)
