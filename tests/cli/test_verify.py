"""A proof is checked on another machine: it holds as it was signed, and no byte of it may change."""

import json
import re
import shutil
from base64 import b64decode, b64encode
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.cli.proof_check import check_proof, check_spec
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.certificates import load_authority
from controlplane.kit.errors import BadInput, RedoubtError, Refused
from controlplane.sitespec.text import parse_site
from tests.cli.test_exit_codes import run
from tests.support.certificates import make_site_ca
from tests.support.proofs import END, RUN, Signer, make_part, make_signer

PRACTICE = Path("inventory/practice/site.yml")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def proof(signer: Signer) -> bytes:
    return signer.proof(make_part("ctl1"), make_part("gpu1"))


def check(signer: Signer, data: bytes, **more):
    when = {"now": END + timedelta(minutes=1), "most_age": timedelta(hours=1), **more}
    return check_proof(data, load_authority(signer.ca.path.read_bytes()), **when)


def refusal(signer: Signer, data: bytes, **more) -> str:
    with pytest.raises(Refused) as refused:
        check(signer, data, **more)
    assert refused.value.remedy
    return refused.value.code


def test_a_proof_holds_and_says_what_it_does_not_tell(signer: Signer, proof: bytes):
    found = check(signer, proof)

    assert found.judgement.verdict == "isolated"
    assert sorted(found.parts) == ["ctl1", "gpu1"]
    assert {"the moon", "the stars"} <= set(found.not_checked)
    assert found.not_checked.count("the moon") == 1


@settings(max_examples=400)
@given(data=st.data())
def test_every_flipped_bit_is_refused(signer: Signer, proof: bytes, data: st.DataObject):
    position = data.draw(st.integers(0, len(proof) - 1))
    changed = bytearray(proof)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(RedoubtError) as refused:
        check(signer, bytes(changed))
    assert refused.value.exit_code in (2, 3)


@pytest.mark.parametrize("field", ["signature", "certificate"])
def test_every_byte_of_signature_and_certificate_counts(signer: Signer, proof: bytes, field: str):
    whole = json.loads(proof)
    der = b64decode(whole[field])
    for position in range(len(der)):
        changed = der[:position] + bytes([der[position] ^ 1]) + der[position + 1 :]
        other = {**whole, field: b64encode(changed).decode()}
        assert refusal(signer, canonical_json(other) + b"\n") == "bad_signature"


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -2])
def test_a_file_that_is_cut_short_is_refused(signer: Signer, proof: bytes, cut: int):
    with pytest.raises((Refused, BadInput)):
        check(signer, proof[:cut])


def test_a_file_in_another_form_is_refused(signer: Signer, proof: bytes):
    assert refusal(signer, json.dumps(json.loads(proof), indent=1).encode()) == "changed"


def test_another_sites_authority_is_no_authority(signer: Signer, proof: bytes, tmp_path: Path):
    other = make_site_ca(tmp_path)
    with pytest.raises(Refused) as refused:
        check_proof(proof, load_authority(other.path.read_bytes()), now=END, most_age=None)
    assert refused.value.code == "bad_signature"


def test_a_node_cannot_sign_for_another(signer: Signer):
    nodes = {"ctl1": signer.sign_part(make_part("ctl1")), "gpu1": signer.sign_part(make_part("gpu1"), "ctl1")}

    assert refusal(signer, signer.proof(nodes=nodes)) == "bad_signature"


def test_a_node_cannot_sign_for_the_site(signer: Signer, proof: bytes):
    other = Signer(signer.ca, {**signer.files, "proof": signer.files["gpu1"]})

    assert refusal(signer, other.proof(make_part("ctl1"), make_part("gpu1"))) == "bad_signature"


def test_a_part_of_another_run_cannot_be_slipped_in(signer: Signer):
    old = make_part("gpu1", run="run_of_yesterday")

    assert refusal(signer, signer.proof(make_part("ctl1"), old)) == "swapped_part"


def test_a_node_that_is_left_out_is_missed(signer: Signer):
    assert refusal(signer, signer.proof(make_part("ctl1"))) == "missing_node"


def test_a_verdict_is_not_taken_on_trust(signer: Signer):
    leaking = make_part("gpu1", witness={"tried": 96, "left": 3})
    lie = signer.proof(make_part("ctl1"), leaking, verdict="isolated", reasons=[])

    assert refusal(signer, lie) == "wrong_verdict"


def test_an_old_proof_is_refused_unless_its_age_is_allowed(signer: Signer, proof: bytes):
    assert refusal(signer, proof, now=END + timedelta(hours=2)) == "stale"
    assert check(signer, proof, now=END + timedelta(hours=2), most_age=None).judgement.verdict == "isolated"
    assert refusal(signer, proof, now=END - timedelta(hours=1)) == "future"


def test_certificates_count_at_the_time_of_the_proof_not_today(signer: Signer, proof: bytes):
    found = check(signer, proof, now=END + timedelta(days=900), most_age=None)

    assert found.judgement.verdict == "isolated"


def test_a_proof_of_another_spec_is_refused(signer: Signer, proof: bytes):
    source = PRACTICE.read_text()
    with pytest.raises(Refused) as refused:
        check_spec(check(signer, proof), parse_site(source), source)
    assert refused.value.code == "other_nodes"
    assert "gpu2" in refused.value.detail


def test_a_proof_of_an_older_spec_is_refused(signer: Signer):
    lines = PRACTICE.read_text().splitlines(keepends=True)
    source = "".join(lines[: lines.index("  - name: gpu2\n")]).replace("database: store1", "database: ctl1")
    source = re.sub(r"(?m)^ *scheduler_(backup|state): .*\n", "", source)
    whole = check(signer, signer.proof(make_part("ctl1"), make_part("gpu1"), spec_sha256=sha256_hex(source.encode())))

    check_spec(whole, parse_site(source), source)
    with pytest.raises(Refused) as refused:
        check_spec(whole, parse_site(source), source + "# changed\n")
    assert refused.value.code == "other_spec"


def test_the_verb_works_on_a_machine_that_has_the_file_and_the_ca_alone(signer: Signer, proof: bytes, tmp_path: Path):
    shutil.copy(signer.ca.path, tmp_path / "ca.crt")
    (tmp_path / "proof.json").write_bytes(proof)
    words = ("verify", str(tmp_path / "proof.json"), "--ca", str(tmp_path / "ca.crt"))

    told = run(tmp_path, *words, "--html", str(tmp_path / "page.html"))
    as_json = run(tmp_path, *words, "--json")

    assert told.returncode == 0, told.stderr
    assert "practice is isolated" in told.stdout
    assert "Not checked:" in told.stdout
    assert json.loads(as_json.stdout)["verdict"] == "isolated"
    page = (tmp_path / "page.html").read_text()
    assert "practice is isolated" in page
    assert "<script" not in page


def test_the_exit_code_tells_a_leak_from_a_forgery_from_no_proof(signer: Signer, proof: bytes, tmp_path: Path):
    leaking = signer.proof(make_part("ctl1"), make_part("gpu1", witness={"tried": 96, "left": 3}))
    files = {"leaking": leaking, "forged": proof.replace(RUN.encode(), b"run_9876543210"), "none": b"hello"}
    codes = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        codes[name] = run(tmp_path, "verify", str(tmp_path / name), "--ca", str(signer.ca.path)).returncode

    assert codes == {"leaking": 1, "forged": 3, "none": 2}
