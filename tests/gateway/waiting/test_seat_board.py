import subprocess
import sys
from pathlib import Path

from controlplane.gateway.waiting.seat_board import SeatBoard

WORKER = """
import sys
from pathlib import Path
from controlplane.gateway.waiting.seat_board import SeatBoard
board = SeatBoard(Path(sys.argv[1]))
board.tell("endpoint_a", 5)
print("sits", flush=True)
sys.stdin.read()
"""


def test_a_worker_sees_what_the_others_have_seated_and_a_dead_one_has_nothing(tmp_path: Path):
    board = SeatBoard(tmp_path / "seats")
    command = [sys.executable, "-c", WORKER, str(tmp_path / "seats")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        board.tell("endpoint_a", 3)

        board.wipe_the_dead()
        assert board.seats("endpoint_a") == 5
        assert board.seats("endpoint_b") == 0
        worker.kill()
    assert board.seats("endpoint_a") == 5
    board.wipe_the_dead()
    assert board.seats("endpoint_a") == 0
    board.close()
