from controlplane.gateway.node_page import make_memory
from controlplane.gateway.waiting.seat_board import SeatBoard
from tests.support.pages import PageInProcess


def test_a_worker_counts_the_seats_of_the_others_until_they_forget_the_endpoint():
    memory, taken = make_memory(), set[int]()
    pages = [PageInProcess(memory, taken) for _ in range(3)]
    for page in pages:
        page.look()
    first, *others = (SeatBoard(page) for page in pages)
    first.tell("endpoint_a", 3)
    for seated, other in enumerate(others, start=4):
        other.tell("endpoint_a", seated)

    assert first.seats("endpoint_a") == 9
    assert first.seats("endpoint_b") == 0
    others[0].forget("endpoint_a")
    assert first.seats("endpoint_a") == 5
    assert others[1].seats("endpoint_a") == 3
