"""What all workers of a node must agree on: a table in a mapped file, digest -> value and time.

When a bucket is full it forgets the oldest of whoever has most there: whose digests name an owner (`digest_in`)
pushes out nobody else's. It survives workers and restarts, and counts a torn slot as empty.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from struct import Struct

_SLOT = Struct("<QQQQ")  # digest, value, milliseconds since 1970, the other three folded together
_PER_BUCKET = 8
_BUCKET_BYTES = _PER_BUCKET * _SLOT.size
_BUCKET = Struct(f"<{4 * _PER_BUCKET}Q")
_OWNER_BIT = 48  # of a digest: from here on it names whose it is
_WHOLE = 0x9E3779B97F4A7C15  # folded in, so that a slot of zeros is not whole


def digest_of(*parts: str) -> int:
    """Return 64 bits that stand for the parts, the same in every worker."""
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def digest_in(owner: str, *parts: str) -> int:
    """Return 64 bits that stand for the parts of an owner, who cannot push out what is another's."""
    return digest_of(owner) >> _OWNER_BIT << _OWNER_BIT | digest_of(owner, *parts) & (1 << _OWNER_BIT) - 1


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
            self._write(bucket, digest, value, at_s, over_s=at_s - lasts_s)
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

    def _write(self, bucket: int, digest: int, value: int, at_s: float, *, over_s: float = 0.0) -> None:
        found = self._find(bucket, digest)
        offset = found[0] if found is not None else self._room(bucket, digest, int(over_s * 1000))
        at_ms = int(at_s * 1000)
        _SLOT.pack_into(self._map, offset, digest, value, at_ms, _fold(digest, value, at_ms))

    def _room(self, bucket: int, digest: int, over_ms: int) -> int:
        """Return where this digest may be written: what is not whole or is over, or the oldest of whoever has most."""
        words = _BUCKET.unpack_from(self._map, bucket)
        digests, at_ms, checks = words[::4], words[2::4], words[3::4]
        whole = tuple(map(_fold, digests, words[1::4], at_ms))
        if checks != whole:
            slot = next(n for n in range(_PER_BUCKET) if checks[n] != whole[n])
        elif min(at_ms) <= over_ms:
            slot = at_ms.index(min(at_ms))
        else:
            slot = _gives_way([there >> _OWNER_BIT for there in digests], at_ms, digest >> _OWNER_BIT)
        return bucket + slot * _SLOT.size


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


def _gives_way(owners: Sequence[int], at_ms: Sequence[int], newcomer: int) -> int:
    """Return which slot is the oldest of whoever has most, with the newcomer's counted."""
    if newcomer not in owners and len(set(owners)) == len(owners):
        return at_ms.index(min(at_ms))
    counts = [owners.count(owner) + (owner == newcomer) for owner in owners]
    most = max(counts)
    return min((at, slot) for slot, at in enumerate(at_ms) if counts[slot] == most)[1]
