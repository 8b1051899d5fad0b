"""The engines that exist, as the conformance suite meets them."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from controlplane.engines.port import Engine, ObservedRun
from controlplane.engines.process import ProcessEngine
from controlplane.engines.slurm.engine import SlurmEngine
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.nvml import Gpu, NoNvml


def connect(recipe: dict[str, str]) -> Engine:
    """Make an engine from what a bench's `recipe` returned."""
    if recipe["kind"] == "process":
        return process_engine(Path(recipe["state_dir"]))
    return SlurmEngine(
        Path(recipe["socket"]),
        Tokens(Path(recipe["tokens"]) if recipe.get("tokens") else None, single=Path(recipe["token_file"])),
        clock=time.monotonic,
        account=recipe["account"],
        qos=recipe["qos"],
        folder=recipe["folder"],
    )


def boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def no_gpus() -> tuple[Gpu, ...]:
    raise NoNvml("NVML Shared Library Not Found")


def process_engine(state_dir: Path, *, clock=boot_seconds, find_gpus=no_gpus) -> ProcessEngine:
    environment = {"PATH": os.environ["PATH"]}
    return ProcessEngine(state_dir, node="here", environment=environment, clock=clock, find_gpus=find_gpus)


@dataclass
class ProcessBench:
    state_dir: Path
    patience_s: float = 20.0

    def connect(self) -> Engine:
        return connect(self.recipe())

    def unreachable(self) -> Engine:
        in_the_way = self.state_dir.with_name("a-file")
        in_the_way.write_text("")
        return process_engine(in_the_way)

    def recipe(self) -> dict[str, str]:
        return {"kind": "process", "state_dir": str(self.state_dir)}

    def read_log(self, run: ObservedRun) -> str:
        return (self.state_dir / f"{run.name}.log").read_text()


@dataclass
class SlurmBench:
    """`read_file` is a command that prints a file of a node; {node} and {path} stand for which."""

    socket: Path
    token_file: Path
    read_file: tuple[str, ...]
    account: str = "redoubt"
    qos: str = "inference"
    folder: str = "/var/lib/redoubt-serve"
    tokens: Path | None = None
    patience_s: float = 60.0

    def connect(self) -> Engine:
        return connect(self.recipe())

    def unreachable(self) -> Engine:
        return connect(self.recipe() | {"socket": str(self.socket.with_name("nobody.sock"))})

    def recipe(self) -> dict[str, str]:
        return {
            "kind": "slurm",
            "socket": str(self.socket),
            "token_file": str(self.token_file),
            "account": self.account,
            "qos": self.qos,
            "folder": self.folder,
            "tokens": str(self.tokens or ""),
        }

    def read_log(self, run: ObservedRun) -> str:
        """Return "" while the job has no node or its file is not there yet."""
        if not run.node:
            return ""
        where = {"node": run.node, "path": f"{self.folder}/{run.name}.log"}
        command = [part.format(**where) for part in self.read_file]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout
