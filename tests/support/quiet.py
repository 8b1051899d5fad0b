"""Progress that nobody looks at."""


class Quiet:
    def start(self, what: str, total_bytes: int) -> None:
        pass

    def advance(self, size_bytes: int) -> None:
        pass

    def end(self) -> None:
        pass
