"""What is asked of Slurm, before a version of its API gives it a form."""

import math
import re
import shlex
from dataclasses import dataclass

from controlplane.engines.port import EndWarning, RunOrder
from controlplane.engines.slurm.job import read_indexes
from controlplane.kit.errors import BadInput, Refused

ARRAY = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*(%[1-9][0-9]*)?")
MOST_ELEMENTS = 1000  # MaxArraySize of a Slurm that was told nothing is 1001


@dataclass(frozen=True)
class Placing:
    """Where jobs belong that say nothing else. `folder` is theirs on every node and gets a log per job."""

    user: str
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
    only_node: str
    user: str
    partition: str
    account: str
    qos: str
    folder: str
    cpus: int
    memory_mb: int
    requeues: bool
    warning: EndWarning | None
    array: str
    nice: int


def write_submission(order: RunOrder, placing: Placing, nodes: tuple[str, ...]) -> Submission:
    """Turn an order into a job whose batch process is the command itself, so that signals reach it.

    `nodes` are all that Slurm has, needed where an order names several: Slurm would start on all of them at once.
    """
    kind = f":{order.gpu_type}" if order.gpu_type else ""
    only, avoid = _choose_nodes(order, nodes)
    return Submission(
        name=order.name,
        script=f"#!/bin/sh\nexec {shlex.join(order.argv)}\n",
        environment={"PATH": placing.path, **order.environment},
        gpus=f"gres/gpu{kind}:{order.gpus}" if order.gpus else "",
        time_limit_min=max(1, math.ceil(order.time_limit_s / 60)),
        avoid_nodes=avoid,
        only_node=only,
        user=order.user or placing.user,
        partition=order.partition or placing.partition,
        account=order.account or placing.account,
        qos=order.qos or placing.qos,
        folder=order.folder or placing.folder,
        cpus=order.cpus,
        memory_mb=order.memory_mb,
        requeues=order.requeues,
        warning=order.warning,
        array=_check_array(order.array),
        nice=order.nice,
    )


def _choose_nodes(order: RunOrder, nodes: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the one node that is asked for, or "", and those to leave alone."""
    if not order.only_nodes:
        return "", order.avoid_nodes
    left = [node for node in order.only_nodes if node not in order.avoid_nodes]
    if not left:
        raise Refused(
            f"{order.name} may run on no node: each that it names is to be avoided",
            remedy="name another node, or allow one of these",
            reasons=tuple(f"{node}: avoided" for node in order.only_nodes),
        )
    if len(left) == 1:
        return left[0], ()
    return "", tuple(sorted(set(nodes) - set(left)))


def _check_array(text: str) -> str:
    if not text:
        return ""
    if not ARRAY.fullmatch(text) or not 0 < sum(1 for _ in read_indexes(text)) <= MOST_ELEMENTS:
        raise BadInput(f"{text!r} is no array of at most {MOST_ELEMENTS} elements", remedy="write it like 0-9 or 0-9%2")
    return text
