"""redoubt bundle: trust by n of m from files alone, transfer, import and its log, as a person types them."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from controlplane.cli.bundle import app
from controlplane.kit.errors import RedoubtError
from tests.support.bundles import APT_KEY, MADE_AT, SmallBundle


@pytest.fixture
def bundle(tmp_path):
    return SmallBundle(tmp_path / "first")


@pytest.fixture
def words(bundle, tmp_path):
    """The options that pin the bundle's root and keep the cache out of the way."""
    return ["--root", str(bundle.root_file), "--cache", str(tmp_path / "cache")]


@pytest.fixture
def signers(tmp_path, monkeypatch):
    """Three signers in a folder, with a repository key."""
    monkeypatch.chdir(tmp_path)
    Path("apt.asc").write_text(APT_KEY)
    for name in ("alice", "bob", "carol"):
        run("trust", "key", "--out", f"{name}.key")


def test_a_root_of_two_of_three_is_made_signed_shown_and_rotated_from_files_alone(signers):
    three = ["--key", "alice.pub", "--key", "bob.pub", "--key", "carol.pub"]
    run("trust", "init", *three, "--threshold", "2", "--apt-key", "apt.asc", "--out", "root.1.json")
    assert refused("trust", "show", "root.1.json").detail.startswith("trust root 1 has 0 of the 2 signatures")
    for name in ("alice", "bob"):
        run("trust", "add-signature", "root.1.json", "--key", f"{name}.key")
    shown = json.loads(run("trust", "show", "root.1.json", "--json"))
    assert [(key["name"], key["signed"]) for key in shown["keys"]] == [
        ("alice", True), ("bob", True), ("carol", False),
    ]  # fmt: skip

    run("trust", "rotate", "root.1.json", "--key", "carol.pub", "--threshold", "1", "--out", "root.2.json")
    run("trust", "add-signature", "root.2.json", "--key", "carol.key", "--before", "root.1.json")
    short = refused("trust", "show", "root.2.json", "--before", "root.1.json")
    run("trust", "add-signature", "root.2.json", "--key", "alice.key", "--before", "root.1.json")
    rotated = json.loads(run("trust", "show", "root.2.json", "--before", "root.1.json", "--json"))

    assert "trust root 2 has 1 of the 2 signatures that root 1 asks for" in short.detail
    assert (rotated["version"], rotated["threshold"]) == (2, 1)


def test_a_bundle_is_signed_by_one_key_at_a_time_as_folder_and_as_tar(signers, tmp_path):
    run(
        "trust", "init", "--key", "alice.pub", "--key", "bob.pub", "--threshold", "2", "--apt-key", "apt.asc",
        "--out", "root.1.json",
    )  # fmt: skip
    for name in ("alice", "bob"):
        run("trust", "add-signature", "root.1.json", "--key", f"{name}.key")
    bundle = SmallBundle(tmp_path / "made")
    for path in bundle.folder.glob("trust/*"):
        path.unlink()
    bundle.archive.unlink()
    trust = ["--root", "root.1.json", "--cache", "cache"]

    run("sign", str(bundle.folder), "--key", "alice.key", "--root", "root.1.json")
    short = refused("verify", str(bundle.folder), *trust)
    run("sign", str(bundle.folder), "--key", "bob.key")
    verified = json.loads(run("verify", str(bundle.folder), *trust, "--json"))

    assert "1 of the 2 signatures" in short.detail
    assert sorted(name.split()[0] for name in verified["signers"]) == ["alice", "bob"]


def test_signing_a_tar_moves_nothing_but_its_trust(bundle, signers, words):
    before = bundle.archive.read_bytes()
    Path("signer.key").write_bytes(pem(bundle))

    run("sign", str(bundle.archive), "--key", "signer.key")

    after = bundle.archive.read_bytes()
    assert len(after) == len(before)
    assert run("verify", str(bundle.archive), *words)


def test_a_root_that_was_rotated_is_used_from_then_on(signers):
    own = ["--cache", "cache"]
    run(
        "trust", "init", "--key", "alice.pub", "--threshold", "1", "--apt-key", "apt.asc", "--out", "root.1.json"
    )  # fmt: skip
    run("trust", "add-signature", "root.1.json", "--key", "alice.key")
    run("trust", "use", "root.1.json", *own)
    run("trust", "rotate", "root.1.json", "--key", "bob.pub", "--threshold", "1", "--out", "root.2.json")
    run("trust", "add-signature", "root.2.json", "--key", "bob.key", "--before", "root.1.json")
    short = refused("trust", "use", "root.2.json", *own)
    run("trust", "add-signature", "root.2.json", "--key", "alice.key", "--before", "root.1.json")

    assert json.loads(run("trust", "use", "root.2.json", *own, "--json"))["version"] == 2
    assert "root 1 asks for" in short.detail


def test_a_bundle_goes_in_parts_onto_media_and_from_there_into_a_depot(bundle, tmp_path, words):
    split = json.loads(run("split", str(bundle.archive), "--size", "50000", "--out", f"{tmp_path}/media", "--json"))
    joined = json.loads(run("join", f"{tmp_path}/media", "--out", f"{tmp_path}/joined.tar", "--json"))
    taken = json.loads(run("import", f"{tmp_path}/media", "--depot", f"{tmp_path}/depot", *words, "--json"))
    log = json.loads(run("log", "--depot", f"{tmp_path}/depot", "--json"))

    assert split["bundle"] == joined["digest"] == taken["digest"] == bundle.digest
    assert (tmp_path / "joined.tar").read_bytes() == bundle.archive.read_bytes()
    assert [entry["result"] for entry in log["entries"]] == ["accepted"]


def test_a_delta_goes_from_diff_to_depot(bundle, tmp_path, words):
    following = SmallBundle(tmp_path / "next", wheel=b"later", key=bundle.key, root=bundle.root, serial=2)
    depot = ["--depot", f"{tmp_path}/depot", *words]
    run("import", str(bundle.archive), *depot)

    diff = json.loads(
        run("diff", str(bundle.folder), str(following.archive), "--out", f"{tmp_path}/d.tar", *words, "--json")
    )
    taken = json.loads(run("import", f"{tmp_path}/d.tar", *depot, "--json"))
    run("join", f"{tmp_path}/d.tar", "--base", str(bundle.archive), "--out", f"{tmp_path}/full.tar", *words)

    assert diff["carried_bytes"] == taken["written_bytes"] == 5
    assert (tmp_path / "full.tar").read_bytes() == following.archive.read_bytes()


def test_long_transfers_say_on_standard_error_how_far_they_are(bundle, tmp_path, words):
    following = SmallBundle(tmp_path / "next", wheel=b"later" * 200_000, key=bundle.key, root=bundle.root, serial=2)
    media, depot = f"{tmp_path}/media", f"{tmp_path}/depot"
    old, new = str(bundle.archive), str(following.archive)

    for whole, command in {
        "split bundle.tar": ["split", old, "--size", "50000", "--out", media],
        "join joined.tar": ["join", media, "--out", f"{tmp_path}/joined.tar"],
        "import media": ["import", media, "--depot", depot, *words],
        "import bundle.tar": ["import", old, "--depot", depot, *words],
        "write d.tar": ["diff", old, new, "--out", f"{tmp_path}/d.tar", *words],
        "join full.tar": ["join", f"{tmp_path}/d.tar", "--base", old, "--out", f"{tmp_path}/full.tar", *words],
    }.items():
        said = CliRunner().invoke(app, command, catch_exceptions=False).stderr
        assert re.search(rf"^{whole}: (\S+) of \1 MB, \S+ MB/s, 0:00 left$", said, re.MULTILINE), said


def test_refusals_are_in_the_log_and_a_changed_line_is_named(bundle, tmp_path, words):
    depot = ["--depot", f"{tmp_path}/depot"]
    run("import", str(bundle.archive), *depot, *words)
    stranger = SmallBundle(tmp_path / "stranger")
    error = refused("import", str(stranger.archive), *depot, *words)
    said = run("log", *depot)
    log = tmp_path / "depot/import.log"
    log.write_text(log.read_text().replace("accepted", "Accepted"))

    altered = refused("log", *depot)

    assert f"refused: {error.detail}" in said
    assert "line 2 does not follow" in altered.detail
    assert altered.exit_code == 3


@pytest.mark.parametrize("harm", ["change", "cut"])
def test_a_last_line_that_was_changed_or_cut_off_is_named(bundle, tmp_path, words, harm):
    depot = ["--depot", f"{tmp_path}/depot"]
    following = SmallBundle(tmp_path / "next", wheel=b"later", key=bundle.key, root=bundle.root, serial=2)
    for made in (bundle, following):
        run("import", str(made.archive), *depot, *words)
    log = tmp_path / "depot/import.log"
    first, second, _ = log.read_text().split("\n")
    log.write_text(f"{first}\n" if harm == "cut" else f"{first}\n{second.replace('accepted', 'Accepted')}\n")

    assert f"line 2 {'is missing' if harm == 'cut' else 'was changed'}" in refused("log", *depot).detail


def test_an_override_is_shown_by_inspect(tmp_path):
    old = SmallBundle(tmp_path / "old", expires_at=MADE_AT - timedelta(days=1))
    words = ["--root", str(old.root_file), "--cache", f"{tmp_path}/cache"]
    reason = ["--accept", "nobody else can build today"]

    error = refused("verify", str(old.archive), *words)
    run("verify", str(old.archive), *words, *reason)
    shown = json.loads(run("inspect", str(old.archive), *words, *reason, "--json"))

    assert "--accept REASON" in error.remedy
    assert "nobody else can build today" in shown["overrides"][0]


def pem(bundle: SmallBundle) -> bytes:
    return bundle.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: str) -> RedoubtError:
    done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, RedoubtError), done.output
    return done.exception
