"""A depot takes a bundle in whole or not at all, serves the one before until then, and keeps a record of both."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.bundle.depot_folder import DepotFolder
from controlplane.bundle.depot_program import openssl_check, punch
from controlplane.bundle.intake import Asked, take_in
from controlplane.bundle.roots import is_good_signature
from controlplane.bundle.terms import Platform
from controlplane.kit.errors import Conflict, RedoubtError, Refused, Unavailable
from tests.support.bundles import SmallBundle

NOW = datetime.now(UTC)
FILE_EVENTS = {"open", "os.rename", "os.link", "os.mkdir", "os.symlink", "os.remove", "os.rmdir", "os.truncate"}


def asked(bundle: SmallBundle, depot: Path, **given) -> Asked:
    facts = {"source": bundle.archive, "depot": depot, "root": bundle.root, "now": NOW, "who": "a test"}
    return Asked(**{**facts, **given})


def later(bundle: SmallBundle, home: Path, **facts) -> SmallBundle:
    """The next bundle of the same signer, with one file changed."""
    return SmallBundle(home, wheel=b"later", key=bundle.key, root=bundle.root, **{"serial": 2, **facts})


def journal(depot: Path) -> list[dict[str, object]]:
    return DepotFolder(depot).memory.journal.entries()


def serves(depot: Path, bundle: SmallBundle) -> bool:
    """Say whether the depot's current bundle is this one, byte for byte."""
    current = depot / "current"
    files = [path for path in bundle.folder.rglob("*") if path.is_file()]
    same = all((current / path.relative_to(bundle.folder)).read_bytes() == path.read_bytes() for path in files)
    return current.readlink().name == bundle.digest and same


def leftovers(depot: Path) -> set[str]:
    return {path.name for path in depot.iterdir() if path.name.startswith((".incoming", ".current", ".damaged"))}


@pytest.fixture
def depot(tmp_path):
    return tmp_path / "depot"


@pytest.fixture
def serving(bundle, depot):
    """A depot that serves a first bundle."""
    take_in(asked(bundle, depot), is_good_signature)
    return depot


@pytest.mark.parametrize("check", [is_good_signature, openssl_check], ids=["cryptography", "openssl"])
@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_bundle_that_is_whole_becomes_the_current_one_and_is_logged(bundle, depot, form, check):
    taken = take_in(asked(bundle, depot, source=getattr(bundle, form)), check)

    assert serves(depot, bundle)
    assert (taken.changed, taken.written_bytes > 0) == (True, True)
    assert [(entry["result"], entry["digest"], entry["who"]) for entry in journal(depot)] == [
        ("accepted", bundle.digest, "a test")
    ]


def test_whoever_watches_is_told_of_every_byte_whether_written_linked_or_there(bundle, serving, tmp_path):
    seen: list[int] = []

    def begin(total_bytes: int):
        seen.append(-total_bytes)
        return seen.append

    for made in (later(bundle, tmp_path / "next"), bundle):
        seen.clear()
        take_in(asked(made, serving, begin=begin), is_good_signature)
        assert seen[0] < 0
        assert sum(seen) == 0


def test_the_second_time_nothing_changes(bundle, serving):
    assert take_in(asked(bundle, serving), is_good_signature).changed is False
    assert len(journal(serving)) == 1


def test_what_the_bundle_before_has_is_linked_and_not_written_again(bundle, serving, tmp_path):
    following = later(bundle, tmp_path / "next")

    taken = take_in(asked(following, serving), is_good_signature)

    deb = "apt/pool/tool_1.deb"
    assert (serving / following.digest / deb).samefile(serving / bundle.digest / deb)
    assert taken.written_bytes == 5
    assert serves(serving, following)


def test_a_file_that_rotted_in_the_depot_is_not_linked_but_written_again(bundle, serving, tmp_path):
    (serving / "current/apt/pool/tool_1.deb").write_bytes(b"dEb " * 5000)
    following = later(bundle, tmp_path / "next")

    take_in(asked(following, serving), is_good_signature)

    assert serves(serving, following)


def test_a_bundle_that_rotted_in_the_depot_is_repaired_by_taking_it_in_again(bundle, serving):
    (serving / "current/apt/pool/tool_1.deb").write_bytes(b"dEb " * 5000)

    take_in(asked(bundle, serving), is_good_signature)

    assert serves(serving, bundle)


def test_the_two_newest_bundles_are_kept(bundle, serving, tmp_path):
    second, third = (later(bundle, tmp_path / name, version=name) for name in ("2", "3"))
    for following in (second, third):
        take_in(asked(following, serving), is_good_signature)

    kept = {path.name for path in serving.iterdir() if len(path.name) == 64}

    assert kept == {second.digest, third.digest}


def test_the_tar_gives_its_space_back_while_it_is_unpacked(tmp_path, depot):
    bundle = SmallBundle(tmp_path / "big", wheel=os.urandom(8 << 20))
    before = bundle.archive.stat().st_blocks

    take_in(asked(bundle, depot, punch=punch), is_good_signature)

    assert serves(depot, bundle)
    assert bundle.archive.stat().st_blocks < before / 2


def refused_and_as_before(question: Asked, before: SmallBundle, kind=Refused) -> RedoubtError:
    """Take in, expect a refusal, and hold that the depot serves what it served, without leftovers, on record."""
    with pytest.raises(kind) as refusal:
        take_in(question, is_good_signature)
    assert serves(question.depot, before)
    assert leftovers(question.depot) == set()
    assert journal(question.depot)[-1]["result"] == f"refused: {refusal.value.detail}"
    return refusal.value


@pytest.mark.parametrize("at", [b"deb deb", b'"floor"', b"later"], ids=["in a file", "in the manifest", "in a wheel"])
def test_a_byte_that_flipped_on_the_way_in(bundle, serving, tmp_path, at):
    following = later(bundle, tmp_path / "next")
    content = bytearray(following.archive.read_bytes())
    content[content.index(at)] ^= 1
    following.archive.write_bytes(content)

    if at == b"deb deb":  # the depot has that file already, so the tar's copy is not even read
        take_in(asked(following, serving), is_good_signature)
        assert serves(serving, following)
    else:
        refused_and_as_before(asked(following, serving), bundle)


def test_a_replayed_bundle_below_the_floor(bundle, serving, tmp_path):
    newest = later(bundle, tmp_path / "newest", serial=9, floor=8)
    take_in(asked(newest, serving), is_good_signature)

    refusal = refused_and_as_before(asked(bundle, serving), newest)

    assert "its serial 1 is below the floor 8" in refusal.detail


def test_a_replayed_bundle_with_a_reason_is_taken_and_the_reason_is_on_record(bundle, serving, tmp_path):
    take_in(asked(later(bundle, tmp_path / "newest", serial=9, floor=8), serving), is_good_signature)

    take_in(asked(bundle, serving, accept="the newer one broke the scheduler"), is_good_signature)

    assert serves(serving, bundle)
    assert "the newer one broke the scheduler (its serial 1" in str(journal(serving)[-1]["reason"])


def test_a_bundle_for_another_architecture(bundle, serving, tmp_path):
    other = later(bundle, tmp_path / "other", architecture="arm64")

    refusal = refused_and_as_before(asked(other, serving, platform=Platform("trixie", "amd64")), bundle)

    assert "for trixie on arm64, and the nodes are trixie on amd64" in refusal.detail


def test_another_bundle_than_the_one_that_the_inventory_names(bundle, serving, tmp_path):
    other = later(bundle, tmp_path / "other")

    assert "asked for" in refused_and_as_before(asked(other, serving, digest=bundle.digest), bundle).detail


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("files/.netrc", b"x", "the name of a file of secrets"),
        ("files/home/id_ed25519", b"x", "the name of a file of secrets"),
        ("files/a.txt", b"-----BEGIN " + b"OPENSSH PRIVATE KEY-----", "a private key"),
        ("files/a.sh", b"export TOKEN=rdk_" + b"a" * 43, "a token of this product"),
        ("files/a.cfg", b"key = AKIA" + b"Q" * 16, "a key of a cloud"),
        ("files/a.yml", b"t: ghp_" + b"a" * 40, "a token of a code host"),
        ("files/login", b"machine host login me password secret", "a login for a machine"),
    ],
    ids=["netrc", "ssh key", "private key", "own token", "cloud", "code host", "login"],
)
def test_a_bundle_that_carries_a_secret(bundle, serving, tmp_path, name, content, word):
    leaky = later(bundle, tmp_path / "leaky")
    leaky.write(name, content)
    leaky.seal()

    refusal = refused_and_as_before(asked(leaky, serving), bundle)

    assert name in refusal.detail
    assert word in refusal.detail
    assert content.decode() not in refusal.detail or content == b"x"


def test_a_disk_that_is_too_small_is_seen_before_anything_is_written(bundle, serving, tmp_path, monkeypatch):
    following = later(bundle, tmp_path / "next")
    real = os.statvfs(serving)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:4], 10, *real[5:])))

    assert "MB are free" in refused_and_as_before(asked(following, serving), bundle).detail


def test_a_disk_that_fills_up_while_writing(bundle, serving, tmp_path):
    following = SmallBundle(tmp_path / "next", wheel=bytes(4 << 20), key=bundle.key, root=bundle.root, serial=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(Unavailable, match="could not be written") as refusal:
            take_in(asked(following, serving), is_good_signature)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert serves(serving, bundle)
    assert leftovers(serving) == set()
    assert "make room" in refusal.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_file_system_that_is_really_full(bundle, tmp_path):
    depot = tmp_path / "small"
    depot.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(depot)], check=True)
    try:
        take_in(asked(bundle, depot), is_good_signature)
        following = SmallBundle(
            tmp_path / "next", wheel=os.urandom(40 << 20), key=bundle.key, root=bundle.root, serial=2
        )
        with pytest.raises(Refused, match="MB are free"):
            take_in(asked(following, depot), is_good_signature)
        (depot / "ballast").write_bytes(bytes(12 << 20))
        with pytest.raises((Refused, Unavailable)):
            take_in(asked(following, depot, punch=lambda *_: None), is_good_signature)
        assert serves(depot, bundle)
        assert leftovers(depot) == set()
    finally:
        subprocess.run(["umount", str(depot)], check=True)


def test_of_two_imports_at_once_the_second_is_refused(bundle, serving, tmp_path):
    following = later(bundle, tmp_path / "next")

    with DepotFolder(serving).alone(), pytest.raises(Conflict, match="another import"):
        take_in(asked(following, serving), is_good_signature)

    assert serves(serving, bundle)


def test_an_altered_journal_stops_imports_and_names_the_line(bundle, serving, tmp_path):
    following = later(bundle, tmp_path / "next")
    take_in(asked(following, serving), is_good_signature)
    log = serving / "import.log"
    log.write_text(log.read_text().replace('"serial":1', '"serial":7'))

    with pytest.raises(Refused, match="line 2 does not follow"):
        take_in(asked(bundle, serving), is_good_signature)

    assert serves(serving, following)


def test_a_root_of_another_chain_is_refused_once_one_is_known(bundle, serving, tmp_path):
    stranger = SmallBundle(tmp_path / "stranger", serial=2)

    refusal = refused_and_as_before(asked(stranger, serving), bundle)

    assert "is not the one that was accepted here before" in refusal.detail


@pytest.mark.slow
def test_an_import_that_is_killed_at_any_step_leaves_the_bundle_before_and_the_next_one_finishes(
    bundle, serving, tmp_path
):
    following = SmallBundle(tmp_path / "next", wheel=os.urandom(1 << 20), key=bundle.key, root=bundle.root, serial=2)
    steps, finished = 0, False
    while not finished:
        depot = tmp_path / f"depot killed at {(steps := steps + 1)}"
        shutil.copytree(serving, depot, symlinks=True)
        finished = not killed_at(steps, asked(following, depot))
        current = (depot / "current").readlink().name
        assert serves(depot, bundle if current == bundle.digest else following), steps
        take_in(asked(following, depot), is_good_signature)
        assert serves(depot, following), steps
        assert leftovers(depot) == set()
        assert journal(depot)[-1]["digest"] == following.digest
        shutil.rmtree(depot)

    assert steps > 30  # or it was not killed in the middle


def killed_at(step: int, question: Asked) -> bool:
    """Import in a process that kills itself at the nth thing it does to a file; tell whether it came that far."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in FILE_EVENTS and str(question.depot) in str(arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        take_in(question, is_good_signature)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_the_program_of_the_node_needs_nothing_but_the_files_that_the_role_puts_there(bundle, tmp_path):
    import yaml  # noqa: PLC0415 - the one test that reads the role

    modules = yaml.safe_load(Path("playbooks/roles/depot/vars/main.yml").read_text())["__depot_modules"]
    library = tmp_path / "library"
    for module in modules:
        (library / module).parent.mkdir(parents=True, exist_ok=True)
        (library / module).write_bytes(Path(module).read_bytes())
    code = f"import sys; sys.path.insert(0, {str(library)!r}); import controlplane.bundle.depot_program as p; p.main()"

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "--help"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_what_is_served_is_checked_before_the_server_starts(bundle, serving, monkeypatch, capsys):
    from controlplane.bundle import depot_program  # noqa: PLC0415 - patched for a machine that is no node

    monkeypatch.setattr(depot_program, "_platform", lambda: None)
    monkeypatch.setattr(sys, "argv", ["redoubt-depot", "check", "--depot", str(serving)])
    good = depot_program.main()
    answer = json.loads(capsys.readouterr().out)
    (serving / "current/apt/pool/tool_1.deb").write_bytes(b"dEb " * 5000)
    bad = depot_program.main()

    assert (good, bad) == (0, 3)
    assert answer["digest"] == bundle.digest
    assert "apt/pool/tool_1.deb is altered" in capsys.readouterr().err


def test_a_bundle_asked_for_by_digest_is_the_only_one_taken(bundle, depot):
    question = replace(asked(bundle, depot), digest=bundle.digest)

    assert take_in(question, is_good_signature).digest == bundle.digest
