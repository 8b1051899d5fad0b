"""A tar travels in parts: repeated, dropped, swapped, doubled and damaged ones are told apart by what they hold."""

import json
import os
import shutil

import pytest

from controlplane.bundle.media import bytes_of, join_parts, require_parts, split_tar
from controlplane.bundle.sheet import grouped
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput, Refused
from tests.support.bundles import SmallBundle

SIZE = 40_000


@pytest.fixture
def parts(bundle, tmp_path):
    split_tar(bundle.archive, SIZE, tmp_path / "media", lambda _: None)
    return tmp_path / "media"


def part(folder, number):
    return folder / f"bundle.{number:03d}.part"


@pytest.mark.parametrize(
    ("text", "size"),
    [("4.7GB", 4_700_000_000), ("25gb", 25 * 10**9), ("1 GiB", 2**30), ("700000", 700_000), ("0.5MB", 500_000)],
)
def test_sizes_are_read_as_media_are_sold(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "0", "-1", "4.7 parsec"], ids=["none", "unit", "zero", "minus", "parsec"])
def test_what_is_no_size_is_a_usage_error(text):
    with pytest.raises(BadInput, match="is no size"):
        bytes_of(text)


def test_parts_join_to_the_same_bytes(bundle, parts, tmp_path):
    sheet = join_parts([parts], tmp_path / "joined.tar")

    assert (tmp_path / "joined.tar").read_bytes() == bundle.archive.read_bytes()
    assert sheet.bundle == bundle.digest
    assert [entry.size_bytes for entry in sheet.parts][:2] == [SIZE, SIZE]


def test_parts_may_lie_on_several_media(bundle, parts, tmp_path):
    other = tmp_path / "second medium"
    other.mkdir()
    part(parts, 2).rename(part(other, 2))

    join_parts([parts, other], tmp_path / "joined.tar")

    assert (tmp_path / "joined.tar").read_bytes() == bundle.archive.read_bytes()


def test_splitting_again_writes_only_the_part_that_is_not_right(bundle, parts):
    times = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.part")}
    flip(part(parts, 2))

    again = split_tar(bundle.archive, SIZE, parts, lambda _: None)

    changed = {path.name for path in parts.glob("*.part") if path.stat().st_mtime_ns != times[path.name]}
    assert again.written == 1
    assert changed == {"bundle.002.part"}
    assert len(require_parts([parts])) == len(times)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: part(folder, 2).unlink(), ["part 2 (bundle.002.part) is missing"]),
        (lambda folder: flip(part(folder, 1)), ["part 1 (bundle.001.part) is damaged"]),
        (lambda folder: os.truncate(part(folder, 1), 100), ["part 1 (bundle.001.part) is damaged"]),
        (
            lambda folder: swap(part(folder, 1), part(folder, 2)),
            ["part 1 (bundle.001.part) holds what part 2 should", "part 2 (bundle.002.part) holds what part 1 should"],
        ),
        (
            lambda folder: shutil.copy(part(folder, 1), part(folder, 2)),
            ["part 1 is there twice: part 2 (bundle.002.part) holds it too"],
        ),
    ],
    ids=["missing", "damaged", "cut short", "swapped", "doubled"],
)
def test_what_is_wrong_is_said_by_part_and_nothing_is_joined(parts, tmp_path, harm, words):
    harm(parts)

    with pytest.raises(Refused) as refusal:
        join_parts([parts], tmp_path / "joined.tar")

    assert list(refusal.value.reasons) == words
    assert [path.name for path in tmp_path.iterdir() if "joined" in path.name] == []


def test_the_sheet_names_every_part_and_its_own_digest(bundle, parts):
    raw = (parts / "sheet.json").read_bytes()
    text, page = (parts / "sheet.txt").read_text(), (parts / "sheet.html").read_text()

    for entry in json.loads(raw)["parts"]:
        assert grouped(entry["sha256"])[:35] in text
        assert grouped(entry["sha256"]) in page
    for form in (text, page):
        assert grouped(bundle.digest) in form
        assert grouped(sha256_hex(raw)) in form
    assert "size: A4" in page
    assert all(len(line) <= 90 for line in text.splitlines())


def test_a_sheet_that_was_altered_is_refused(parts, tmp_path):
    sheet = parts / "sheet.json"
    sheet.write_bytes(sheet.read_bytes().replace(b'"serial":1', b'"serial": 1'))

    with pytest.raises(Refused, match=r"sheet\.json is altered"):
        join_parts([parts], tmp_path / "joined.tar")


def test_a_folder_without_a_sheet_is_a_usage_error(tmp_path):
    with pytest.raises(BadInput, match=r"has no sheet\.json"):
        join_parts([tmp_path], tmp_path / "joined.tar")


def test_more_parts_than_a_person_can_carry_are_refused(bundle, tmp_path):
    with pytest.raises(BadInput, match="more than 999 parts"):
        split_tar(bundle.archive, 10, tmp_path / "media", lambda _: None)


def test_memory_stays_small_whatever_the_tar_weighs(tmp_path):
    import tracemalloc  # noqa: PLC0415 - only here

    bundle = SmallBundle(tmp_path / "big", wheel=os.urandom(24 << 20))
    tracemalloc.start()
    split_tar(bundle.archive, 10 << 20, tmp_path / "media", lambda _: None)
    join_parts([tmp_path / "media"], tmp_path / "joined.tar")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 8 << 20


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
