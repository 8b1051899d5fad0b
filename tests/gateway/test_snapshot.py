"""What is believed, what is kept, and what a control plane that is away changes."""

import json
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import SignedSnapshot, Snapshot, SnapshotKey, SnapshotSecret
from controlplane.gateway.snapshot import SnapshotFile, SnapshotFollower, SnapshotRefused, verify
from controlplane.gateway.snapshot_shapes import Key, Secret, read_snapshot
from controlplane.kit.crypto import sign
from controlplane.kit.errors import Unavailable
from tests.gateway.stage import key, snapshot

SIGNER = Ed25519PrivateKey.generate()


def signed(version: int, *, site: str = "test", signer: Ed25519PrivateKey = SIGNER) -> SignedSnapshot:
    payload = snapshot(version, (), (key("rdk_a"),), site=site).model_dump_json()
    return SignedSnapshot(payload=payload, signature=sign(signer, payload.encode()))


def test_a_snapshot_of_this_site_with_a_true_signature_is_believed():
    assert verify(signed(3), key=SIGNER.public_key(), site="test", after=2).version == 3


def test_every_wrong_snapshot_is_refused_with_its_reason():
    good = signed(3)
    wrong = {
        "not signed": signed(3, signer=Ed25519PrivateKey.generate()),
        "is not signed": SignedSnapshot(
            payload=good.payload.replace("rdk", "xdk").replace("3", "4"), signature=good.signature
        ),
        "of site other": signed(3, site="other"),
        "version 1": signed(1),
        "cannot be read": SignedSnapshot(payload="{}", signature=sign(SIGNER, b"{}")),
    }
    for reason, envelope in wrong.items():
        with pytest.raises(SnapshotRefused, match=reason):
            verify(envelope, key=SIGNER.public_key(), site="test", after=2)


def test_keys_are_read_by_the_contract_s_own_fields_and_nothing_else():
    assert Key.__struct_fields__ == tuple(SnapshotKey.model_fields)
    assert Secret.__struct_fields__ == tuple(SnapshotSecret.model_fields)

    whole = snapshot(1, (), (key("rdk_a"), key("rdk_b")), site="test")
    read = read_snapshot(whole.model_dump_json().encode())

    assert [json.loads(msgspec.json.encode(told)) for told in read.keys] == [
        told.model_dump(mode="json") for told in whole.keys
    ]
    assert read.model_copy(update={"keys": ()}) == whole.model_copy(update={"keys": ()})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"purposes"', '"porpoises"'),
        ('"classification":1', '"classification":"1"'),
        ('"keys"', '"kies"'),
        ('"priority":"interactive"', '"priority":"at once"'),
    ],
)
def test_a_key_that_the_contract_would_refuse_is_refused(before, after):
    payload = snapshot(1, (), (key("rdk_a"),), site="test").model_dump_json()
    assert before in payload

    with pytest.raises(ValueError, match=r"."):
        read_snapshot(payload.replace(before, after).encode())


def test_the_file_keeps_the_newest_version_whoever_writes_last(tmp_path: Path):
    file = SnapshotFile(tmp_path / "state")

    file.save(signed(5), 5)
    file.save(signed(4), 4)

    kept = file.load()
    assert kept is not None
    assert Snapshot.model_validate_json(kept.payload).version == 5


def test_a_damaged_file_is_no_snapshot(tmp_path: Path):
    (tmp_path / "snapshot.json").write_bytes(b'{"payload":')

    assert SnapshotFile(tmp_path).load() is None


class ControlPlane:
    """The api's answer to a poll, and a follower that asks it."""

    def __init__(self, folder: Path) -> None:
        self.answer = httpx.Response(204)
        self.asked: list[httpx.Request] = []
        self.adopted: list[int] = []
        self.folder = folder

    def follower(self) -> SnapshotFollower:
        http = httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(self._handle))
        return SnapshotFollower(
            http=http,
            file=SnapshotFile(self.folder),
            key=SIGNER.public_key(),
            site="test",
            bearer=lambda: "box",
            adopt=lambda s: self.adopted.append(s.version),
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer


@pytest.fixture
def control_plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path)


async def test_a_newer_snapshot_is_adopted_kept_and_asked_beyond(control_plane: ControlPlane):
    follower = control_plane.follower()
    control_plane.answer = httpx.Response(200, text=signed(7).model_dump_json())
    await follower.poll()
    control_plane.answer = httpx.Response(204)
    await follower.poll()

    again = control_plane.follower()
    again.start_from_file()

    assert control_plane.adopted == [7, 7]
    assert [request.url.params["after"] for request in control_plane.asked] == ["0", "7"]
    assert control_plane.asked[0].headers["authorization"] == "Bearer box"


async def test_an_older_snapshot_changes_nothing_even_after_a_restart(control_plane: ControlPlane):
    follower = control_plane.follower()
    control_plane.answer = httpx.Response(200, text=signed(7).model_dump_json())
    await follower.poll()
    restarted = control_plane.follower()
    restarted.start_from_file()
    control_plane.answer = httpx.Response(200, text=signed(6).model_dump_json())

    for each in (follower, restarted):
        with pytest.raises(SnapshotRefused):
            await each.poll()

    assert control_plane.adopted == [7, 7]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500), Unavailable),
        (httpx.Response(403), Unavailable),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), Unavailable),
        (httpx.Response(200, text="<html>"), SnapshotRefused),
        (httpx.Response(200, text=signed(3, site="other").model_dump_json()), SnapshotRefused),
    ],
)
async def test_a_strange_answer_changes_nothing(
    control_plane: ControlPlane, answer: httpx.Response, error: type[Exception]
):
    follower = control_plane.follower()
    control_plane.answer = answer

    with pytest.raises(error):
        await follower.poll()

    assert control_plane.adopted == []


async def test_a_disk_that_is_full_does_not_keep_a_revocation_from_working(control_plane: ControlPlane):
    control_plane.folder = Path("/proc/nowhere")
    follower = control_plane.follower()
    control_plane.answer = httpx.Response(200, text=signed(7).model_dump_json())

    with pytest.raises(OSError, match="nowhere"):
        await follower.poll()

    assert control_plane.adopted == [7]
