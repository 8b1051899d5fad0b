"""How much may be kept on one gateway, for how long, and what one batch may be."""

from dataclasses import dataclass

from controlplane.gateway.limits import KIB, MIB

HOUR_S = 3600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True)
class BatchLimits:
    """The defaults are the product's; tests shorten them. The spool's disk is the same: `free_bytes` stay its own."""

    file_bytes: int = 200 * MIB
    line_bytes: int = 8 * MIB  # as for a request that is not of a batch
    lines: int = 50_000
    field_bytes: int = 4 * KIB
    form_bytes: int = 64 * KIB  # of a multipart body beside its file
    ask_bytes: int = 64 * KIB
    project_bytes: int = 10 * 1024 * MIB
    all_bytes: int = 20 * 1024 * MIB
    free_bytes: int = 2 * 1024 * MIB
    project_files: int = 5_000
    project_batches: int = 100  # that are not over
    project_batches_kept: int = 2_000  # over or not
    uploads: int = 16  # at once in one worker

    upload_s: float = float(HOUR_S)
    upload_silence_s: float = 60.0
    answer_silence_s: float = 60.0
    least_kept_s: int = HOUR_S
    most_kept_s: int = 30 * DAY_S
    longest_window_s: int = 7 * DAY_S
    withdrawn_s: int = DAY_S  # content outlives the permission to keep it by this

    runs: int = 16  # batches at work at once
    lines_at_once: int = 64
    bytes_at_once: int = 32 * MIB  # of lines that are under way
    errors_shown: int = 100
    starts: int = 3  # of one line that a gateway died over
    losses: int = 3  # of one line whose replicas were lost
    shortest_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    counts_s: float = 1.0  # between two writings of how far a batch is
