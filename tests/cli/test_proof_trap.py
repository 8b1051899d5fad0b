"""A recorder outside the boundary: what it heard counts only if it was awake."""

import json
import sys
import threading
from pathlib import Path

import pytest

from controlplane.cli.proof_trap import CANARY_PORT, Around, open_trap

AROUND = Around("run_1", "127.0.0.1", "127.0.0.1", ())
CANARY = {"at": "1", "source": "127.0.0.1", "destination": "127.0.0.1", "protocol": "udp", "port": CANARY_PORT}
LEAK = {"at": "2", "source": "10.77.0.11", "destination": "192.0.2.1", "protocol": "tcp", "port": 443}


def lines(*packets: dict[str, object]) -> str:
    return "".join(json.dumps(packet) + "\n" for packet in packets)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def speaker(folder: Path, body: str) -> str:
    path = folder / "speaker.py"
    path.write_text(f"import json, sys\nverb, run = sys.argv[1:]\n{body}\n")
    return f"{sys.executable} {path}"


def test_a_file_whose_recorder_wrote_the_canary_down_was_awake(tmp_path: Path):
    path = tmp_path / "packets"
    path.write_text(lines(LEAK))
    trap = open_trap(str(path), AROUND)
    assert trap is not None
    trap.begin()
    append(path, lines(LEAK, {**LEAK, "port": 80}))
    later = threading.Timer(0.3, append, (path, lines(CANARY)))
    later.start()

    heard = trap.end()

    later.join()
    assert heard.heard_canary
    assert [packet.port for packet in heard.packets] == [443, 80]  # what was there before is not of this run


def test_a_file_that_nobody_writes_to_was_not_awake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controlplane.cli.proof_trap.CANARY_S", 0.3)
    path = tmp_path / "packets"
    path.write_text(lines(CANARY))
    trap = open_trap(str(path), AROUND)
    assert trap is not None
    trap.begin()

    assert not trap.end().heard_canary


def test_a_file_of_something_else_is_told(tmp_path: Path):
    path = tmp_path / "packets"
    path.touch()
    trap = open_trap(str(path), AROUND)
    assert trap is not None
    trap.begin()
    path.write_text("tcpdump: listening on eth0\n")

    heard = trap.end()

    assert not heard.heard_canary
    assert "cannot read it" in heard.error


def test_a_command_that_speaks_for_its_recorder_is_asked_before_and_after(tmp_path: Path):
    log = tmp_path / "log"
    said = {"recorder": "watch", "packets": [LEAK, CANARY]}
    body = f"open({str(log)!r}, 'a').write(f'{{verb}} {{run}}\\n')\nif verb == 'end': print(json.dumps({said!r}))"
    trap = open_trap(speaker(tmp_path, body), AROUND)
    assert trap is not None
    trap.begin()

    heard = trap.end()

    assert log.read_text() == "begin run_1\nend run_1\n"
    assert (heard.recorder, heard.heard_canary) == ("watch", True)
    assert [packet.source for packet in heard.packets] == ["10.77.0.11"]  # the canary itself is no leak


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('asleep')", "asleep"),
        ("sys.exit('asleep' if verb == 'end' else 0)", "asleep"),
        ("print('hello')", "something else"),
        ("print('{}')", "something else"),
    ],
)
def test_a_command_whose_recorder_sleeps_or_that_talks_nonsense_was_not_awake(tmp_path: Path, body: str, says: str):
    trap = open_trap(speaker(tmp_path, body), AROUND)
    assert trap is not None
    trap.begin()

    heard = trap.end()

    assert not heard.heard_canary
    assert says in heard.error


def test_a_command_that_does_not_exist_was_not_awake():
    trap = open_trap("no-such-recorder --here", AROUND)
    assert trap is not None

    assert "no-such-recorder" in trap.begin()
    assert not trap.end().heard_canary


def test_without_a_trap_nobody_is_asked():
    assert open_trap(None, AROUND) is None
