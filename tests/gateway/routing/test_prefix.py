from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.routing.prefix import BLOCK_BYTES, MARKED_BYTES, marks_in, read_prefix


@given(st.binary(max_size=5 * BLOCK_BYTES), st.binary(max_size=3 * BLOCK_BYTES), st.binary(max_size=3 * BLOCK_BYTES))
def test_two_prompts_share_at_least_the_marks_of_the_whole_blocks_that_they_share(common, one, other):
    marks = read_prefix([common + one], b"s").marks, read_prefix([common + other], b"s").marks

    shared = marks_in(len(common))
    assert marks[0][:shared] == marks[1][:shared]
    assert len(marks[0]) == marks_in(len(common) + len(one))
    assert MARKED_BYTES[len(marks[0])] <= len(common) + len(one)


def test_a_difference_early_on_changes_every_later_mark():
    text = bytearray(4 * BLOCK_BYTES)
    before = read_prefix([bytes(text)], b"s").marks
    text[BLOCK_BYTES] = 1

    after = read_prefix([bytes(text)], b"s").marks

    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, False, False]


def test_another_tenant_shares_no_mark_and_not_the_home():
    one, other = (read_prefix([b"x" * 4 * BLOCK_BYTES], seed) for seed in (b"one", b"other"))

    assert not set(one.marks) & set(other.marks)
    assert one.home != other.home


def test_how_a_prompt_is_cut_into_messages_does_not_matter():
    assert read_prefix([b"ab" * BLOCK_BYTES, b"cd"], b"s") == read_prefix([b"ab" * BLOCK_BYTES + b"cd"], b"s")


def test_a_short_system_prompt_has_a_mark_of_its_own():
    one, other = (read_prefix([b"x" * 1100 + said], b"s") for said in (b"one" * 500, b"two" * 500))

    assert one.marks[0] == other.marks[0]
    assert one.home == other.home
    assert MARKED_BYTES[:4] == (0, 1024, 2048, 4096)


def test_a_prompt_of_megabytes_has_a_bounded_number_of_marks():
    prefix = read_prefix([b"x" * 8 * 1024 * BLOCK_BYTES], b"s")

    assert len(prefix.marks) == 129
    assert prefix.size == 8 * 1024 * BLOCK_BYTES
