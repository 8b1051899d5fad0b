"""The bench of our own code must go on measuring what is served, with everything on."""

import gc

from tests.bench.hot_path import Bench


async def test_a_request_of_the_bench_is_answered_within_its_budgets_and_a_stream_ends(tmp_path):
    bench = Bench(tmp_path)
    await bench.grant()

    bench.plain(600)()
    plain = bench.last_answer
    bench.stream()()

    assert plain.startswith(b"HTTP/1.1 200")
    assert b"x-redoubt-budget-left: completion_tokens=" in plain
    assert bench.last_answer.endswith(b"0\r\n\r\n")


async def test_what_is_over_goes_at_once_and_leaves_nothing_to_a_collector(tmp_path):
    bench = Bench(tmp_path)
    await bench.grant()
    for run in (bench.plain(600), bench.stream()):
        run()
        gc.collect()
        gc.disable()
        try:
            run()
            assert gc.collect() == 0
        finally:
            gc.enable()
