"""Small decisions of the runner, as tables."""

import pytest

from controlplane.kit.nvml import Gpu
from controlplane.runner.gpus import choose_gpus
from controlplane.runner.lease import Lease

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


def test_a_lease_counts_from_the_asking_and_never_comes_back():
    now, acts = 0.0, []
    lease = Lease(10.0, lambda: now)
    lease.when_over(lambda: acts.append("fenced"))

    lease.renew(asked_at=0.0)
    now = 9.0
    lease.renew(asked_at=3.0)
    assert lease.left_s == 4.0

    now = 13.0
    lease.renew(asked_at=12.9)  # the answer came too late
    assert not lease.holds()
    lease.renew(asked_at=13.0)
    assert not lease.holds()
    assert acts == ["fenced"]
