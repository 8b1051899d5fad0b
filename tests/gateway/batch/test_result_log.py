"""What a log of results gives back after a kill, a power cut and a disk that forgets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.gateway.batch.result_log import Entry, LogFile
from controlplane.gateway.batch.sealed import HEADER_BYTES, Sealing

SEALING = Sealing(b"k" * 32)
TEN = [Entry("answered", number, b"x" * 50) for number in range(1, 11)]


def reopened(path: Path) -> tuple[LogFile, list[int]]:
    """Return a log and the lines it knows."""
    log = LogFile(path, SEALING, "batch_1")
    return log, [entry.line for entry in log.open()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log, known = reopened(tmp_path / "log")
    log.append(TEN)
    log.close()
    assert known == []
    return tmp_path / "log"


def test_a_damaged_frame_costs_its_own_line_alone(path: Path):
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 2 * (len(content) - HEADER_BYTES) // 10 - 1] ^= 1
    path.write_bytes(content)

    log, known = reopened(path)
    log.append([Entry("answered", 2)])
    log.close()

    assert known == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert reopened(path)[1] == [*known, 2]


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0\0\0\x60half of a frame",
        lambda content: content + b"\0" * 4096,
        lambda content: content + b"\0\0",
    ],
    ids=["cut", "half", "zeros", "length"],
)
def test_what_a_cut_write_left_is_cut_off(path: Path, harm: Callable[[bytes], bytes]):
    whole = path.read_bytes()
    path.write_bytes(harm(whole))

    log, known = reopened(path)
    log.append([Entry("answered", 11)])
    log.close()

    assert known in ([*range(1, 11)], [*range(1, 10)])
    assert reopened(path)[1] == [*known, 11]


@pytest.mark.parametrize("header", [bytes(HEADER_BYTES), b"", b"cut"])
def test_a_log_whose_key_is_lost_begins_anew(path: Path, header: bytes):
    path.write_bytes(header + path.read_bytes()[HEADER_BYTES:] * (len(header) == HEADER_BYTES))

    log, known = reopened(path)
    log.append(TEN[:3])
    log.close()

    assert known == []
    assert reopened(path)[1] == [1, 2, 3]
