"""What is asked of Slurm, before a version of its API gives it a form."""

import math
import shlex
from dataclasses import dataclass

from controlplane.engines.port import RunOrder


@dataclass(frozen=True)
class Placing:
    """Where a site's serving jobs belong. `folder` is theirs on every node and gets a log per job."""

    partition: str
    account: str
    qos: str
    folder: str
    path: str


@dataclass(frozen=True)
class Submission:
    """`gpus` is a TRES such as "gres/gpu:h100:2", "" for none."""

    name: str
    script: str
    environment: dict[str, str]
    gpus: str
    time_limit_min: int
    avoid_nodes: tuple[str, ...]
    partition: str
    account: str
    qos: str
    folder: str


def write_submission(order: RunOrder, placing: Placing) -> Submission:
    """Turn an order into a job whose batch process is the command itself, so that signals reach it."""
    kind = f":{order.gpu_type}" if order.gpu_type else ""
    return Submission(
        name=order.name,
        script=f"#!/bin/sh\nexec {shlex.join(order.argv)}\n",
        environment={"PATH": placing.path, **order.environment},
        gpus=f"gres/gpu{kind}:{order.gpus}" if order.gpus else "",
        time_limit_min=max(1, math.ceil(order.time_limit_s / 60)),
        avoid_nodes=order.avoid_nodes,
        partition=placing.partition,
        account=placing.account,
        qos=placing.qos,
        folder=placing.folder,
    )
