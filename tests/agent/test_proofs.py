"""What the agent tells of its node's newest proof: judged here, not believed."""

from pathlib import Path
from typing import Any  # evidence is changed key by key

import pytest

from controlplane.agent.proofs import read_proof, read_site_proof
from controlplane.contracts.proof import Signed, SiteProof
from controlplane.kit.canonical import canonical_json, sha256_hex
from tests.support.proofs import END, Evidence, make_part, make_signer


def keep(path: Path, part: dict[str, Any]) -> str:
    payload = canonical_json(part).decode()
    path.write_text(Signed(payload=payload, signature="", certificate="").model_dump_json())
    return sha256_hex(payload.encode())


def test_an_isolated_node_is_told_with_the_digest_of_its_proof(tmp_path: Path):
    digest = keep(tmp_path / "last.json", make_part())

    told = read_proof(tmp_path / "last.json")

    assert told is not None
    assert (told.sha256, told.verdict, told.reasons, told.ended_at) == (digest, "isolated", (), END)


def test_a_leak_is_told_with_its_reasons_and_never_with_too_many(tmp_path: Path):
    leak = {"kind": "udp", "target": "udp 192.0.2.1 53", "outcome": "sent", "detail": "x" * 5000}
    part = make_part()
    part["contexts"][0]["anomalies"] = [leak] * 100
    keep(tmp_path / "last.json", part)

    told = read_proof(tmp_path / "last.json")

    assert told is not None
    assert told.verdict == "leaking"
    assert len(told.reasons) == 20
    assert max(map(len, told.reasons)) == 300


@pytest.mark.parametrize("text", ["", "{}", '{"payload": "{}", "signature": "", "certificate": ""}', "\xff"])
def test_what_cannot_be_read_is_no_proof(tmp_path: Path, text: str):
    path = tmp_path / "last.json"
    path.write_bytes(text.encode("latin-1"))

    assert read_proof(path) is None
    assert read_proof(tmp_path / "missing.json") is None


def keep_site(folder: Path, **more: Evidence | None) -> tuple[Path, SiteProof]:
    """Keep a whole proof as the prober of the authority's node does."""
    data = make_signer(folder).proof(make_part("ctl1"), make_part("gpu1"), **more)
    path = folder / "site.json"
    path.write_bytes(data)
    return path, SiteProof.model_validate_json(Signed.model_validate_json(data).payload)


def test_an_isolated_site_is_told_with_the_digest_of_its_proof(tmp_path: Path):
    path, _ = keep_site(tmp_path)

    told = read_site_proof(path)

    assert told is not None
    payload = Signed.model_validate_json(path.read_bytes()).payload
    assert (told.sha256, told.verdict, told.ended_at) == (sha256_hex(payload.encode()), "isolated", END)


def test_what_only_the_trap_heard_is_told_and_so_is_what_replaces_it(tmp_path: Path):
    packet = {"at": "now", "source": "10.77.0.12", "destination": "192.0.2.1", "protocol": "udp", "port": 53}
    path, leaking = keep_site(tmp_path, trap={"recorder": "r", "heard_canary": True, "packets": [packet], "error": ""})
    first = read_site_proof(path)
    path.unlink()
    (tmp_path / "deaf").mkdir()
    deaf, doubtful = keep_site(
        tmp_path / "deaf", trap={"recorder": "r", "heard_canary": False, "packets": [], "error": ""}
    )
    deaf.rename(path)
    second = read_site_proof(path)

    assert first is not None
    assert second is not None
    assert (first.verdict, first.reasons) == (leaking.verdict, leaking.reasons) == ("leaking", first.reasons)
    assert (second.verdict, second.reasons) == (doubtful.verdict, doubtful.reasons)
    assert second.verdict == "inconclusive"


def test_a_part_that_cannot_be_read_leaves_the_site_in_doubt(tmp_path: Path):
    path, proof = keep_site(tmp_path)
    broken = proof.nodes["gpu1"].model_copy(update={"payload": "{}"})
    changed = proof.model_copy(update={"nodes": {**proof.nodes, "gpu1": broken}})
    path.write_text(Signed(payload=changed.model_dump_json(), signature="", certificate="").model_dump_json())

    told = read_site_proof(path)

    assert told is not None
    assert told.verdict == "inconclusive"


def test_where_no_whole_proof_is_kept_none_is_told(tmp_path: Path):
    (tmp_path / "odd.json").write_text("{}")

    assert read_site_proof(tmp_path / "site.json") is None
    assert read_site_proof(tmp_path / "odd.json") is None
