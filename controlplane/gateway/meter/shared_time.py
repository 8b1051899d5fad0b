"""Whose time it was: a replica's time is divided equally among the requests that run there at each moment."""


class SharedTime:
    """Processor sharing in constant time: the clock below runs at 1 / `running` of the real one."""

    __slots__ = ("_at_s", "_elapsed_s", "running")

    def __init__(self) -> None:
        self.running = 0
        self._elapsed_s = 0.0
        self._at_s = 0.0

    def enter(self, now_s: float) -> float:
        """Begin a request; return what `leave` wants to hear."""
        self._advance(now_s)
        self.running += 1
        return self._elapsed_s

    def leave(self, now_s: float, entered_s: float) -> float:
        """End a request; return the seconds of the replica that were its own."""
        self._advance(now_s)
        self.running -= 1
        return self._elapsed_s - entered_s

    def _advance(self, now_s: float) -> None:
        if self.running:
            self._elapsed_s += (now_s - self._at_s) / self.running
        self._at_s = now_s
