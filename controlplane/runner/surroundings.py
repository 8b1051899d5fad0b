"""What a run finds around itself; read once by `main`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DRAINED = 0
NO_CONTROL_PLANE = 1
REGISTRATION_REFUSED = 3
FENCED = 4
FAILED = 5


@dataclass(frozen=True)
class Surroundings:
    """`environment` is passed on to the inference server; `clock` counts seconds, through a suspend too."""

    job_id: str
    node: str
    environment: Mapping[str, str]
    scratch: Path
    cpus: int
    clock: Callable[[], float]


class RunOver(Exception):
    """The run ends now, with this exit status; `detail` is for people and holds no prompt."""

    def __init__(self, exit_code: int, detail: str) -> None:
        super().__init__(detail)
        self.exit_code = exit_code
        self.detail = detail
