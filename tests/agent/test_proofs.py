"""What the agent tells of its node's newest proof: judged here, not believed."""

from pathlib import Path
from typing import Any  # evidence is changed key by key

import pytest

from controlplane.agent.proofs import read_proof
from controlplane.contracts.proof import Signed
from controlplane.kit.canonical import canonical_json, sha256_hex
from tests.support.proofs import END, make_part


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
