"""Who sits where: what each worker of a node has seated at an endpoint, for the others."""

from controlplane.gateway.node_page import NodePage


class SeatBoard:
    """Endpoints that found no column have seats that each worker counts for itself."""

    def __init__(self, page: NodePage) -> None:
        self._page = page
        self._places: dict[str, int | None] = {}

    def seats(self, endpoint_id: str) -> int:
        """Return how many the other workers have seated."""
        at, words = self._place(endpoint_id), self._page.words
        return 0 if at is None else sum(words[row + at] for row in self._page.others)

    def tell(self, endpoint_id: str, seated: int) -> None:
        at = self._place(endpoint_id)
        if at is not None:
            self._page.words[self._page.own + at] = seated

    def forget(self, endpoint_id: str) -> None:
        """Nobody of this worker sits there; its place may be another's."""
        at = self._places.pop(endpoint_id, None)
        if at is not None:
            self._page.release(at)

    def _place(self, endpoint_id: str) -> int | None:
        if endpoint_id not in self._places:
            self._places[endpoint_id] = self._page.claim(endpoint_id)
        return self._places[endpoint_id]
