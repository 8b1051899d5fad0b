from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.jobs import rules
from controlplane.domains.jobs.types import OVER, Begin, End, Keep, Miss, RunFact, RunState, Wait
from controlplane.engines.port import EngineState, ObservedRun

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def fact(state: RunState = RunState.QUEUED, restarts: int | None = None, **more) -> RunFact:
    plain = {"is_submitted": True, "missing_since": None, "stop_asked": False, "share": "blue", "project": "blue"}
    return RunFact(state=state, restarts=restarts, **{**plain, **more})


def seen(state: EngineState, reason: str = "", restarts: int = 0, status: int = 0) -> ObservedRun:
    return ObservedRun("job_1", "7", state, "gpu1", reason, restarts=restarts, status=status)


facts = st.builds(
    RunFact,
    state=st.sampled_from([state for state in RunState if state not in OVER]),
    restarts=st.none() | st.integers(0, 3),
    is_submitted=st.booleans(),
    missing_since=st.none() | st.just(NOW - timedelta(seconds=61)) | st.just(NOW),
    stop_asked=st.booleans(),
    said_status=st.none() | st.integers(0, 255),
)
sights = st.none() | st.builds(
    seen,
    state=st.sampled_from(list(EngineState)),
    reason=st.sampled_from(["", "pending, Resources", "timeout", "node_fail", "preempted"]),
    restarts=st.integers(0, 3),
    status=st.integers(0, 255),
)


@given(facts, sights)
def test_a_run_is_over_only_when_the_engine_has_ended_it_or_does_not_know_it(run: RunFact, told: ObservedRun | None):
    step = rules.judge(run, told, NOW)
    if isinstance(step, End):
        assert told is None or told.state is EngineState.ENDED
        assert step.why.reason
    assert (rules.state_after(run, step) in OVER) is isinstance(step, End)


@given(facts, sights)
def test_what_was_asked_to_stop_ends_stopped_and_says_so_until_then(run: RunFact, told: ObservedRun | None):
    step = rules.judge(run, told, NOW)
    if run.stop_asked:
        assert rules.state_after(run, step) == (RunState.STOPPED if isinstance(step, End) else RunState.STOPPING)


@given(facts, sights)
def test_a_start_that_lived_is_ended_exactly_when_another_state_of_it_is_told(run: RunFact, told: ObservedRun | None):
    step = rules.judge(run, told, NOW)
    if isinstance(step, Begin | Wait):
        assert bool(step.ended) == (run.restarts is not None)
    if isinstance(step, Begin):
        assert told is not None
        assert step.restarts == told.restarts != run.restarts


def test_several_restarts_that_nobody_saw_are_one_step():
    step = rules.judge(fact(RunState.RUNNING, 0), seen(EngineState.RUNNING, restarts=3), NOW)
    assert step == Begin(3, "requeued")


def test_what_had_to_checkpoint_before_it_waits_again_was_preempted():
    step = rules.judge(fact(RunState.CHECKPOINTING, 0), seen(EngineState.WAITING, "pending, BeginTime", 1), NOW)
    assert isinstance(step, Wait)
    assert step.ended == "preempted"


def test_a_run_that_the_engine_lists_late_is_not_lost():
    assert rules.judge(fact(), None, NOW) == Miss()
    assert rules.judge(fact(missing_since=NOW - timedelta(seconds=59)), None, NOW) == Miss()
    gone = rules.judge(fact(missing_since=NOW - timedelta(seconds=61)), None, NOW)
    assert isinstance(gone, End)
    assert gone.state == RunState.FAILED


def test_a_run_that_told_of_its_end_before_the_engine_forgot_it_is_done():
    gone = rules.judge(fact(RunState.RUNNING, 0, missing_since=NOW - timedelta(hours=1), said_status=0), None, NOW)
    assert isinstance(gone, End)
    assert (gone.state, gone.status) == (RunState.DONE, 0)


def test_a_run_that_is_stopped_before_anybody_started_it_is_over_at_once():
    assert rules.judge(fact(is_submitted=False), None, NOW) == Keep()
    step = rules.judge(fact(is_submitted=False, stop_asked=True), None, NOW)
    assert isinstance(step, End)


@pytest.mark.parametrize(
    ("reason", "status", "said", "state", "words"),
    [
        ("completed, ended with status 0", 0, 0, RunState.DONE, "status 0"),
        ("failed, NonZeroExitCode, ended with status 7", 7, 7, RunState.FAILED, "status 7"),
        ("failed, ended with status 137", 137, 137, RunState.FAILED, "signal 9"),
        ("timeout, TimeLimit, killed by SIGTERM", 0, None, RunState.FAILED, "time limit"),
        ("out_of_memory, OutOfMemory", 0, None, RunState.FAILED, "memory"),
        ("node_fail, NodeDown", 0, None, RunState.FAILED, "node was lost"),
        ("cancelled, killed by SIGTERM", 0, None, RunState.FAILED, "cancelled in the scheduler"),
    ],
)
def test_an_end_is_told_in_words(reason: str, status: int, said: int | None, state: RunState, words: str):
    step = rules.judge(fact(RunState.RUNNING, 0, said_status=said), seen(EngineState.ENDED, reason, 0, status), NOW)
    assert isinstance(step, End)
    assert step.state == state
    assert words in step.why.reason


@pytest.mark.parametrize(
    ("reason", "words", "remedy"),
    [
        ("pending, AssocGrpGRES", "share blue, or what it is a part of, uses all GPUs", "--project azure"),
        ("pending, QOSGrpGRES", "pool's limit", "another pool"),
        ("pending, Resources", "no node has what it asks for free", "fewer GPUs"),
        ("pending, Priority", "more priority", "its turn"),
        ("pending, ReqNodeNotAvail,_UnavailableNodes:gpu1", "down, drained or reserved", "node list"),
        ("pending, Reservation", "reservation keeps", "shorter time limit"),
        ("pending, JobArrayTaskLimit", "lets run at once", "other elements"),
        ("pending, SomethingNew", "SomethingNew", "explain"),
    ],
)
def test_a_wait_is_told_in_words_with_a_way_forward(reason: str, words: str, remedy: str):
    why = rules.explain(reason, "blue", "azure")
    assert words in why.reason
    assert remedy in why.remedy


@pytest.mark.parametrize(
    ("array", "indexes"), [("0-3", (0, 1, 2, 3)), ("5", (5,)), ("1,3,5-7%2", (1, 3, 5, 6, 7)), ("2-2,2", (2,))]
)
def test_an_array_is_its_indexes(array: str, indexes: tuple[int, ...]):
    assert rules.elements_of(array) == indexes


@pytest.mark.parametrize("array", ["", "x", "3-1", "0-1000", "1001", "0,", "-1", "0-9%"])
def test_what_is_no_array_is_refused_with_the_fact(array: str):
    if array == "0-9%":
        assert rules.elements_of(array) == tuple(range(10))  # the contract refuses it
        return
    with pytest.raises(ValueError, match=r"array|backwards"):
        rules.elements_of(array)


def test_a_job_is_what_its_worst_run_is():
    assert rules.summarise([RunState.DONE, RunState.RUNNING, RunState.FAILED]) == RunState.RUNNING
    assert rules.summarise([RunState.DONE, RunState.QUEUED]) == RunState.QUEUED
    assert rules.summarise([RunState.DONE, RunState.FAILED]) == RunState.FAILED
    assert rules.summarise([RunState.DONE, RunState.DONE]) == RunState.DONE


def test_more_priority_lets_fewer_others_go_first():
    assert [rules.nice_of(priority) for priority in (0, 50, 100)] == [1000, 500, 0]


@pytest.mark.parametrize("cursor", ["x", "1", "1.", ".1", "1.x", "9" * 40 + ".1"])
def test_a_cursor_that_is_not_ours_is_refused(cursor: str):
    with pytest.raises(Exception, match="not one of ours"):
        rules.parse_cursor(cursor)


def test_a_cursor_leads_on_from_where_it_was_made():
    assert rules.parse_cursor(rules.to_cursor((2, 17))) == (2, 17)
    assert rules.parse_cursor(rules.to_cursor(rules.parse_cursor(""))) == (0, -1)
