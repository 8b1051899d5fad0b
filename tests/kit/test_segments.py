"""The second sink: on the disk before it is said, or not said at all."""

import asyncio
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.kit.segments import Ballast, SegmentWriter, delete_older, read_tails


def contents(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


async def test_what_was_appended_is_in_the_file_when_append_returns(tmp_path: Path):
    writer = SegmentWriter(tmp_path, "api")
    await writer.append([b"one", b"two"])
    assert contents(tmp_path) == [b"one", b"two"]
    await writer.append([b"three"])
    assert contents(tmp_path) == [b"one", b"two", b"three"]
    await writer.close()


async def test_many_who_wait_share_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    whole = os.fdatasync

    def counted(file: int) -> None:
        synced.append(file)
        whole(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    writer = SegmentWriter(tmp_path, "api")

    await asyncio.gather(*(writer.append([b"%d" % i]) for i in range(200)))

    assert sorted(map(int, contents(tmp_path))) == list(range(200))
    assert len(synced) <= 3
    await writer.close()


async def test_a_note_comes_with_the_next_group_or_at_the_end(tmp_path: Path):
    writer = SegmentWriter(tmp_path, "api")
    await writer.append([b"one"])
    writer.note(b"noted")
    assert contents(tmp_path) == [b"one"]
    await writer.append([b"two"])
    writer.note(b"last")
    await writer.close()
    assert contents(tmp_path) == [b"one", b"noted", b"two", b"last"]


async def test_a_full_file_is_followed_by_the_next(tmp_path: Path):
    writer = SegmentWriter(tmp_path, "api", largest_bytes=10)
    for _ in range(4):
        await writer.append([b"x" * 8])
    await writer.close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["api-0001.jsonl", "api-0002.jsonl"]


async def test_two_processes_of_one_name_never_share_a_file(tmp_path: Path):
    first, second = SegmentWriter(tmp_path, "api"), SegmentWriter(tmp_path, "api")
    await first.append([b"one"])
    with pytest.raises(FileExistsError):
        await second.append([b"two"])
    await second.append([b"three"])
    assert contents(tmp_path) == [b"one", b"three"]
    await first.close()
    await second.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_a_write_that_fails_is_told_and_the_next_one_gets_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    writer = SegmentWriter(tmp_path, "api")
    await writer.append([b"good"])

    def fail(file: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            await writer.append([b"lost"])
    await writer.append([b"after"])

    assert contents(tmp_path) == [b"good", b"after"]
    assert len(list(tmp_path.iterdir())) == 2
    await writer.close()


async def test_a_file_whose_name_may_not_last_is_left_and_the_next_group_gets_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = SegmentWriter(tmp_path, "api")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                await writer.append([b"lost"])
    await writer.append([b"after"])
    await writer.close()

    assert contents(tmp_path) == [b"after"]
    assert (tmp_path / "api-0003.jsonl").read_bytes() == b"after\n"


async def test_a_disk_that_hangs_is_a_failure_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import threading  # noqa: PLC0415 - here only

    gate = threading.Event()
    whole = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (gate.wait(20), whole(file)))
    writer = SegmentWriter(tmp_path, "api", patience_s=0.05)

    with pytest.raises(TimeoutError):
        await writer.append([b"one"])
    with pytest.raises(TimeoutError):
        await writer.append([b"two"])
    gate.set()
    await writer.close()


def test_a_real_limit_of_the_disk_stops_the_line_and_leaves_whole_ones(tmp_path: Path):
    """RLIMIT_FSIZE stands for a full disk: the kernel itself refuses the write, half of it done."""
    program = f"""
import asyncio, resource, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from pathlib import Path
from controlplane.kit.segments import SegmentWriter
async def main():
    writer = SegmentWriter(Path({str(tmp_path)!r}), "api")
    await writer.append([b"a" * 1000])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
    try:
        await writer.append([b"b" * 1000])
    except OSError as error:
        print(error.errno)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == errno.EFBIG
    assert contents(tmp_path) == [b"a" * 1000]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_the_ends_of_files_are_read_back_without_a_torn_line(tmp_path: Path):
    (tmp_path / "a-0001.jsonl").write_bytes(b"one\ntwo\nhal")
    (tmp_path / "b-0001.jsonl").write_bytes(b"three\n")
    assert sorted(read_tails(tmp_path)) == [b"one", b"three", b"two"]


def test_ballast_is_taken_once_and_given_once(tmp_path: Path):
    ballast = Ballast(tmp_path / "ballast", 4096)
    ballast.reserve()
    ballast.reserve()
    assert (tmp_path / "ballast").stat().st_size == 4096
    assert ballast.release()
    assert not ballast.release()


def test_old_files_go_and_young_ones_stay(tmp_path: Path):
    (tmp_path / "old-0001.jsonl").write_bytes(b"x\n")
    os.utime(tmp_path / "old-0001.jsonl", (1000, 1000))
    (tmp_path / "young-0001.jsonl").write_bytes(b"x\n")
    assert delete_older(tmp_path, 2000) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["young-0001.jsonl"]
