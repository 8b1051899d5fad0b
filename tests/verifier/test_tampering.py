"""T1 to T8, T11, T14, T16 and T17 of the audit design: what an attacker does to a log, and what the verifier says."""

import json
import random
import shutil
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.note import verifier_key
from controlplane.verifier import redoubt_verify
from controlplane.verifier.redoubt_verify import (
    FAILURES,
    Failed,
    Keys,
    check_entry,
    check_proof,
    check_unusual_entry,
    read_key,
)
from tests.support.audit_export import START, MadeLog, entry_of, log_key, make_log, witness_key

STOLEN = Ed25519PrivateKey.from_private_bytes(b"S" * 32)


def verify(folder: Path, *options: str, capture: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    """Return the class of the failure ("ok" for none) and the whole answer."""
    code = redoubt_verify.main([str(folder), "--json", *options])
    answer = json.loads(capture.readouterr().out)
    assert code == (0 if answer["ok"] else FAILURES[answer["failure"]])
    return "ok" if answer["ok"] else answer["failure"], answer


def rewrite(folder: Path, change: Callable[[list[bytes]], list[bytes]], *, size: bool = False) -> None:
    """Change the entries as an attacker does who also mends the manifest."""
    path, manifest_path = folder / "entries.jsonl", folder / "manifest.json"
    lines = change(path.read_bytes().split(b"\n")[:-1])
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    manifest = json.loads(manifest_path.read_text())
    if size:
        manifest["size"] = len(lines)
    for name in manifest["files"]:
        if (folder / name).exists():
            manifest["files"][name] = sha256((folder / name).read_bytes()).hexdigest()
    manifest["files"] = {name: digest for name, digest in manifest["files"].items() if (folder / name).exists()}
    manifest["checkpoints"] = [n for n in manifest["checkpoints"] if (folder / "checkpoints" / str(n)).exists()]
    manifest_path.write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n")


def test_a_whole_export_is_good_and_says_what_was_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log()
    verdict, answer = verify(log.export(tmp_path / "x", proofs=[0, 6, 19]), capture=capsys)

    assert verdict == "ok"
    assert (answer["entries"], answer["checkpoints"], answer["proofs"]) == (20, 3, 3)
    assert answer["witnesses"] == ["redoubt/north/gpu1"]
    assert any("compare redoubt/north+" in line for line in answer["not_checked"])
    keys = ["--key", log_key(log), "--key", witness_key()]
    assert redoubt_verify.main([str(tmp_path / "x"), *keys, "--witnesses", "1"]) == 0


def test_a_witness_whose_key_came_with_the_export_is_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log()
    folder, by_log = log.export(tmp_path / "x"), ("--key", log_key(log))

    assert verify(folder, *by_log, "--witnesses", "1", capture=capsys)[0] == "witnesses"
    assert verify(folder, "--witnesses", "1", capture=capsys)[0] == "witnesses"
    verdict, answer = verify(folder, *by_log, capture=capsys)
    assert (verdict, answer["exported_witness_keys"]) == ("ok", ["+".join(witness_key().split("+")[:2])])
    assert any("came with the export" in line for line in answer["not_checked"])
    _, known = verify(folder, *by_log, "--key", witness_key(), capture=capsys)
    assert not any("came with the export" in line for line in known["not_checked"])


def test_a_new_key_under_the_name_of_a_known_witness_is_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = MadeLog(make_log().bodies, (20,), witness_key=STOLEN)
    keys = ["--key", log_key(log), "--key", witness_key()]
    assert verify(log.export(tmp_path / "x"), *keys, "--witnesses", "1", capture=capsys)[0] == "witnesses"


def test_a_key_of_the_export_takes_the_place_of_no_given_one():
    given = read_key(witness_key())
    twin = given._replace(public=b"t" * 32)  # four bytes of an id can be met on purpose
    keys = Keys([witness_key()])
    assert keys.known == {(given.name, given.id): given}
    assert twin not in keys.given


def test_the_proofs_of_an_export_are_checked_by_the_given_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log()
    folder = log.export(tmp_path / "x", proofs=[4])
    forged = MadeLog(log.bodies, (20,), key=STOLEN)
    next((folder / "proofs").iterdir()).write_text(forged.proof(4).proof)
    with (folder / "keys/log.txt").open("a") as file:
        file.write(f"{log_key(forged)}\n")
    rewrite(folder, list)

    assert verify(folder, "--key", log_key(log), capture=capsys)[0] == "signature"


def test_a_proof_of_an_index_beyond_the_tree_does_not_hold():
    log, keys = make_log(1, (1,)), Keys([log_key(make_log()), witness_key()])
    leaf = sha256(b"\0" + log.bodies[0].encode()).digest()
    proof = log.proof(0).proof

    assert check_proof(proof, leaf, keys, log.origin) == (0, 1)
    with pytest.raises(Failed, match="beyond the tree"):
        check_proof(proof.replace("index 0", "index 1"), leaf, keys, log.origin)


def test_a_seen_checkpoint_stands_in_for_none_of_the_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")
    shutil.copy(folder / "checkpoints/20", tmp_path / "seen")
    (folder / "checkpoints/20").unlink()
    rewrite(folder, list)
    assert verify(folder, "--seen", str(tmp_path / "seen"), capture=capsys)[0] == "checkpoint"


TAMPERING: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "T1 one byte of the first": (lambda lines: [lines[0].replace(b"gpu0", b"gpu9"), *lines[1:]], "tree"),
    "T1 one byte of the last": (lambda lines: [*lines[:-1], lines[-1].replace(b"operator", b"Operator")], "tree"),
    "T1 a letter that looks alike": (
        lambda lines: [lines[0].replace(b"prn_ada", "prn_ad\u0430".encode()), *lines[1:]],
        "tree",
    ),
    "T1 a field more": (lambda lines: [lines[0].replace(b'"v":1', b'"v":1,"w":2'), *lines[1:]], "fields"),
    "T1 another version": (lambda lines: [lines[0].replace(b'"v":1', b'"v":2'), *lines[1:]], "fields"),
    "T2 without the first": (lambda lines: lines[1:], "tree"),
    "T2 without one in the middle": (lambda lines: lines[:9] + lines[10:], "tree"),
    "T2 without the last": (lambda lines: lines[:-1], "gap"),
    "T3 two in another order": (lambda lines: [lines[1], lines[0], *lines[2:]], "tree"),
    "T4 cut at a checkpoint": (lambda lines: lines[:13], "gap"),
    "T4 cut before a checkpoint": (lambda lines: lines[:12], "gap"),
    "T4 cut after a checkpoint": (lambda lines: lines[:14], "gap"),
    "T5 one twice": (lambda lines: [*lines[:5], lines[4], *lines[5:]], "duplicate"),
    "T5 one again at the end": (lambda lines: [*lines, lines[-1]], "duplicate"),
}


@pytest.mark.parametrize(("change", "verdict"), list(TAMPERING.values()), ids=list(TAMPERING))
def test_no_change_of_the_entries_goes_unseen(
    tmp_path: Path,
    change: Callable[[list[bytes]], list[bytes]],
    verdict: str,
    capsys: pytest.CaptureFixture[str],
):
    folder = make_log().export(tmp_path / "x")
    rewrite(folder, change)
    assert verify(folder, capture=capsys)[0] == verdict


def test_an_entry_behind_the_last_checkpoint_is_not_covered(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")
    rewrite(folder, lambda lines: [*lines, entry_of(99).encode()], size=True)
    assert verify(folder, capture=capsys)[0] == "checkpoint"


def test_a_log_cut_at_an_older_checkpoint_is_older_than_what_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = make_log().export(tmp_path / "x")
    shutil.copy(folder / "checkpoints/20", tmp_path / "seen")
    (folder / "checkpoints/20").unlink()
    rewrite(folder, lambda lines: lines[:13], size=True)  # T4 and T6: everything fits, and is a week old

    assert verify(folder, capture=capsys)[0] == "ok"
    assert verify(folder, "--seen", str(tmp_path / "seen"), capture=capsys)[0] == "old"


def test_a_missing_checkpoint_that_the_manifest_expects_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "checkpoints/13").unlink()
    del manifest["files"]["checkpoints/13"]
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n")
    assert verify(folder, capture=capsys)[0] == "checkpoint"


def test_a_checkpoint_that_has_no_size_for_a_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "checkpoints/13").rename(folder / "checkpoints/abc")
    manifest["files"]["checkpoints/abc"] = manifest["files"].pop("checkpoints/13")
    manifest["checkpoints"] = ["abc" if size == 13 else size for size in manifest["checkpoints"]]
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n")
    assert verify(folder, capture=capsys)[0] == "checkpoint"


def test_a_file_that_nobody_named_is_no_part_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")
    (folder / "extra.jsonl").write_text("{}\n")
    assert verify(folder, capture=capsys)[0] == "files"


def test_a_checkpoint_without_a_signature_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")
    path = folder / "checkpoints/20"
    path.write_text(path.read_text().partition("\n\n")[0] + "\n")
    rewrite(folder, list)
    assert verify(folder, capture=capsys)[0] == "signature"


def test_another_sites_log_is_not_this_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_log().export(tmp_path / "x")  # T5: replay from another site
    other = MadeLog(make_log().bodies, (20,), origin="redoubt/south")
    (folder / "checkpoints/20").write_text(other.note(20))
    rewrite(folder, list)
    assert verify(folder, capture=capsys)[0] == "origin"


def test_a_log_that_was_written_anew_with_the_stolen_key_is_not_the_one_that_was_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "seen").write_text(make_log().note(13))  # T7, and T8: what two witnesses saw
    forged = make_log()
    forged.bodies[3] = entry_of(3, event="node.uncordoned")
    forged.witnessed = False
    folder = forged.export(tmp_path / "x")

    assert verify(folder, capture=capsys)[0] == "ok"  # the key is the right one: only a witness knows better
    assert verify(folder, "--witnesses", "1", capture=capsys)[0] == "witnesses"
    seen = make_log()
    seen.witnessed = False
    (tmp_path / "seen").write_text(seen.note(13))
    assert verify(folder, "--seen", str(tmp_path / "seen"), capture=capsys)[0] == "split"


def test_a_key_that_is_not_the_given_one_signs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = MadeLog(make_log().bodies, (20,), key=STOLEN).export(tmp_path / "x")
    assert verify(folder, capture=capsys)[0] == "ok"
    assert verify(folder, "--key", log_key(make_log()), capture=capsys)[0] == "signature"


def test_time_that_runs_backwards_needs_an_anomaly(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    back = START - timedelta(hours=1)  # T11
    bodies = make_log().bodies
    bodies[10] = entry_of(10, at=back)
    assert verify(MadeLog(bodies, (20,)).export(tmp_path / "x"), capture=capsys)[0] == "clock"

    bodies[10:12] = [entry_of(10, at=back, event="clock.anomaly"), entry_of(11, at=back + timedelta(seconds=1))]
    assert verify(MadeLog(bodies, (20,)).export(tmp_path / "y"), capture=capsys)[0] == "ok"


def test_a_second_that_slipped_between_two_commits_is_no_anomaly(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bodies = make_log().bodies
    bodies[10], bodies[11] = bodies[11], bodies[10]
    assert verify(MadeLog(bodies, (20,)).export(tmp_path / "x"), capture=capsys)[0] == "ok"


def test_a_purged_body_is_fine_when_the_log_tells_of_the_purge(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bodies = make_log().bodies  # T14
    bodies[19] = entry_of(19, event="audit.purged", before_leaf=8)
    told = MadeLog(bodies, (7, 20), purged_before=8)
    verdict, answer = verify(told.export(tmp_path / "x"), capture=capsys)
    assert (verdict, answer["purged"]) == ("ok", 8)

    more = MadeLog(bodies, (7, 20), purged_before=9)
    assert verify(more.export(tmp_path / "y"), capture=capsys)[0] == "gap"


def test_a_key_may_change_in_the_middle_of_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = MadeLog(make_log().bodies, (7, 13, 20), keys_from={13: STOLEN})  # T16
    old, new = log_key(log), str(verifier_key(log.origin, STOLEN))
    folder = log.export(tmp_path / "x", proofs=[2])

    assert verify(folder, "--key", old, "--key", new, capture=capsys)[0] == "ok"
    assert verify(folder, "--key", old, capture=capsys)[0] == "signature"


def test_a_proof_of_another_entry_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log()
    folder = log.export(tmp_path / "x", proofs=[4])
    next((folder / "proofs").iterdir()).write_text(log.proof(5).proof)
    rewrite(folder, list)
    assert verify(folder, capture=capsys)[0] == "proof"


def test_one_proof_alone_is_checked_against_its_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log()
    (tmp_path / "p.tlog-proof").write_text(log.proof(4).proof)
    (tmp_path / "right.json").write_text(log.bodies[4])
    (tmp_path / "wrong.json").write_text(log.bodies[5])
    keys = ["--key", log_key(log), "--key", (log.export(tmp_path / "x") / "keys/witnesses.txt").read_text().strip()]

    assert verify(tmp_path / "p.tlog-proof", "--event", str(tmp_path / "right.json"), *keys, capture=capsys)[0] == "ok"
    assert (
        verify(tmp_path / "p.tlog-proof", "--event", str(tmp_path / "wrong.json"), *keys, capture=capsys)[0] == "proof"
    )


def test_no_single_byte_of_an_export_can_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log(6, (3, 6))  # T1 and T17: every class of byte, in every file, changed, dropped and doubled
    folder = log.export(tmp_path / "x", proofs=[1])
    chance = random.Random(20261127)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        if not whole:
            continue
        places = range(len(whole)) if len(whole) < 400 else sorted(chance.sample(range(len(whole)), 150))
        for place in places:
            flipped = bytes([whole[place] ^ 1 << chance.randrange(8)])
            for changed in (whole[:place] + flipped + whole[place + 1 :], whole[:place] + whole[place + 1 :]):
                path.write_bytes(changed)
                assert redoubt_verify.main([str(folder)]) != 0, (path.name, place)
        path.write_bytes(whole)
    capsys.readouterr()
    assert redoubt_verify.main([str(folder)]) == 0


def test_no_mutation_with_a_mended_manifest_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = make_log(6, (3, 6))  # T17: an attacker who mends the manifest too
    folder = log.export(tmp_path / "x", proofs=[1])
    manifest = (folder / "manifest.json").read_bytes()
    chance = random.Random(7)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
        whole = path.read_bytes()
        for _ in range(60):
            place = chance.randrange(len(whole))
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
            rewrite(folder, list)
            assert redoubt_verify.main([str(folder), "--key", log_key(log)]) != 0, (path.name, place)
        path.write_bytes(whole)
        (folder / "manifest.json").write_bytes(manifest)
    capsys.readouterr()
    assert redoubt_verify.main([str(folder)]) == 0


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.none())))
def test_the_quick_look_at_an_entry_and_the_parser_agree(details: dict[str, Any]):
    body = entry_of(1, event="thing.happened", **{f"d_{i}": v for i, v in enumerate(details.values())})
    assert check_entry(0, body.encode()) == check_unusual_entry(0, body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"details":{"number":1}', '"details":{"number":1,"number":2}'),
        ('"details":{"number":1}', '"details":{"number":1,"a":2}'),
        ('"details":{"number":1}', '"details":{"number":01}'),
        ('"details":{"number":1}', '"details":{"number": 1}'),
        ('"details":{"number":1}', '"details":[]'),
        ('"result":"ok"', '"result":1'),
        ('"role":"operator"', '"rule":"operator"'),
        ('"v":1', '"v":true'),
        ('"v":1', '"v":1.0'),
        ('"node":"ctl1"', '"node":"ctl\\u0031"'),
    ],
)
def test_an_entry_in_another_form_is_refused(old: str, new: str):
    body = entry_of(1)
    assert old in body
    with pytest.raises(Failed):
        check_entry(0, body.replace(old, new).encode())
