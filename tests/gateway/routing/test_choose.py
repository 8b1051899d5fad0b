from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.routing.choose import MISS_WEIGHT, Wish, bid_of, choose_replica, find_home, part_of
from controlplane.gateway.routing.prefix import BLOCK_BYTES, Prefix, read_prefix
from controlplane.gateway.routing.standing import Standing

PROMPT = read_prefix([b"x" * 12 * 1024], b"tenant")
SHORT = Wish(Prefix((), 100, 7))


@dataclass(eq=False)
class Candidate:
    home_seed: int
    standing: Standing = field(default_factory=Standing)


def candidates(*running: int) -> list[Candidate]:
    found = [Candidate(seed) for seed in range(len(running))]
    for candidate, number in zip(found, running, strict=True):
        candidate.standing.running = number
    return found


def chosen(replicas: list[Candidate], wish: Wish = SHORT, now: float = 1.0) -> Candidate | None:
    best = choose_replica(replicas, wish, now)
    return best[0] if best else None


def test_a_short_prompt_goes_to_the_replica_with_the_fewest_running_requests():
    replicas = candidates(3, 1, 2)

    assert chosen(replicas) is replicas[1]


def test_a_prompt_goes_where_it_was_read_before():
    replicas = candidates(3, 0, 0, 0)
    replicas[0].standing.mirror.read(PROMPT.marks, PROMPT.size)

    assert chosen(replicas, Wish(PROMPT)) is replicas[0]


def test_a_prompt_leaves_a_replica_that_is_busier_than_reading_it_anew_is_worth():
    replicas = candidates(0, 0)
    replicas[0].standing.mirror.read(PROMPT.marks, PROMPT.size)
    worth = MISS_WEIGHT * PROMPT.size

    replicas[0].standing.prefilling = worth - 4 * BLOCK_BYTES
    assert chosen(replicas, Wish(PROMPT)) is replicas[0]
    replicas[0].standing.prefilling = worth + 4 * BLOCK_BYTES
    assert chosen(replicas, Wish(PROMPT)) is replicas[1]


def test_a_hot_prompt_pins_no_more_than_its_part_of_the_running_requests():
    replicas = candidates(0, 0, 0, 0)
    replicas[0].standing.mirror.read(PROMPT.marks, PROMPT.size)

    for _ in range(200):
        best = choose_replica(replicas, Wish(PROMPT), 1.0)
        assert best is not None
        best[0].standing.mirror.read(PROMPT.marks, 0)
        best[0].standing.running += 1

    assert max(replica.standing.running for replica in replicas) <= 1.25 * 50 + 9


def test_a_full_replica_gives_way_to_one_with_room():
    replicas = candidates(2, 1)
    replicas[0].standing.mirror.read(PROMPT.marks, PROMPT.size)

    assert chosen(replicas, Wish(PROMPT, parallel=3)) is replicas[0]
    assert chosen(replicas, Wish(PROMPT, parallel=2)) is replicas[1]


def test_a_prompt_that_nobody_knows_goes_to_its_home_and_a_lost_replica_moves_its_own_alone():
    replicas = candidates(0, 0, 0, 0)
    homes = {key: find_home(replicas, key) for key in range(400)}

    for key, home in homes.items():
        if home is not replicas[2]:
            assert find_home(replicas[:2] + replicas[3:], key) is home
    shares = [sum(home is replica for home in homes.values()) for replica in replicas]
    assert min(shares) > 60
    assert chosen(replicas, Wish(PROMPT)) is find_home(replicas, PROMPT.home)


def test_a_session_stays_where_it_was_among_equals():
    replicas = candidates(1, 1, 1)
    replicas[2].standing.mirror.read((99,), 0)

    assert chosen(replicas, Wish(Prefix((), 100, 7), session=99)) is replicas[2]


def test_a_resting_replica_is_the_last_resort():
    replicas = candidates(0, 9)
    replicas[0].standing.rests_until = 5.0

    assert chosen(replicas) is replicas[1]
    assert chosen(replicas[:1]) is replicas[0]
    assert chosen(replicas, now=6.0) is replicas[0]
    assert chosen([]) is None


def test_a_young_replica_takes_its_share_slowly():
    replicas = candidates(0, 0)
    replicas[1].standing.warm_from = 31.0

    for now, most in ((1.0, 0.2), (16.0, 0.45), (31.0, 0.55)):
        replicas[0].standing.running = replicas[1].standing.running = 0
        for number in range(200):
            best = choose_replica(replicas, Wish(Prefix((), 4096, number)), now)
            assert best is not None
            best[0].standing.running += 1
        assert replicas[1].standing.running / 200 <= most


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 1000))
def test_without_prompts_to_hold_no_other_replica_has_fewer_requests_than_the_chosen_one(loads, key):
    replicas = candidates(*loads)

    best = chosen(replicas, Wish(Prefix((), 100, key)))

    assert best is not None
    assert best.standing.running == min(loads)


def test_a_bid_weighs_what_the_choice_weighs():
    replicas = candidates(2, 0)
    replicas[0].standing.mirror.read(PROMPT.marks[:4], 0)
    wish = Wish(PROMPT, parallel=2)
    part, home = part_of(replicas, 2), find_home(replicas, PROMPT.home)

    busy, other = (bid_of(replica, wish, part, 1.0, is_home=replica is home) for replica in replicas)

    assert (busy.held, other.held) == (4, 0)
    assert chosen(replicas, wish) is replicas[busy.cost > other.cost]
