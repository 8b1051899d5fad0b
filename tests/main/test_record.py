"""Whoever changes the database from the console is held on this machine's disk too, and does not spoil the disk."""

import os
from pathlib import Path

import pytest

from controlplane.kit.crypto import new_signing_key_pem
from controlplane.kit.errors import Refused
from controlplane.main.policy_reset import reset
from controlplane.main.record import start_recorder
from controlplane.main.settings import ApiSettings, AuditSettings
from tests.support.control_plane import SITE, ControlPlane


@pytest.fixture
def audit(tmp_path: Path) -> AuditSettings:
    key = tmp_path / "audit.key"
    key.write_bytes(new_signing_key_pem())
    (tmp_path / "audit").mkdir()
    return AuditSettings(folder=tmp_path / "audit", key=key, ballast_bytes=0)


async def test_a_reset_of_the_policy_is_in_the_second_sink(
    plane: ControlPlane, database_url: str, audit: AuditSettings, tmp_path: Path
):
    settings = ApiSettings.model_validate(
        {
            "site": SITE, "origin": "http://localhost", "factors": {"key": tmp_path / "factors.key"}, "audit": audit,
            "database": {"url": database_url}, "listen": {"host": "127.0.0.1", "port": 0},
        }
    )  # fmt: skip

    await reset(settings)

    (segment,) = (audit.folder / "segments").iterdir()
    held, committed = segment.read_text().splitlines()
    assert '"action":"policy.reset"' in held
    assert '"committed"' in committed


@pytest.mark.parametrize("made", [False, True])
async def test_a_process_of_another_user_does_not_touch_the_audit_folder(
    plane: ControlPlane, audit: AuditSettings, monkeypatch: pytest.MonkeyPatch, made: bool
):
    if made:
        (audit.folder / "segments").mkdir()
    before = list(audit.folder.rglob("*"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(Refused, match="belongs to another user") as refused:
        await start_recorder(audit, "api", plane.database, watch=False)

    assert "runuser -u" in refused.value.remedy
    assert list(audit.folder.rglob("*")) == before
