"""Whatever is named in place of a bundle, the error says what it is and which command comes next."""

from itertools import product

import pytest
from typer.testing import CliRunner

from controlplane.bundle.delta import write_delta
from controlplane.bundle.media import split_tar
from controlplane.cli.bundle import app
from controlplane.kit.errors import BadInput
from tests.cli.test_bundle import pem, run
from tests.support.bundles import SmallBundle

EMPTY, TEXT, NOTHING = "empty", "text.tar", "nothing.tar"
PARTS, PART, DELTA = "media", "media/bundle.001.part", "delta.tar"
JOIN_PARTS, JOIN_DELTA, BUILD = "redoubt bundle join", "--base BUNDLE --out", "redoubt bundle build"
NEXT = {EMPTY: BUILD, TEXT: BUILD, NOTHING: BUILD, PARTS: JOIN_PARTS, PART: JOIN_PARTS}
VERBS = {
    "verify": ["verify", "IT", "TRUST"],
    "inspect": ["inspect", "IT", "TRUST"],
    "sign": ["sign", "IT", "--key", "KEY"],
    "diff from": ["diff", "IT", "BUNDLE", "--out", "OUT", "TRUST"],
    "diff to": ["diff", "BUNDLE", "IT", "--out", "OUT", "TRUST"],
    "split": ["split", "IT", "--size", "50000", "--out", "OUT"],
    "join onto": ["join", "DELTA", "--base", "IT", "--out", "OUT", "TRUST"],
    "join a delta": ["join", "IT", "--base", "BUNDLE", "--out", "OUT", "TRUST"],
    "import": ["import", "IT", "--depot", "OUT", "TRUST"],
}


@pytest.fixture
def bundle(tmp_path):
    return SmallBundle(tmp_path / "first")


@pytest.fixture
def typed(bundle, tmp_path):
    """Fill the words of a command in: paths that exist, and one that does not."""
    following = SmallBundle(tmp_path / "next", wheel=b"later", key=bundle.key, root=bundle.root, serial=2)
    split_tar(bundle.archive, 50_000, tmp_path / PARTS)
    write_delta(bundle.folder, following.archive, tmp_path / DELTA, bundle.trust())
    (tmp_path / EMPTY).mkdir()
    (tmp_path / TEXT).write_text("no tar at all\n" * 99)
    (tmp_path / "signer.key").write_bytes(pem(bundle))
    paths = {"BUNDLE": bundle.archive, "DELTA": tmp_path / DELTA, "KEY": tmp_path / "signer.key"}
    trust = ["--root", str(bundle.root_file), "--cache", str(tmp_path / "cache")]

    def fill(verb: str, kind: str) -> list[str]:
        known = {**paths, "IT": tmp_path / kind, "OUT": tmp_path / "out"}
        words = [str(known.get(word, word)) for word in VERBS[verb] if word != "TRUST"]
        return words + (trust if "TRUST" in VERBS[verb] else [])

    return fill


@pytest.mark.parametrize(("verb", "kind"), [pair for pair in product(VERBS, NEXT) if pair != ("import", PARTS)])
def test_what_is_no_bundle_is_a_usage_error_that_names_the_next_command(typed, verb, kind):
    error = misused(*typed(verb, kind))

    assert NEXT[kind] in error.remedy


@pytest.mark.parametrize("verb", ["verify", "diff to", "join onto"])
def test_a_delta_where_a_whole_bundle_is_wanted_names_how_to_join_it(typed, verb):
    error = misused(*typed(verb, DELTA))

    assert "is a delta" in error.detail
    assert JOIN_DELTA in error.remedy


def test_joining_what_is_no_folder_of_parts_names_both_ways_to_join(tmp_path, typed):
    typed("verify", EMPTY)
    for kind in (EMPTY, TEXT, DELTA):
        assert "redoubt bundle join FOLDER" in misused("join", str(tmp_path / kind), "--out", "o.tar").remedy


def test_a_bundle_as_a_folder_is_split_by_its_tar(bundle, tmp_path):
    error = misused("split", str(bundle.folder), "--size", "50000", "--out", f"{tmp_path}/out")

    assert error.remedy.endswith(f"redoubt bundle split {bundle.archive}")


def test_one_delta_is_joined_at_a_time(bundle, tmp_path):
    error = misused("join", "a.tar", "b.tar", "--base", str(bundle.archive), "--out", f"{tmp_path}/out.tar")

    assert "more than one source" in error.detail


def test_signing_one_part_leaves_it_as_it_was(typed, tmp_path):
    words = typed("sign", PART)
    before = (tmp_path / PART).read_bytes()

    misused(*words)

    assert (tmp_path / PART).read_bytes() == before


def test_verifying_what_was_built_still_works(bundle, typed):
    assert run(*typed("verify", str(bundle.archive)))


def misused(*words: str) -> BadInput:
    done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, BadInput), (done.output, done.exception)
    return done.exception
