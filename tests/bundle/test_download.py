"""A file is the pinned one or it is not there: whatever the line and the mirror do."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from controlplane.bundle import download as under_test
from controlplane.bundle.download import Altered, Download, Gone
from controlplane.bundle.store import BlobStore
from controlplane.kit.errors import Unavailable
from tests.support.packages import FileServer

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(under_test, "PAUSE_S", 0.001)
    with FileServer({"/file": CONTENT}) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path)


def wanted(server, path="/file"):
    return Download("file", server.url + path, SHA256, len(CONTENT))


def cut_off(after, times):
    """Answer so often with a part of what was promised."""
    left = [times]

    def spoil(handler, content, start):
        if left[0] == 0:
            return False
        left[0] -= 1
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        handler.wfile.write(content[start : start + after])
        handler.close_connection = True
        return True

    return spoil


def test_a_file_comes_whole_and_is_not_fetched_twice(server, store):
    path = store.fetch(wanted(server))
    store.fetch(wanted(server))

    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_dropped_connection_is_resumed_where_it_ended(server, store):
    server.spoil = cut_off(after=100_000, times=3)

    assert store.fetch(wanted(server)).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_a_server_without_ranges_starts_over(server, store):
    server.ranges = False
    server.spoil = cut_off(after=100_000, times=2)

    assert store.fetch(wanted(server)).read_bytes() == CONTENT


def test_progress_counts_every_byte_once(server, store):
    server.spoil = cut_off(after=100_000, times=2)
    server.ranges = False
    seen: list[int] = []

    store.fetch(wanted(server), seen.append)

    assert sum(seen) == len(CONTENT)


def test_what_an_earlier_run_left_is_gone_on_with(server, store, tmp_path):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / SHA256).write_bytes(CONTENT[:5000])

    assert store.fetch(wanted(server)).read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=5000-")]


@pytest.mark.parametrize("left", [b"rotten" * 100, CONTENT + b"more"], ids=["other bytes", "too long"])
def test_a_wrong_start_from_an_earlier_run_is_thrown_away(server, store, tmp_path, left):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / SHA256).write_bytes(left)

    assert store.fetch(wanted(server)).read_bytes() == CONTENT


def test_a_line_that_never_holds_is_given_up_with_the_reason(server, store):
    server.spoil = cut_off(after=0, times=1000)

    with pytest.raises(Unavailable, match="the connection ended after 0 of") as failure:
        store.fetch(wanted(server))

    assert "goes on where it stopped" in failure.value.remedy


def test_a_busy_mirror_is_asked_again(server, store):
    answers = iter([503, 429])

    def spoil(handler, *_):
        status = next(answers, None)
        if status:
            handler.send_error(status)
        return bool(status)

    server.spoil = spoil

    assert store.fetch(wanted(server)).read_bytes() == CONTENT


def test_other_bytes_of_the_same_length_are_refused(server, store):
    server.files["/file"] = CONTENT[:-1] + b"x"

    with pytest.raises(Altered) as refusal:
        store.fetch(wanted(server))

    assert refusal.value.code == "artefact_altered"
    assert not store.has(SHA256, len(CONTENT))


def test_more_bytes_than_pinned_are_refused_before_they_fill_the_disk(server, store, tmp_path):
    server.files["/file"] = CONTENT * 20

    with pytest.raises(Altered, match="more than"):
        store.fetch(wanted(server))

    assert list((tmp_path / "partial").iterdir()) == []


def test_fewer_bytes_than_pinned_are_refused(server, store):
    server.files["/file"] = CONTENT[:1000]

    with pytest.raises(Unavailable, match="1000 of 512000 bytes"):
        store.fetch(wanted(server))


def test_a_file_that_the_mirror_dropped_is_gone_and_says_to_lock_anew(server, store):
    with pytest.raises(Gone) as failure:
        store.fetch(wanted(server, "/old_1.deb"))

    assert failure.value.code == "artefact_gone"
    assert "old_1.deb" in failure.value.detail
    assert "redoubt bundle lock" in failure.value.remedy


def test_a_mirror_that_is_not_there_is_named_as_unreachable(store, monkeypatch):
    monkeypatch.setattr(under_test, "PAUSE_S", 0.001)

    with pytest.raises(Unavailable) as failure:
        store.fetch(Download("file", "http://127.0.0.1:9/file", SHA256, len(CONTENT)))

    assert failure.value.code == "mirror_unreachable"


def test_a_process_that_is_killed_at_any_time_leaves_a_store_to_go_on_with(server, store, tmp_path):
    def slowly(handler, content, start):
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        try:
            for at in range(start, len(content), 50_000):
                handler.wfile.write(content[at : at + 50_000])
                time.sleep(0.05)
        except OSError:
            handler.close_connection = True
        return True

    server.spoil = slowly
    order = f"Download('file', {server.url + '/file'!r}, {SHA256!r}, {len(CONTENT)})"
    script = (
        "from pathlib import Path\nfrom controlplane.bundle.download import Download\n"
        f"from controlplane.bundle.store import BlobStore\nBlobStore(Path({str(tmp_path)!r})).fetch({order})\n"
    )
    partial = tmp_path / "partial" / SHA256
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (partial.exists() and partial.stat().st_size):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    assert not store.has(SHA256, len(CONTENT))
    assert store.fetch(wanted(server)).read_bytes() == CONTENT
    assert server.asked[-1][1] is not None
