"""What all workers of a node must agree on: a table in a mapped file, digest -> value and time.

It forgets the oldest when a bucket is full, survives workers and restarts, and counts a torn slot as empty.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from struct import Struct

_SLOT = Struct("<QQQQ")  # digest, value, milliseconds since 1970, the other three folded together
_PER_BUCKET = 8
_BUCKET_BYTES = _PER_BUCKET * _SLOT.size
_WHOLE = 0x9E3779B97F4A7C15  # folded in, so that a slot of zeros is not whole


def digest_of(*parts: str) -> int:
    """Return 64 bits that stand for the parts, the same in every worker."""
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


class SharedTable:
    """`get` takes no lock; `put` and `claim` lock their bucket for a microsecond. Times are wall seconds."""

    def __init__(self, path: Path, *, buckets: int = 1 << 15) -> None:
        """Open or make the table; another number of buckets is another file. Raises OSError."""
        size = buckets * _BUCKET_BYTES
        file = path.with_name(f"{path.name}.{buckets}")
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._descriptor, 0, size)  # a full disk must say so now: a mapped page could only crash
        self._map = mmap.mmap(self._descriptor, size)
        self._buckets = buckets

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)

    def get(self, digest: int) -> tuple[int, float] | None:
        """Return the value and when it was put, None for nothing."""
        found = self._find(self._bucket(digest), digest)
        return None if found is None else (found[1], found[2])

    def put(self, digest: int, value: int, at_s: float) -> None:
        bucket = self._bucket(digest)
        with _Locked(self._descriptor, bucket):
            self._write(bucket, digest, value, at_s)

    def claim(self, digest: int, value: int, at_s: float, *, lasts_s: float) -> tuple[int, bool]:
        """Return the value in force and whether it is this caller's: the first of all workers sets it.

        A value that nobody claimed for `lasts_s` is over; each claim renews it.
        """
        bucket = self._bucket(digest)
        with _Locked(self._descriptor, bucket):
            found = self._find(bucket, digest)
            if found is not None and found[2] > at_s - lasts_s:
                self._write(bucket, digest, found[1], max(at_s, found[2]))
                return found[1], False
            self._write(bucket, digest, value, at_s)
            return value, True

    def _bucket(self, digest: int) -> int:
        """Return where the digest's bucket begins."""
        return digest % self._buckets * _BUCKET_BYTES

    def _find(self, bucket: int, digest: int) -> tuple[int, int, float] | None:
        """Return offset, value and time of the whole slot of this digest."""
        end = bucket + _BUCKET_BYTES
        wanted = digest.to_bytes(8, "little")
        at = self._map.find(wanted, bucket, end)
        while at >= 0:
            if not (at - bucket) % _SLOT.size:
                _, value, at_ms, check = _SLOT.unpack_from(self._map, at)
                if check == _fold(digest, value, at_ms):
                    return at, value, at_ms / 1000
            at = self._map.find(wanted, at + 1, end)
        return None

    def _write(self, bucket: int, digest: int, value: int, at_s: float) -> None:
        found = self._find(bucket, digest)
        offset = found[0] if found is not None else min(self._ages(bucket))[1]
        at_ms = int(at_s * 1000)
        _SLOT.pack_into(self._map, offset, digest, value, at_ms, _fold(digest, value, at_ms))

    def _ages(self, bucket: int) -> Iterator[tuple[int, int]]:
        """Yield the time and the offset of every slot; one that is not whole is the oldest."""
        for offset in range(bucket, bucket + _BUCKET_BYTES, _SLOT.size):
            digest, value, at_ms, check = _SLOT.unpack_from(self._map, offset)
            yield (at_ms if check == _fold(digest, value, at_ms) else -1), offset


class _Locked:
    """The bucket is this process's alone; the kernel gives it free when the process dies."""

    __slots__ = ("_bucket", "_descriptor")

    def __init__(self, descriptor: int, bucket: int) -> None:
        self._descriptor = descriptor
        self._bucket = bucket

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _BUCKET_BYTES, self._bucket)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _BUCKET_BYTES, self._bucket)


def _fold(digest: int, value: int, at_ms: int) -> int:
    return digest ^ value ^ at_ms ^ _WHOLE
