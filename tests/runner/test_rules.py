"""Small decisions of the runner, as tables."""

import asyncio
import fcntl
import socket
import sys
import termios

import pytest

from controlplane.kit.nvml import Gpu
from controlplane.runner.gpus import choose_gpus
from controlplane.runner.lease import Lease, guarded_loop

SEEN = tuple(Gpu(index, minor, f"GPU-{minor}", "NVIDIA H100") for index, minor in ((0, 0), (1, 1), (2, 2), (3, 3)))
CONFINED = (Gpu(0, 2, "GPU-2", "NVIDIA H100"), Gpu(1, 3, "GPU-3", "NVIDIA H100"))


@pytest.mark.parametrize(
    ("seen", "environment", "own"),
    [
        (SEEN, {}, (0, 1, 2, 3)),
        (SEEN, {"CUDA_VISIBLE_DEVICES": ""}, ()),
        (SEEN, {"CUDA_VISIBLE_DEVICES": "1,3"}, (1, 3)),
        (SEEN, {"CUDA_VISIBLE_DEVICES": "GPU-2"}, (2,)),
        (SEEN, {"SLURM_JOB_GPUS": "0,2-3"}, (0, 2, 3)),
        (CONFINED, {"CUDA_VISIBLE_DEVICES": "0,1"}, (2, 3)),
        (CONFINED, {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "2,3"}, (2, 3)),
    ],
)
def test_a_run_takes_the_gpus_that_its_engine_gave_it(seen, environment, own):
    assert choose_gpus(seen, environment) == tuple(f"GPU-{minor}" for minor in own)


def test_bytes_that_wait_to_be_written_are_dropped_when_the_process_wakes_without_a_lease():
    now = 0.0
    lease = Lease(10.0, lambda: now)
    lease.renew(asked_at=0.0)

    async def freeze_with_a_full_buffer() -> tuple[int, int]:
        nonlocal now
        ours, peer = socket.socketpair()
        transport, _protocol = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        lease.when_over(transport.abort)
        transport.write(bytes(8 * 1024 * 1024))
        sent_before = int.from_bytes(fcntl.ioctl(peer, termios.FIONREAD, bytes(4)), sys.byteorder)
        now = 10.0  # the process was frozen here
        peer.settimeout(10)
        with peer:
            return sent_before, len(await asyncio.to_thread(peer.makefile("rb").read))

    with asyncio.Runner(loop_factory=lambda: guarded_loop(lease)) as runner:
        sent_before, received = runner.run(freeze_with_a_full_buffer())

    assert 0 < sent_before < 8 * 1024 * 1024
    assert received == sent_before


def test_a_lease_counts_from_the_asking_and_is_in_doubt_when_that_is_long_ago():
    now = 0.0
    lease = Lease(10.0, lambda: now)

    lease.renew(asked_at=0.0)

    def look(at: float) -> tuple[bool, bool]:
        nonlocal now
        now = at
        return lease.holds(), lease.in_doubt

    seen = [look(at) for at in (4.0, 8.0, 9.9, 10.0, 13.0)]
    lease.renew(asked_at=13.0)

    assert seen == [(True, False)] * 3 + [(True, True)] * 2
    assert not lease.in_doubt


def test_a_lease_that_ran_out_while_the_process_was_frozen_is_over_for_good():
    now, acts = 0.0, []
    lease = Lease(10.0, lambda: now)
    lease.when_over(lambda: acts.append("fenced"))
    lease.renew(asked_at=0.0)
    assert lease.holds()

    now = 10.5

    assert not lease.holds()
    lease.renew(asked_at=10.5)
    assert not lease.holds()
    assert acts == ["fenced"]
