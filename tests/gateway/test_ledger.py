"""The ledger of one worker: every account or none, bounds that hold, and what it does when more cannot be had."""

from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.contracts.budgets import Allotment, AskAllotments
from controlplane.gateway.errors import BudgetExhausted, BudgetUnknown
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.request import Work
from controlplane.gateway.surface.chat import ChatAsk
from tests.support.budgeted import Worker, budget, directory_of, make_worker, request_of, request_with, used

COMPLETION = "budget_project_completion_tokens"
PROMPT = "budget_project_prompt_tokens"
CALLS = "budget_project_calls"


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return make_worker(tmp_path / "retries")


def answer(worker: Worker, most: dict[str, int], *, at_best: int | None = None, elsewhere: int = 0) -> AskAllotments:
    """Let the control plane grant up to `most` of each account, and nothing of others."""
    ask = worker.ledger.ask()
    assert ask is not None
    told = []
    for one in ask.accounts:
        limit = most.get(one.account, 0)
        granted = max(one.granted, min(one.wanted, limit))
        best = limit - one.spent if at_best is None else at_best
        told.append(
            Allotment(
                account=one.account, granted=granted, left=limit - granted, elsewhere=elsewhere, at_best=max(0, best)
            )
        )
    worker.ledger.hear(ask.number, told)
    worker.run()
    return ask


def free_of(worker: Worker) -> dict[str, int]:
    return {account.word: account.free for account in worker.ledger.accounts}


def test_a_request_that_no_budget_binds_is_bounded_by_the_context_alone(worker: Worker):
    directory = directory_of(budget(share="red"))

    asked = worker.clear(request_of(directory, most=None))

    assert asked.hold is not None
    assert (asked.hold.most_tokens, asked.hold.amounts) == (512, ())


def test_it_waits_for_its_first_allotment_holds_it_and_gives_back_what_it_did_not_use(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget()), most=40))
    at_once = asked.hold
    assert at_once is None
    assert worker.woken

    answer(worker, {COMPLETION: 100})

    assert asked.hold is not None
    assert asked.hold.amounts == ((COMPLETION, 40),)
    assert asked.hold.settle(used(7, 10)) == ((COMPLETION, 10),)
    assert asked.hold.settle(used(7, 40)) == ((COMPLETION, 10),), "the second time nothing happens"
    assert free_of(worker) == {COMPLETION: 30}
    assert not worker.ledger.holds


def test_it_clears_every_account_or_none(worker: Worker):
    directory = directory_of(budget("calls"), budget())
    asked = worker.clear(request_of(directory, most=40))

    answer(worker, {CALLS: 5, COMPLETION: 0}, at_best=0)

    assert isinstance(asked.refusal, BudgetExhausted)
    assert free_of(worker) == {CALLS: 1, COMPLETION: 0}


def test_a_refusal_says_which_budget_and_when_it_begins_anew(worker: Worker):
    ends_at = worker.time.now() + timedelta(hours=2)
    asked = worker.clear(request_of(directory_of(budget(ends_at=ends_at)), most=40))

    answer(worker, {}, at_best=0)

    refusal = asked.refusal
    assert isinstance(refusal, BudgetExhausted)
    assert "completion_tokens of project blue" in refusal.detail
    assert (refusal.code, refusal.status, refusal.retry_after_s) == ("budget_exhausted", 429, 7200)


def test_while_others_may_give_something_back_it_waits_and_the_refusal_says_soon(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget("calls"))))

    answer(worker, {}, at_best=90, elsewhere=10)
    assert asked.live
    worker.move(5)

    assert isinstance(asked.refusal, BudgetExhausted)
    assert asked.refusal.retry_after_s == 2


def test_completions_are_lowered_to_what_there_is(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget()), most=200, n=2))

    answer(worker, {COMPLETION: 51})

    assert asked.hold is not None
    assert (asked.hold.most_tokens, asked.hold.amounts) == (25, ((COMPLETION, 50),))


def test_a_prompt_that_its_bytes_do_not_clear_is_counted_by_a_replica(worker: Worker):
    worker.counted = 60
    asked = worker.clear(request_of(directory_of(budget("prompt_tokens")), prompt="word " * 20))

    answer(worker, {PROMPT: 100})

    assert worker.counts == 1
    assert asked.hold is not None
    assert asked.hold.amounts == ((PROMPT, 60),)


def test_a_prompt_that_no_replica_can_count_does_not_clear(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget("prompt_tokens")), prompt="word " * 20))

    answer(worker, {PROMPT: 100})

    assert isinstance(asked.refusal, BudgetExhausted)


@pytest.mark.parametrize(
    ("usage", "spent"),
    [
        (Usage(), ()),
        (Usage(dispatched=True), ((PROMPT, 293), (CALLS, 1), (COMPLETION, 40))),
        (used(8, None), ((PROMPT, 8), (CALLS, 1), (COMPLETION, 40))),
        (used(8, 0), ((PROMPT, 8), (CALLS, 1))),
        (used(9_999, 41), ((PROMPT, 293), (CALLS, 1), (COMPLETION, 40))),
    ],
    ids=["never sent", "nothing told", "prompt told", "nothing made", "more than can be"],
)
def test_what_nobody_told_is_spent_whole_and_what_was_never_sent_not_at_all(worker: Worker, usage: Usage, spent):
    asked = worker.clear(request_of(directory_of(budget("prompt_tokens"), budget("calls"), budget()), prompt=""))
    answer(worker, {PROMPT: 1000, CALLS: 10, COMPLETION: 100})
    assert asked.hold is not None

    found = asked.hold.settle(usage)

    bound = dict(asked.hold.amounts)[PROMPT]
    assert found == tuple((account, bound if amount == 293 else amount) for account, amount in spent)


def test_a_hold_is_renewed_while_its_request_lives_and_else_ends_by_itself_spent_whole(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget()), most=40))
    answer(worker, {COMPLETION: 40})
    assert asked.hold is not None

    for _ in range(20):
        worker.move(20)
    assert worker.ledger.holds
    asked.live = False
    worker.move(40)
    worker.move(40)

    assert not worker.ledger.holds
    assert asked.hold.settle(used(1, 1)) == ((COMPLETION, 40),)


def test_wall_seconds_are_held_whole_and_stop_the_request_at_their_end(worker: Worker):
    directory = directory_of(budget("wall_seconds"))
    asked = worker.clear(request_of(directory, work=Work(deadline_s=90)))
    answer(worker, {"budget_project_wall_seconds": 30_000})
    assert asked.hold is not None
    assert asked.hold.amounts == (("budget_project_wall_seconds", 30_000),)

    worker.move(20)
    early = asked.stopped
    worker.move(10)

    assert (early, asked.stopped) == (False, True)
    assert asked.hold.settle(Usage(dispatched=True, wall_us=1)) == (("budget_project_wall_seconds", 30_000),)


def test_gpu_seconds_are_those_of_all_gpus_of_the_replica_and_settled_to_the_millisecond(worker: Worker):
    directory = directory_of(budget("gpu_seconds"), gpus=4)
    asked = worker.clear(request_of(directory, work=Work(deadline_s=10)))
    answer(worker, {"budget_project_gpu_seconds": 100_000})
    assert asked.hold is not None

    held = asked.hold.amounts
    spent = asked.hold.settle(Usage(dispatched=True, wall_us=9, gpu_us=1_500_001))

    assert (held, spent) == ((("budget_project_gpu_seconds", 40_000),), (("budget_project_gpu_seconds", 1_501),))


def test_a_retry_is_told_by_what_it_asks_for_ten_minutes(worker: Worker):
    directory = directory_of(budget("retries"))
    run = Work(run="r1", step="3")

    def is_retry(prompt: str, work: Work) -> bool:
        asked = worker.clear(request_of(directory, prompt=prompt, work=work))
        if asked.hold is None:
            answer(worker, {"budget_project_retries": 10})
        assert asked.hold is not None
        return asked.hold.retry

    first, again, other, elsewhere = (
        is_retry("a", run), is_retry("a", run), is_retry("b", run), is_retry("a", replace_run(run)),
    )  # fmt: skip
    worker.time.seconds += 601
    assert (first, again, other, elsewhere, is_retry("a", run)) == (False, True, False, False, False)


def replace_run(work: Work) -> Work:
    return Work(run="r2", step=work.step)


def test_each_run_has_its_own_account_and_what_names_none_is_one_more(worker: Worker):
    directory = directory_of(budget("calls", "run", name="*"), budget("calls", "workflow", name="nightly"))

    for run in ("r1", "r2", ""):
        worker.clear(request_of(directory, work=Work(run=run, workflow="nightly")))

    assert set(free_of(worker)) == {
        "budget_run_calls/r1", "budget_run_calls/r2", "budget_run_calls/-", "budget_workflow_calls",
    }  # fmt: skip


def test_a_control_plane_that_is_away_is_not_waited_for_and_a_hard_budget_refuses(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget("calls"))))
    ask = worker.ledger.ask()
    assert ask is not None

    worker.ledger.hear_nothing(ask.number)
    worker.run()

    assert isinstance(asked.refusal, BudgetUnknown)
    assert asked.refusal.code == "budget_unknown"


def test_an_exception_allows_its_part_of_a_worker_that_has_spoken_to_the_control_plane(tmp_path: Path):
    worker = make_worker(tmp_path / "retries", workers=2)
    directory = directory_of(budget("calls", exception=7))

    def go_on() -> bool:
        asked = worker.clear(request_of(directory))
        ask = worker.ledger.ask()
        if asked.hold is None and ask is not None:
            worker.ledger.hear_nothing(ask.number)
            worker.run()
        return asked.hold is not None

    assert not go_on(), "a life that has never heard of the control plane may be one of many"
    worker.clear(request_of(directory))
    answer(worker, {CALLS: 1})
    assert [go_on() for _ in range(5)] == [True, True, True, False, False]


def test_a_late_answer_is_not_believed(worker: Worker):
    worker.clear(request_of(directory_of(budget("calls"))))
    first = worker.ledger.ask()
    assert first is not None
    worker.ledger.hear_nothing(first.number)

    worker.ledger.hear(first.number, [Allotment(account=CALLS, granted=50, left=0, elsewhere=0, at_best=0)])

    assert free_of(worker) == {CALLS: 0}


def test_what_is_not_used_for_a_while_is_given_up_before_anybody_hears_of_it(worker: Worker):
    asked = worker.clear(request_of(directory_of(budget()), most=40))
    answer(worker, {COMPLETION: 40})
    assert asked.hold is not None
    asked.hold.settle(used(1, 30))
    answer(worker, {COMPLETION: 40})
    worker.move(11)

    ask = worker.ledger.ask()

    assert ask is not None
    assert (ask.accounts[0].granted, ask.accounts[0].wanted) == (30, 30)
    assert free_of(worker) == {COMPLETION: 0}


def test_an_account_that_is_forgotten_goes_on_where_it_was(worker: Worker):
    directory = directory_of(budget())
    asked = worker.clear(request_of(directory, most=40))
    answer(worker, {COMPLETION: 40})
    assert asked.hold is not None
    asked.hold.settle(used(1, 40))
    answer(worker, {COMPLETION: 40})
    worker.move(100)
    assert free_of(worker) == {}

    worker.clear(request_of(directory, most=40))
    ask = worker.ledger.ask()

    assert ask is not None
    assert (ask.accounts[0].granted, ask.accounts[0].used, ask.accounts[0].wanted) == (40, 40, 80)


@pytest.mark.parametrize(
    ("messages", "steps"),
    [
        (b'{"role":"user","content":"x"},{"role":"tool","content":"4"}', 1),
        (b'{"role":"user","content":"x"},{"ro\\u006ce":"\\u0074ool","content":"4"}', 1),
        (b'{"role":"tool","content":"4"},{"role":"user","content":"go on"}', 1),
        (b'{"role":"tool","content":"4"},{"role":"assistant","content":"5"},{"role":"user","content":"x"}', 0),
        (b'{"role":"user","content":"{\\"role\\":\\"tool\\"}"}', 0),
    ],
)
def test_a_step_that_brings_the_result_of_a_tool_counts_however_it_is_written(worker: Worker, messages: bytes, steps):
    directory = directory_of(budget("tool_steps"))
    asked = worker.clear(request_with(directory, b'{"model":"chat","max_tokens":4,"messages":[%b]}' % messages))
    if asked.hold is None:
        answer(worker, {"budget_project_tool_steps": 9})

    assert asked.hold is not None
    assert [amount for _, amount in asked.hold.amounts] == [1] * steps


def test_what_one_of_those_who_wait_does_wrong_is_nothing_to_the_others(worker: Worker):
    directory = directory_of(budget("calls"))
    first, second = worker.clear(request_of(directory)), worker.clear(request_of(directory))

    def break_down(hold: object) -> None:
        raise OSError("the journal is gone")

    first.cleared = break_down  # type: ignore[method-assign] # an exchange with a bug
    with pytest.raises(OSError, match="journal"):
        answer(worker, {CALLS: 5})
    worker.move(1)

    assert second.hold is not None


def test_a_request_that_wants_more_than_can_be_said_does_not_stop_the_asks(worker: Worker):
    request = request_of(directory_of(budget()), most=400)
    assert isinstance(request.ask, ChatAsk)
    request.ask.n = 2**60  # as no surface lets in
    worker.clear(request)

    ask = worker.ledger.ask()

    assert ask is not None
    assert ask.accounts[0].wanted == 2**53 - 1


def test_a_worker_that_leaves_has_no_exception_because_its_successor_has_it(worker: Worker):
    directory = directory_of(budget("calls", exception=5))
    worker.clear(request_of(directory))
    answer(worker, {CALLS: 1})
    worker.leaves = True
    asked = worker.clear(request_of(directory))
    ask = worker.ledger.ask()
    assert ask is not None

    worker.ledger.hear_nothing(ask.number)
    worker.run()

    assert isinstance(asked.refusal, BudgetUnknown)
