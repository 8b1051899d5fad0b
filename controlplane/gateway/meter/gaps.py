"""Times between two events of a stream, counted by size: no list of them is kept, whatever the length of the stream.

A bucket is a quarter of an octave wide, so a percentile is right to a tenth.
"""

A_OCTAVE = 4  # buckets
SHORTEST_S = 1e-6

Gaps = dict[int, int]  # how many are in which bucket; a gap of 2**(b / A_OCTAVE) us or more is in bucket b


def middle_us(bucket: int) -> int:
    """Return the size, in microseconds, that stands for a bucket."""
    return round(2 ** ((bucket + 0.5) / A_OCTAVE))


def percentile_us(gaps: Gaps, percent: int) -> int | None:
    """Return what `percent` of the gaps do not exceed, in microseconds; None without a gap."""
    wanted = sum(gaps.values()) * percent / 100
    passed = 0
    for bucket in sorted(gaps):
        passed += gaps[bucket]
        if passed >= wanted:
            return middle_us(bucket)
    return None
