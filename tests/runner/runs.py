"""A real runner as a subprocess, and what a test does with one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from controlplane.contracts.runs import RunSpec
from controlplane.kit.tls import CertificateFiles, pinned_context
from tests.runner.stand_in_api import StandInApi

SPEC = "REDOUBT_RUN_SPEC"
GATEWAY = "redoubt://testsite/zone/a/service/gateway"
PATIENCE_S = 60.0  # for a busy machine; nothing here takes long on a quiet one


@dataclass(frozen=True)
class Site:
    """What the processes around a run hold."""

    ca_pem: str
    api: CertificateFiles
    gateway: CertificateFiles
    other_service: CertificateFiles
    model: Path
    model_sha256: str
    scratch: Path

    def spec(self, api: StandInApi, **changes) -> RunSpec:
        plain = RunSpec(
            replica_id="replica_1",
            nonce="once",
            api_url=api.url,
            site_ca_pem=self.ca_pem,
            gateway_uri=GATEWAY,
            adapter="llama_cpp",
            model_name="tiny",
            model_path=str(self.model),
            model_sha256=self.model_sha256,
            context_tokens=2048,
            parallel=2,
            gpus=0,
            bind_host="",
            first_port=21000,
            last_port=21999,
            lease_s=60.0,
            renew_s=0.3,
        )
        return plain.model_copy(update=changes)


class Running:
    """One runner; `log` has its events and everything that its children say."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, site: Site, api: StandInApi) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log
        self._site = site
        self.api = api

    def until_ready(self) -> "Running":
        until(lambda: "ready" in self.api.phases() or self.process.poll() is not None)
        assert self.api.phases() == ["starting", "ready"], self.log()
        return self

    def gateway(self, files: CertificateFiles | None = None) -> httpx.Client:
        """Connect as the gateway does, or as somebody else."""
        told = self.api.registered[-1]
        context = pinned_context(told["certificate_pem"], files or self._site.gateway)
        return httpx.Client(base_url=f"https://127.0.0.1:{told['port']}", verify=context, timeout=10, trust_env=False)

    def exit_code(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout_s)

    def log(self) -> str:
        return self._log.read_text()

    def server_pid(self) -> int:
        [child] = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(child)


@contextmanager
def running(site: Site, api: StandInApi, *, around: dict[str, str] | None = None, **changes) -> Iterator[Running]:
    """Start a runner with this spec, and `around` in its environment; kill it when the block ends."""
    environment = {
        **os.environ,
        SPEC: site.spec(api, **changes).model_dump_json(),
        "TMPDIR": str(site.scratch),
        **(around or {}),
    }
    log = site.scratch.with_name(f"runner-{time.monotonic_ns()}.log")
    command = [sys.executable, "-m", "controlplane.main.runner", "--spec-env", SPEC]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stderr=output) as process:
        try:
            yield Running(process, log, site, api)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()


def ask(words: str = "Hello", *, tokens: int = 4, stream: bool = False) -> dict:
    messages = [{"role": "user", "content": words}]
    return {"messages": messages, "max_tokens": tokens, "stream": stream, "ignore_eos": True}


def until(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Look until it holds."""
    for _time in range(int(within_s / 0.02)):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError(f"did not come to hold within {within_s} s")


def is_gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True


def tokens_of(lines: Iterator[str]) -> int:
    """Count the events of a stream that hold a token."""
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return sum(1 for event in events if event["choices"] and event["choices"][0]["delta"].get("content"))
