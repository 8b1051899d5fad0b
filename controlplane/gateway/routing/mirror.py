"""What one engine is believed to hold of the prompts that it read: an approximate, bounded picture of its cache."""

from collections.abc import Sequence

from controlplane.gateway.routing.prefix import BLOCK_BYTES

_MOST_MARKS = 16_384  # 32 MiB of prompts: some eight million tokens, more than most engines hold
_FARTHEST = _MOST_MARKS * BLOCK_BYTES
_NEAREST = 8 * BLOCK_BYTES


class Mirror:
    """Engines forget what they used least recently, so a mark is held while no more than `reach` bytes came after it.

    How far that is nobody tells us: answers say how much of a prompt was cached, and `reach` follows them.
    """

    __slots__ = ("_fed", "_stamps", "reach")

    def __init__(self) -> None:
        self._stamps: dict[int, int] = {}
        self._fed = 0  # bytes that were new to the engine
        self.reach = _FARTHEST

    def __len__(self) -> int:
        return len(self._stamps)

    def held(self, marks: Sequence[int]) -> int:
        """Return how many marks from the start are believed to be held."""
        if not marks:
            return 0
        stamps, oldest = self._stamps, self._fed - self.reach
        if stamps.get(marks[0], oldest) <= oldest:
            return 0
        low, high = 1, len(marks)  # a mark is never held longer than the one before it
        if stamps.get(marks[-1], oldest) > oldest:
            return high
        while low < high:
            middle = (low + high) // 2
            if stamps.get(marks[middle], oldest) > oldest:
                low = middle + 1
            else:
                high = middle
        return low

    def knows(self, mark: int) -> bool:
        oldest = self._fed - self.reach
        return self._stamps.get(mark, oldest) > oldest

    def age(self, marks: Sequence[int], number: int) -> int:
        """Return how many bytes came after the mark of that number, -1 for one that never came."""
        stamp = self._stamps.get(marks[number - 1]) if 0 < number <= len(marks) else None
        return -1 if stamp is None else self._fed - stamp

    def read(self, marks: Sequence[int], new_bytes: int) -> None:
        """The engine reads a prompt, of which so much is new to it."""
        self._fed += new_bytes
        self._stamps.update(dict.fromkeys(marks, self._fed))
        if len(self._stamps) > _MOST_MARKS:
            self._forget()

    def learn(self, *, believed: int, age: int, found: int) -> None:
        """Compare what was believed to be held, in marks, with what the engine says it was.

        `age` is of the last block believed, or of the first one not believed when that was all wrong.
        """
        if age < 0:
            return
        if found < believed // 2:
            self.reach = max(_NEAREST, min(self.reach, age))
        elif found > believed + 1 or age > self.reach // 2:
            self.reach = min(_FARTHEST, max(self.reach + self.reach // 32, age))

    def _forget(self) -> None:
        """Drop the older half."""
        middle = sorted(self._stamps.values())[len(self._stamps) // 2]
        self._stamps = {mark: stamp for mark, stamp in self._stamps.items() if stamp > middle}
