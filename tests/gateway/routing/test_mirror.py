from controlplane.gateway.routing.mirror import Mirror
from controlplane.gateway.routing.prefix import BLOCK_BYTES


def test_what_was_read_is_held_from_the_start_on():
    mirror = Mirror()
    mirror.read((1, 2, 3), 3 * BLOCK_BYTES)

    assert mirror.held((1, 2, 3, 4, 5)) == 3
    assert mirror.held((1, 2)) == 2
    assert mirror.held((1, 9)) == 1
    assert mirror.held((9,)) == 0
    assert mirror.held(()) == 0


def test_what_lies_farther_back_than_the_engine_reaches_is_not_held():
    mirror = Mirror()
    mirror.reach = 100 * BLOCK_BYTES
    mirror.read((1, 2), 2 * BLOCK_BYTES)

    mirror.read((3,), 99 * BLOCK_BYTES)
    assert mirror.held((1, 2)) == 2
    mirror.read((4,), BLOCK_BYTES)
    assert mirror.held((1, 2)) == 0


def test_an_engine_that_had_forgotten_shortens_the_reach_and_one_that_had_not_lengthens_it():
    mirror = Mirror()
    mirror.read((1, 2, 3, 4), 4 * BLOCK_BYTES)
    mirror.read((5,), 50 * BLOCK_BYTES)
    age = mirror.age((1, 2, 3, 4), 4)

    mirror.learn(believed=4, age=age, found=0)
    assert mirror.held((1, 2, 3, 4)) == 0
    mirror.learn(believed=0, age=age, found=4)
    assert mirror.reach > age


def test_a_mirror_stays_bounded_and_keeps_what_is_new():
    mirror = Mirror()

    for number in range(100):
        mirror.read(tuple(range(1000 * number, 1000 * number + 1000)), 1000 * BLOCK_BYTES)

    assert len(mirror) <= 17_000
    assert mirror.held(tuple(range(99_000, 100_000))) == 1000
    assert mirror.held(tuple(range(1000))) == 0
