"""`python -m controlplane.main.join` on a machine, against the admin API over real TLS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from controlplane.domains.pki.types import LeafTerms
from controlplane.kit.certificates import uri_of
from controlplane.kit.errors import RedoubtError, Unauthenticated
from controlplane.kit.leaf import pair_files
from controlplane.kit.tls import CertificateFiles
from controlplane.main import join as joining
from tests.support.control_plane import SITE, ControlPlane
from tests.support.machine_listener import Machines, listening
from tests.support.machines import make_authority, site_ca

NODES = {"nodes": [{"name": "gpu1", "address": "10.0.0.1", "zone": "north", "purposes": [], "gpus": []}]}


@pytest.fixture
async def door(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Machines]:
    """Give the admin listener; it answers to its address here."""
    plane.admin_app.user_middleware[0].kwargs["names"] = frozenset({"api", "127.0.0.1"})
    async with listening(plane, tmp_path, machine=False) as found:
        yield found


async def make_token(plane: ControlPlane, admin: str) -> str:
    async with plane.client(admin) as client:
        await client.put("/nodes", json=NODES)
        return str((await client.post("/nodes/gpu1/join-tokens")).json()["token"])


def place(folder: Path) -> CertificateFiles:
    (folder / "node").mkdir()
    return pair_files(folder / "node", site_ca().path)


async def join(files: CertificateFiles, door: Machines, token: str) -> None:
    url = door.url.removesuffix("/api/v1")
    await asyncio.to_thread(joining.join, files, url, token, wait_s=20)


async def test_a_machine_joins_and_its_key_never_left_it(
    plane: ControlPlane, admin: str, door: Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = place(tmp_path)
    await join(files, door, await make_token(plane, admin))

    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    async with plane.client(admin) as client:
        (known,) = (await client.get("/node-joins?state=all")).json()["items"]
    assert uri_of(leaf) == f"redoubt://{SITE}/zone/north/node/gpu1"
    assert files.key.stat().st_mode & 0o777 == 0o400
    assert known["fingerprint"] in capsys.readouterr().out
    assert known["source"] == "127.0.0.1"


async def test_a_machine_waits_until_somebody_compared_its_fingerprint(
    plane: ControlPlane, admin: str, door: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ASK_AGAIN_S", 0.05)
    plane.admin_app.state.authority = make_authority(SITE, LeafTerms(joins_need_approval=True))
    files, token = place(tmp_path), await make_token(plane, admin)
    machine = asyncio.create_task(join(files, door, token))
    async with plane.client(admin) as client:
        while not (waiting := (await client.get("/node-joins")).json()["items"]):  # noqa: ASYNC110 - asks another
            await asyncio.sleep(0.02)
        assert not files.certificate.exists()
        path = f"/node-joins/{waiting[0]['id']}/approval"
        done = await client.post(path, json={"fingerprint": waiting[0]["fingerprint"]})
    await machine

    assert done.status_code == httpx.codes.CREATED
    assert files.certificate.exists()


async def test_a_wrong_token_changes_nothing_on_the_machine(door: Machines, tmp_path: Path) -> None:
    files = place(tmp_path)
    with pytest.raises(Unauthenticated) as refused:
        await join(files, door, "rdj_of-another-site")

    assert "join-token" in refused.value.remedy
    assert list((tmp_path / "node").iterdir()) == []


async def test_a_machine_that_was_never_installed_is_told_what_comes_first(tmp_path: Path) -> None:
    settings = tmp_path / "agent.toml"
    settings.write_text('[control_plane]\nurl = "https://ctl1:8444"\n')
    with pytest.raises(RedoubtError, match="no place"):
        joining.files_of(settings)
