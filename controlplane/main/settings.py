"""The settings of every process: one strict TOML file each, read here and nowhere else."""

import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from controlplane.kit.errors import BadInput
from controlplane.kit.tls import CertificateFiles

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Settings):
    """The process's own key pair and the site's CA."""

    certificate: Path
    key: Path
    ca: Path

    @property
    def files(self) -> CertificateFiles:
        return CertificateFiles(self.certificate, self.key, self.ca)


class Listen(Settings):
    """Where to listen. Without `tls` only loopback is allowed."""

    host: str
    port: int = Field(ge=0, le=65535)
    tls: Tls | None = None

    @model_validator(mode="after")
    def _plain_only_on_loopback(self) -> "Listen":
        if self.tls is None and self.host not in LOOPBACK:
            raise ValueError(f"{self.host} is not loopback: name a [tls] certificate, key and ca")
        return self


class Database(Settings):
    """`url` is a postgresql+asyncpg URL; `tls` is given when the server is another machine."""

    url: str
    tls: Tls | None = None
    pool: int = Field(default=10, ge=1, le=100)


class Issuing(Settings):
    """The issuing authority under the site's root, and how long what it signs is good for."""

    certificate: Path
    key: Path
    leaf_minutes: int = Field(default=48 * 60, ge=2, le=366 * 1440)
    grace_days: int = Field(default=14, ge=0, le=366)
    joins_need_approval: bool = False


class OauthSettings(Settings):
    """The authorization server: the file (0600) from which its signing keys are derived; its name is `origin`.

    `machine_url` is the machine listener, where a service proves itself by its certificate.
    """

    signing_key: Path
    machine_url: str = Field(default="", pattern=r"^(https:/{2}[a-z0-9.:\[\]-]+)?$")


class FactorSettings(Settings):
    """`key` seals secrets of authenticator apps; the cost of a password's hash is argon2id's (RFC 9106)."""

    key: Path
    memory_kib: int = Field(default=64 * 1024, ge=8)
    passes: int = Field(default=3, ge=1)
    lanes: int = Field(default=1, ge=1)


class AuditSettings(Settings):
    """`folder` is on another disk than the database; `key` signs checkpoints. The ballast is room for break-glass."""

    folder: Path
    key: Path
    ballast_bytes: int = Field(default=16 * 1024**2, ge=0)


class ApiSettings(Settings):
    """`origin` is how browsers and clients reach this process, without a path; one name, for passkeys are bound to it.

    `machine` is the mutual-TLS listener for agents and gateways; the box has none and gives `gateway_token_file`.
    `names` are hosts to answer to beside those in the certificate. `describes_itself` serves /openapi.json, for those
    who write clients; leave it off on a site.
    """

    site: str
    names: tuple[str, ...] = ()
    describes_itself: bool = False
    origin: str = Field(pattern=r"^https?://[a-z0-9.-]+(?::[0-9]+)?$")
    factors: FactorSettings
    audit: AuditSettings
    database: Database
    listen: Listen
    machine: Listen | None = None
    gateway_token_file: Path | None = None
    issuing: Issuing | None = None
    oauth: OauthSettings | None = None
    project_slots: int = Field(default=16, ge=1, le=99)
    run_lease_s: float = Field(default=10.0, gt=0)


class SnapshotSigning(Settings):
    key: Path
    lifetime_s: int = Field(default=12 * 3600, ge=60)


class RunnerPlacement(Settings):
    """What every run is told. `bind_host` "" means the address from which the host reaches the api.

    `projects_dir` has a folder for each project, on every node that runs its jobs.
    """

    api_url: str
    site_ca: Path
    gateway_uri: str
    models_dir: Path
    projects_dir: Path = Path("/var/lib/redoubt-projects")
    first_port: int = 20000
    last_port: int = 20999
    bind_host: str = ""


class ProcessEngineSettings(Settings):
    kind: Literal["process"]
    state_dir: Path


class SlurmEngineSettings(Settings):
    """slurmrestd on a unix socket, with short-lived tokens that another user renews.

    `tokens` has one in a file for each of our users, and for `admin`, who sees what all of them do. `token_file` is the
    single one of a site whose role slurm was not applied since. `commands` is where scontrol, sacctmgr and sacct are.
    """

    kind: Literal["slurm"]
    socket: Path
    tokens: Path | None = None
    admin: str = "redoubt-slurm"
    token_file: Path | None = None
    commands: Path = Path("/usr/bin")
    user: str = "redoubt-serve"
    partition: str = "inference"
    account: str = "redoubt"
    qos: str = "inference"


class MigrateSettings(Settings):
    """The database as its owner: the processes that serve may not change its tables, and not rewrite its log."""

    database: Database


class ReconcilerSettings(Settings):
    site: str
    database: Database
    audit: AuditSettings
    snapshot: SnapshotSigning
    runner: RunnerPlacement
    engine: ProcessEngineSettings | SlurmEngineSettings = Field(discriminator="kind")
    python: Path = Path("/opt/redoubt/venv/bin/python")
    period_s: float = Field(default=1.0, gt=0)


class ControlPlaneLink(Settings):
    """How a data-plane process reaches the api: mutual TLS, or on the box a token over loopback."""

    url: str
    tls: Tls | None = None
    token_file: Path | None = None


class GatewaySettings(Settings):
    """`tls` is also shown to runners, who let in nobody else. `state_dir` keeps the last valid snapshot and the spools.

    `spool_bytes` is how much a worker writes down that the control plane has not taken; beyond, it answers nobody.
    `content_key` is a secret of this node that seals files and results of batches, at most `content_bytes` of them;
    without it none are kept, and while its file is missing none are taken in. `metrics_port` is where Prometheus reads
    on loopback, 0 for nowhere.
    """

    site: str
    listen: Listen
    control_plane: ControlPlaneLink
    upstream_tls: Tls
    snapshot_public_key: Path
    state_dir: Path
    workers: int = Field(default=1, ge=1, le=32)  # and as many more while a reload relieves them: node_page.py
    poll_s: float = Field(default=0.1, gt=0)
    spool_bytes: int = Field(default=1024**3, ge=1024**2)
    ship_s: float = Field(default=0.5, gt=0)
    metrics_port: int = Field(default=0, ge=0, le=65535)
    content_key: Path | None = None
    content_bytes: int = Field(default=20 * 1024**3, ge=1024**2)


class AgentSettings(Settings):
    control_plane: ControlPlaneLink
    period_s: float = Field(default=5.0, gt=0)
    disk: Path = Path("/")
    witness_dir: Path | None = None  # where this node keeps what it saw of the audit log; None: it is no witness
    witness_s: float = Field(default=10.0, gt=0)


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(kind: type[AnySettings], path: Path) -> AnySettings:
    """Parse a settings file; raises BadInput that names the file and every wrong key."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", remedy="give --config the path of a settings file") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML: {error}", remedy="correct the line that the message names") from None
    except ValidationError as error:
        reasons = tuple(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{path}: {reasons[0]}", remedy="correct the settings file", reasons=reasons) from None
