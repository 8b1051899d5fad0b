"""Without its content key a gateway serves on and keeps nothing; another key than its own seals and opens nothing."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest

from controlplane.gateway.batch.content_key import CHECK_FILE, NoContentKey, WrongContentKey, read_content_key
from controlplane.gateway.batch.records import FileRecord
from controlplane.gateway.batch.sealed import Sealing
from controlplane.main.gateway_files import KeptFiles
from controlplane.main.settings import GatewaySettings
from tests.gateway.batch.office import KEEPS, OpenOffice, a_line
from tests.gateway.process import CONTENT_SECRET, GatewayProcess, StandInControlPlane, until
from tests.gateway.stage import KEY, Stage, key, snapshot

OTHER_SECRET = "another secret than that one, as long as it"
RECORD = FileRecord("file-1", "blue", "a", 1, "batch", 0, 0, 1)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "content.key"
    path.write_text(CONTENT_SECRET)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "content"


def seal_a_head(root: Path, key: bytes) -> None:
    (root / "project").mkdir(parents=True)
    Sealing(key).save(root / "project" / "file-1.head", "file-1", RECORD)


def test_a_key_is_known_again_by_its_check_value(secret: Path, root: Path):
    first = read_content_key(secret, root)

    assert read_content_key(secret, root) == first
    assert first not in (root / CHECK_FILE).read_bytes()


def test_another_key_is_told_though_nothing_was_sealed_yet(secret: Path, root: Path):
    read_content_key(secret, root)
    secret.write_text(OTHER_SECRET)

    with pytest.raises(WrongContentKey, match="is not the one that sealed"):
        read_content_key(secret, root)


def test_a_lost_check_value_is_made_again_by_the_key_that_opens_what_is_kept(secret: Path, root: Path):
    seal_a_head(root, read_content_key(secret, root))
    (root / CHECK_FILE).unlink()
    secret.write_text(OTHER_SECRET)
    with pytest.raises(WrongContentKey):
        read_content_key(secret, root)

    secret.write_text(CONTENT_SECRET)
    read_content_key(secret, root)

    assert (root / CHECK_FILE).exists()


@pytest.mark.parametrize("content", [None, "", "cut off"])
def test_of_a_missing_or_damaged_key_the_next_step_depends_on_what_is_kept(
    secret: Path, root: Path, content: str | None
):
    def damage() -> str:
        secret.unlink()
        if content is not None:
            secret.write_text(content)
        with pytest.raises(NoContentKey) as caught:
            read_content_key(secret, root)
        return caught.value.remedy

    first = damage()
    secret.write_text(CONTENT_SECRET)
    read_content_key(secret, root)

    assert first.startswith("make it")
    assert damage().startswith("put it back from a backup")


def upload(gateway: GatewayProcess) -> httpx.Response:
    with gateway.client() as client:
        return client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", b"{}\n")})


@pytest.fixture
def keeping(gateway: GatewayProcess, control_plane: StandInControlPlane) -> GatewayProcess:
    """Return a gateway, not started, whose project keeps content."""
    control_plane.publish_snapshot(snapshot(1, (), (key(KEY),)).model_copy(update={"shares": (KEEPS,)}))
    return gateway


def test_a_gateway_without_its_key_serves_and_takes_the_key_up_when_it_comes(keeping: GatewayProcess):
    keeping.content_secret = None
    keeping.start()
    until(keeping.is_ready)

    refused = upload(keeping)
    keeping.content_key.write_text(CONTENT_SECRET)
    until(lambda: upload(keeping).status_code == 200)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (503, "files_unavailable")
    assert "content key, which is missing" in error["message"]
    (told,) = keeping.events("content_key.locked")
    assert str(told["remedy"]).startswith("make it: redoubt site apply")
    assert len(keeping.events("content_key.taken_up")) == 1


def test_a_gateway_with_another_key_writes_and_opens_nothing(keeping: GatewayProcess):
    keeping.start()
    until(keeping.is_ready)
    assert upload(keeping).status_code == 200
    keeping.stop()
    content = keeping.folder / "state" / "content"
    before = {path: path.read_bytes() for path in content.rglob("*") if path.is_file()}
    keeping.content_secret = OTHER_SECRET

    keeping.start()
    until(keeping.is_ready)
    answers = [upload(keeping), keeping.get("/v1/files")]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert "another one" in answers[0].json()["error"]["message"]
    assert {path: path.read_bytes() for path in content.rglob("*") if path.is_file()} == before


def test_a_key_that_is_lost_while_the_gateway_serves_seals_nothing_new(keeping: GatewayProcess):
    keeping.start()
    until(keeping.is_ready)
    assert upload(keeping).status_code == 200
    keeping.content_key.unlink()

    until(lambda: upload(keeping).status_code == 503)

    assert keeping.get("/v1/files").json()["data"]


async def test_batches_go_on_only_while_their_key_is_there(stage: Stage, opens: OpenOffice, secret: Path):
    office = await opens(await stage.replica())
    hub, settings = office.gateway.hub, cast("GatewaySettings", SimpleNamespace(state_dir=secret.parent))
    files = KeptFiles(hub, settings, secret)

    async def works() -> bool:
        for _ in range(100):
            await files.step()
            await asyncio.sleep(0.02)
            if not office.kept("input"):
                return True
        return False

    async with office.openai() as client:
        await office.submit(client, a_line("a"))
        hub.content_fault = NoContentKey("it is gone", remedy="put it back")
        assert not await works()
        hub.content_fault = None
        assert await works()
    await files.close()
