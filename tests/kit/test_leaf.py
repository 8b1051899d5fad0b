"""A key pair that is replaced while it is shown: no connection closes, and no context ever shows half a pair."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from controlplane.kit.errors import BadInput
from controlplane.kit.issuing import serial_of
from controlplane.kit.leaf import Leaf, lay_pair, pair_files
from controlplane.kit.tls import CertificateFiles, client_context, server_context
from tests.support.certificates import issue
from tests.support.machines import site_ca


def fresh(name: str) -> tuple[str, str, str]:
    """Return serial, key and certificate of a new pair."""
    files = issue(site_ca(), name)
    pem = files.certificate.read_text()
    return serial_of(x509.load_pem_x509_certificate(pem.encode())), files.key.read_text(), pem


def lay(folder: Path, name: str) -> tuple[CertificateFiles, str]:
    folder.mkdir(exist_ok=True)
    serial, key, pem = fresh(name)
    lay_pair(folder, serial, key, pem)
    return pair_files(folder, site_ca().path), serial


@asynccontextmanager
async def echoing(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=client_context(site_ca().path))


async def answers(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    streams[1].write(b"still there?\n")
    return await asyncio.wait_for(streams[0].readline(), 5) == b"still there?\n"


def shown(writer: asyncio.StreamWriter) -> str:
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return serial_of(x509.load_der_x509_certificate(der))


async def test_new_connections_see_the_successor_and_open_ones_go_on(tmp_path: Path) -> None:
    files, old = lay(tmp_path / "pair", "first")
    leaf = Leaf(files)
    async with echoing(leaf.follow(server_context(files, client_certificate=False))) as port:
        before = await connect(port)
        _, new = lay(tmp_path / "pair", "second")
        await leaf.take_up()
        after = await connect(port)

        assert (shown(before[1]), shown(after[1])) == (old, new)
        assert await answers(before)
        assert await answers(after)
        for _, writer in (before, after):
            writer.close()


async def test_half_a_pair_is_not_taken_up_and_the_whole_one_is_later(tmp_path: Path) -> None:
    files, old = lay(tmp_path / "pair", "first")
    leaf = Leaf(files)
    async with echoing(leaf.follow(server_context(files, client_certificate=False))) as port:
        _, key, _ = fresh("second")
        files.key.chmod(0o600)
        files.key.write_text(key)
        with pytest.raises(BadInput, match="no pair"):
            await leaf.take_up()
        torn = await connect(port)
        assert shown(torn[1]) == old

        _, new = lay(tmp_path / "pair", "third")
        await leaf.take_up()
        whole = await connect(port)
        assert shown(whole[1]) == new
        for _, writer in (torn, whole):
            writer.close()


def test_a_reader_finds_a_whole_pair_at_every_moment_of_a_change(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    pairs = [fresh(f"leaf{number}") for number in range(4)]
    folder.mkdir()
    lay_pair(folder, *pairs[0])
    of_key = {key: pem for _, key, pem in pairs}
    done, torn = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            generation = (folder / "current").resolve()
            try:
                found = (generation / "leaf.key").read_text(), (generation / "leaf.crt").read_text()
            except FileNotFoundError:
                continue  # two changes later: whoever reads so slowly reads again
            if of_key[found[0]] != found[1]:
                torn.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        lay_pair(folder, *pairs[number % 4])
    done.set()
    reader.join()

    assert torn == []
    assert len([one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()]) == 2


@pytest.mark.parametrize("left", ["current.new", "half"])
def test_what_a_killed_change_left_does_not_stop_the_next(tmp_path: Path, left: str) -> None:
    files, _ = lay(tmp_path / "pair", "first")
    serial, key, pem = fresh("second")
    if left == "half":
        (tmp_path / "pair" / serial).mkdir()
        (tmp_path / "pair" / serial / "leaf.key").write_text("half")
    else:
        (tmp_path / "pair" / left).symlink_to("nowhere")

    lay_pair(tmp_path / "pair", serial, key, pem)

    assert (files.key.read_text(), files.certificate.read_text()) == (key, pem)
    assert files.key.stat().st_mode & 0o777 == 0o400
