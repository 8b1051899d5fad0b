"""What the control plane, an engine and a runner say to each other about one run."""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict

ONE_CERTIFICATE = r"^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?$"


class RunPhase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class RunSpec(Strict):
    """Everything a runner needs; travels in the job's environment as REDOUBT_RUN_SPEC.

    `nonce` registers once. `gateway_uri` is the only client identity that may connect. `work_dir` is made by the
    runner. `site_ca_pem` is public.
    """

    replica_id: str
    nonce: str
    api_url: str
    site_ca_pem: str
    gateway_uri: str
    adapter: str  # a word of contracts.admin.Adapter
    model_name: str
    model_path: str
    model_sha256: str
    context_tokens: int
    parallel: int
    gpus: int
    bind_host: str  # "" = the address of the host that reaches the api
    first_port: int
    last_port: int
    lease_s: float = 10.0
    renew_s: float = 3.0


class RegisterRun(Strict):
    """Sent once, when the port is bound. `job_id` is the engine's own reference ("pid:…" or a Slurm job id)."""

    replica_id: str
    nonce: str
    job_id: str
    node: str
    host: str
    port: int
    certificate_pem: Annotated[str, Field(pattern=ONE_CERTIFICATE, max_length=8192)]
    gpu_uuids: tuple[str, ...]


class Registered(Answer):
    run_token: str


class RenewRun(Strict):
    """Sent every `renew_s`; `detail` explains FAILED."""

    phase: RunPhase
    detail: str = ""


class RefusedMachine(Answer):
    """Certificates of a machine that no run may let in: all of them, or those issued before that moment."""

    machine: str
    before: AwareDatetime | None = None


class RenewedRun(Answer):
    """`keep` false: the lease is over, fence at once. `drain` true: finish what runs, then stop."""

    keep: bool
    drain: bool
    refused: tuple[RefusedMachine, ...] = ()
