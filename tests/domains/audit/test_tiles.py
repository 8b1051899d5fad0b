"""The log as files: any tile of any level, and after a crash the same."""

from pathlib import Path

from controlplane.domains.audit.loops import TileFolder
from controlplane.kit.merkle import leaf_hash, perfect
from controlplane.kit.note import parse_checkpoint, parse_note
from tests.domains.audit.conftest import Log


async def test_the_files_are_the_tree_at_every_checkpoint(log: Log, tmp_path: Path):
    log.sealer.tiles = TileFolder(tmp_path)
    for count in (3, 250, 10):
        await log.record(count)
        await log.seal()
    bodies = [body.encode() for _, _, body in await log.entries() if body is not None]
    hashes = [leaf_hash(body) for body in bodies]

    assert (tmp_path / "tile/0/000").read_bytes() == b"".join(hashes[:256])
    assert (tmp_path / "tile/0/001.p/7").read_bytes() == b"".join(hashes[256:])
    assert (tmp_path / "tile/1/000.p/1").read_bytes() == perfect(hashes[:256])
    bundle = b"".join(len(body).to_bytes(2, "big") + body for body in bodies[:256])
    assert (tmp_path / "tile/entries/000").read_bytes() == bundle
    assert parse_checkpoint(parse_note((tmp_path / "checkpoint").read_text()).body).size == 263
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["253", "263", "3"]


async def test_files_that_a_crash_took_are_written_again(log: Log, tmp_path: Path):
    log.sealer.tiles = TileFolder(tmp_path)
    await log.record(3)
    await log.seal()
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "tile/0/000.p/3").unlink()
    await log.sealer.tiles.write(log.plane.database)
    assert (tmp_path / "tile/0/000.p/3").stat().st_size == 96


async def test_the_files_stay_few_over_many_checkpoints(log: Log, tmp_path: Path):
    log.sealer.tiles = TileFolder(tmp_path)
    counts: list[int] = []
    for _ in range(4):
        for count in (100, 100, 56):
            await log.record(count)
            await log.seal()
        counts.append(sum(path.is_file() and path.parent.parent.name == "0" for path in tmp_path.rglob("tile/*/*.p/*")))
    names = sorted(path.name for level in ("0", "entries") for path in (tmp_path / "tile" / level).iterdir())

    assert counts == [0, 0, 0, 0]
    assert names == sorted(["000", "001", "002", "003"] * 2)
