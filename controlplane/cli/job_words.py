"""The short words of `redoubt job`: durations, sizes, signals, and output that a terminal may show."""

import re
import sys

from pydantic import ValidationError

from controlplane.contracts.jobs import Checkpoint, LogPart
from controlplane.kit.errors import BadInput

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
DURATION = re.compile(r"(?:\d+[smhd])+")
SIZE = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.IGNORECASE)
# what moves a cursor, changes a title or hides text is shown instead of done
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def read_duration_s(text: str) -> int:
    """Return the seconds of "90s", "30m", "2h", "1d12h"."""
    if not DURATION.fullmatch(text):
        raise BadInput(f"{text!r} is no time", remedy="write it like 90s, 30m, 2h or 1d12h")
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def read_size_bytes(text: str) -> int:
    """Return the bytes of "40G" or "512M"; a number alone is bytes."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise BadInput(f"{text!r} is no size", remedy="write it like 512M or 40G")
    return int(match[1]) * BYTES[match[2].upper()]


def read_checkpoint(text: str) -> Checkpoint | None:
    """Return the signal and its time of "USR1@60"; "" is none."""
    if not text:
        return None
    signal, _at, seconds = text.partition("@")
    try:
        return Checkpoint.model_validate({"signal": signal.removeprefix("SIG"), "before_s": int(seconds or 60)})
    except (ValidationError, ValueError):
        raise BadInput(
            f"{text!r} is no checkpoint",
            remedy="write it like USR1@60: USR1, USR2, HUP, INT or TERM, 5 to 3600 seconds",
        ) from None


def read_environment(pairs: list[str]) -> dict[str, str]:
    """Return the variables of NAME=VALUE pairs."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"{pair!r} is no variable", remedy="write it like --env NAME=VALUE")
        found[name] = value
    return found


def print_part(part: LogPart) -> None:
    """Print a part as it is into a file or a pipe; on a terminal nothing in it moves the cursor or hides."""
    stream = sys.stdout if part.stream == "out" else sys.stderr
    if stream.isatty():
        stream.write(printable(part.data))
    else:
        stream.buffer.write(part.data)
    stream.flush()


def printable(data: bytes) -> str:
    r"""Return output for a terminal: control characters but tab and newline are shown as \xNN."""
    text = data.decode(errors="replace").replace("\r\n", "\n")
    return UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
