"""The site that the measured gateway serves: ten thousand keys, and everything that a request passes switched on."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from controlplane.contracts.snapshot import (
    BudgetScope,
    BudgetUnit,
    Snapshot,
    SnapshotBudget,
    SnapshotEndpoint,
    SnapshotKey,
    SnapshotReplica,
    SnapshotSecret,
    SnapshotShare,
)
from controlplane.domains.policy.rules.shipped import shipped_policies
from controlplane.kit.tls import CertificateFiles

KEYS = 10_000
KEY = "rdk_" + "b" * 43
_BUDGETS: tuple[tuple[BudgetScope, str, BudgetUnit], ...] = (
    ("organisation", "", "completion_tokens"),
    ("project", "", "prompt_tokens"),
    ("workflow", "*", "calls"),
    ("key", f"key_{sha256(KEY.encode()).hexdigest()[:8]}", "completion_tokens"),
)


def snapshot(replicas: tuple[SnapshotReplica, ...], adapter: str = "vllm") -> Snapshot:
    now = datetime.now(UTC)
    secrets = [KEY, *(f"rdk_{number}" for number in range(KEYS))]
    digests = [sha256(secret.encode()).hexdigest() for secret in secrets]
    endpoint = SnapshotEndpoint(
        name="chat",
        endpoint_id="endpoint_bench",
        revision_id="revision_bench",
        zone="practice",
        context_tokens=4096,
        created_at=now,
        replicas=replicas,
        project="bench",
        model="tiny",
        adapter=adapter,
        parallel=65_536,
        gpus=1,
    )
    return Snapshot(
        site="bench",
        version=1,
        issued_at=now,
        expires_at=now + timedelta(hours=1),
        keys=tuple(_key(digest, now) for digest in digests),
        endpoints=(endpoint,),
        policies=shipped_policies(),
        shares=(SnapshotShare(name="bench", organisation="org", project="bench", team="team", salt="s" * 43),),
        budgets=tuple(_budget(*budget) for budget in _BUDGETS),
    )


def _budget(scope: BudgetScope, name: str, unit: BudgetUnit) -> SnapshotBudget:
    share = {"organisation": "org", "project": "bench", "workflow": "bench"}.get(scope, "bench")
    return SnapshotBudget(budget_id=f"budget_{scope}", scope=scope, share=share, name=name, unit=unit)


def _key(digest: str, now: datetime) -> SnapshotKey:
    secret = SnapshotSecret(secret_id=f"secret_{digest[:8]}", sha256=digest, expires_at=now + timedelta(days=1))
    return SnapshotKey(
        key_id=f"key_{digest[:8]}",
        project="bench",
        secrets=(secret,),
        endpoints=("chat",),
        zones=("practice",),
        purposes=("general",),
        classification=1,
        sources=("127.0.0.0/8",),
    )


def settings(folder: Path, files: CertificateFiles, port: int, control_plane: int, metrics: int, *, tls: bool) -> str:
    """Return gateway.toml."""
    ours = f'{{certificate = "{files.certificate}", key = "{files.key}", ca = "{files.ca}"}}'
    return f"""
site = "bench"
snapshot_public_key = "{folder / "snapshot.pub"}"
state_dir = "{folder / "state"}"
upstream_tls = {ours}
metrics_port = {metrics}
control_plane = {{url = "http://127.0.0.1:{control_plane}"}}
[listen]
host = "127.0.0.1"
port = {port}
{f"tls = {ours}" if tls else ""}
"""
