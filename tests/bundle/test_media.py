"""A tar travels in parts: repeated, dropped, swapped, doubled and damaged ones are told apart by what they hold."""

import json
import os
import shutil

import pytest

from controlplane.bundle.intake import take_in
from controlplane.bundle.media import bytes_of, join_parts, require_parts, split_tar
from controlplane.bundle.roots import is_good_signature
from controlplane.bundle.sheet import grouped
from controlplane.bundle.verify import verify_bundle
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import BadInput, Refused
from tests.bundle.test_intake import asked, journal
from tests.support.bundles import SmallBundle

SIZE = 40_000


@pytest.fixture
def parts(bundle, tmp_path):
    split_tar(bundle.archive, SIZE, tmp_path / "media")
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

    again = split_tar(bundle.archive, SIZE, parts)

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


@pytest.mark.parametrize("field", ["format", "bundle", "serial", "tar", "size_bytes", "sha256", "parts"])
def test_a_sheet_with_one_field_changed_is_refused(parts, tmp_path, field):
    sheet = json.loads((parts / "sheet.json").read_bytes())
    sheet[field] = sheet[field][:-1] if field == "parts" else changed(sheet[field])
    (parts / "sheet.json").write_bytes(canonical_json(sheet))

    for check in (lambda: join_parts([parts], tmp_path / "joined.tar"), lambda: require_parts([parts])):
        with pytest.raises(Refused, match=r"sheet\.json is altered"):
            check()
    assert not (tmp_path / "joined.tar").exists()


@pytest.mark.parametrize("field", ["number", "file", "size_bytes", "sha256"])
def test_a_sheet_with_one_field_of_a_part_changed_is_refused(parts, tmp_path, field):
    sheet = json.loads((parts / "sheet.json").read_bytes())
    sheet["parts"][1][field] = changed(sheet["parts"][1][field])
    (parts / "sheet.json").write_bytes(canonical_json(sheet))

    with pytest.raises(Refused, match=r"part 2 .* is damaged" if field == "sha256" else r"sheet\.json is altered"):
        join_parts([parts], tmp_path / "joined.tar")


def test_sizes_that_are_moved_between_parts_are_refused(parts, tmp_path):
    sheet = json.loads((parts / "sheet.json").read_bytes())
    sheet["parts"][0]["size_bytes"] += 1
    sheet["parts"][1]["size_bytes"] -= 1
    (parts / "sheet.json").write_bytes(canonical_json(sheet))

    with pytest.raises(Refused, match="its parts have other sizes"):
        join_parts([parts], tmp_path / "joined.tar")


def test_a_sheet_that_was_made_to_fit_altered_parts_is_stopped_by_the_signed_bundle(bundle, parts, tmp_path):
    tar = bytearray(bundle.archive.read_bytes())
    tar[tar.index(b"deb deb ")] ^= 1
    (tmp_path / "forged").mkdir()
    (tmp_path / "forged/bundle.tar").write_bytes(tar)
    split_tar(tmp_path / "forged/bundle.tar", SIZE, parts)
    depot = tmp_path / "depot"

    join_parts([parts], tmp_path / "joined.tar")

    with pytest.raises(Refused, match=r"apt/pool/tool_1\.deb is altered"):
        verify_bundle(tmp_path / "joined.tar", bundle.trust())
    with pytest.raises(Refused, match=r"apt/pool/tool_1\.deb is altered"):
        take_in(asked(bundle, depot, source=parts, parts=lambda: require_parts([parts])), is_good_signature)
    assert not (depot / "current").exists()


def test_a_wrong_part_that_stops_an_import_is_in_the_log_of_the_depot(bundle, parts, tmp_path):
    depot = tmp_path / "depot"
    flip(part(parts, 2))

    with pytest.raises(Refused) as refusal:
        take_in(asked(bundle, depot, source=parts, parts=lambda: require_parts([parts])), is_good_signature)

    assert "part 2 (bundle.002.part) is damaged" in refusal.value.detail
    assert [entry["result"] for entry in journal(depot)] == [f"refused: {refusal.value.detail}"]


def test_a_folder_without_a_sheet_is_a_usage_error(tmp_path):
    with pytest.raises(BadInput, match=r"has no sheet\.json"):
        join_parts([tmp_path], tmp_path / "joined.tar")


def test_more_parts_than_a_person_can_carry_are_refused(bundle, tmp_path):
    with pytest.raises(BadInput, match="more than 999 parts"):
        split_tar(bundle.archive, 10, tmp_path / "media")


def test_memory_stays_small_whatever_the_tar_weighs(tmp_path):
    import tracemalloc  # noqa: PLC0415 - only here

    bundle = SmallBundle(tmp_path / "big", wheel=os.urandom(24 << 20))
    tracemalloc.start()
    split_tar(bundle.archive, 10 << 20, tmp_path / "media")
    join_parts([tmp_path / "media"], tmp_path / "joined.tar")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 8 << 20


def changed(value):
    """Return another value of the same kind."""
    if isinstance(value, int):
        return value + 1
    return f"{'1' if value[0] == '0' else '0'}{value[1:]}"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
