"""A failure that is gone on after keeps its lines, and nothing that its frames held."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stepfunction import (
    ProcessLanes,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
)
from stepfunction.stores import SQLiteStore

TWICE = RetryPolicy(2, interval=0)


class Marker:
    """A large value of a function that fails."""


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    # pytest keeps the records of the log, which have the tracebacks as they were.
    logging.disable()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


class Failing:
    """What fails, each time with a marker in its frame."""

    def __init__(self, fail: Callable[[], Any] | None = None) -> None:
        self.markers: list[weakref.ref[Marker]] = []
        self.fail = fail

    def __call__(self, value: Any) -> Any:
        marker = Marker()
        self.markers.append(weakref.ref(marker))
        if self.fail is not None:
            return self.fail()
        raise ValueError("no")

    @property
    def kept(self) -> int:
        return sum(marker() is not None for marker in self.markers)


def same(value: Any) -> Any:
    return value


def of(step: str, *arguments: Any, **options: Any) -> StepFunction:
    flow = StepFunction("W").add_step(step, *arguments, **options)
    return flow.set_start_step(step)


def handled(func: Any, **options: Any) -> StepFunction:
    flow = of("A", func, on_failure="Caught", **options)
    return flow.add_step("Caught", str, ends="completed")


def mapped(func: Any, **options: Any) -> StepFunction:
    options = {"tolerated_failures": "100%"} | options
    flow = StepFunction("W")
    flow.add_map_step("A", func, items=lambda it: [it] * 6, **options)
    return flow.set_start_step("A")


def parallel(func: Any, **options: Any) -> StepFunction:
    return of("A", {"a": func, "b": same, "c": func}, parallel=True, **options)


WAYS: dict[str, Callable[[Any], StepFunction]] = {
    "a step": handled,
    "one with a context": lambda f: handled(lambda it, context: f(it)),
    "a step in a thread": lambda f: handled(f, executor="thread"),
    "a retried step": lambda f: handled(f, retry=TWICE),
    "tasks": parallel,
    "tasks that fail the step": lambda f: handled(
        {"a": f, "b": f}, parallel=True, stop_on_failure=True
    ),
    "tasks inline": lambda f: parallel(f, executor="inline"),
    "retried tasks": lambda f: parallel(f, retry=TWICE),
    "items": mapped,
    "items inline": lambda f: mapped(f, executor="inline"),
    "items in batches": lambda f: mapped(f, batch_size=4),
    "retried items in batches": lambda f: mapped(f, batch_size=4, retry=TWICE),
    "items without results": lambda f: mapped(f, keep_results=False),
    "items that fail the step": lambda f: mapped(
        f, tolerated_failures=0, on_failure="Caught"
    ).add_step("Caught", str, ends="completed"),
    "a nested workflow": lambda f: handled(of("B", f)),
    "a nested workflow that handles it": lambda f: of("A", handled(f)),
    "nested tasks": lambda f: parallel(of("B", f)),
    "nested items": lambda f: mapped(of("B", f)),
    "tasks of a nested workflow": lambda f: handled(of("B", parallel(f))),
    "a failure step": lambda f: of("A", f, on_failure="B")
    .add_step("B", f, on_failure="Caught")
    .add_step("Caught", str, ends="completed"),
    "a branch": lambda f: handled(same, branch=f, branch_targets=["Caught"]),
    "items=": lambda f: StepFunction("W", on_failure="Caught")
    .add_map_step("A", same, items=f)
    .add_step("Caught", str, ends="completed")
    .set_start_step("A"),
    "a workflow that a failure ends": lambda f: of(
        "A", f, on_failure="Caught"
    ).add_step("Caught", str),
}
EVERY = pytest.mark.parametrize("way", WAYS)


@EVERY
def test_what_its_frames_held_is_gone(way: str) -> None:
    failing = Failing()
    execution = WAYS[way](failing).execute(1)
    assert failing.markers and execution.status in ("COMPLETED", "FAILED")
    assert failing.kept == 0


@EVERY
def test_they_are_all_kept_where_that_is_asked_for(way: str) -> None:
    failing = Failing()
    execution = WAYS[way](failing).execute(1, keep_locals=True)
    assert failing.kept == len(failing.markers) > 0
    assert execution.status in ("COMPLETED", "FAILED")


@EVERY
@pytest.mark.parametrize("keep_locals", [False, True])
def test_its_traceback_reads_the_same(way: str, keep_locals: bool) -> None:
    told = []

    def hear(event: Any) -> None:
        if event.error is not None:
            told.append((event.error, text_of(event.error)))

    execution = WAYS[way](Failing()).execute(
        1, keep_locals=keep_locals, listeners=[hear]
    )
    assert told and execution.history
    for error, text in told:
        assert text_of(error) == text


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@EVERY
def test_the_listeners_are_told_of_a_failure_with_its_locals(way: str) -> None:
    failing = Failing()
    seen = []

    def hear(event: Any) -> None:
        if event.subject != "execution" and event.error is not None:
            seen.append(failing.kept)

    WAYS[way](failing).execute(1, listeners=[hear])
    # Of those that travel together all but one are told of when it is past.
    assert any(seen) if "batches" in way else seen and all(seen)
    assert failing.kept == 0


@EVERY
def test_an_execution_that_went_on_after_failures_is_in_no_cycle(way: str) -> None:
    flow = WAYS[way](Failing())

    def run() -> weakref.ref[Any]:
        execution = flow.execute(1)
        assert execution.history
        return weakref.ref(execution)

    past = run()
    run()  # for the workflow keeps its latest
    assert past() is None


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_nor_where_what_failed_has_no_frame(executor: Any) -> None:
    flow = parallel(int, executor=executor, next_step="Then")
    flow.add_step("Then", int, on_failure="Caught")
    flow.add_step("Caught", same, ends="completed")

    def run() -> weakref.ref[Any]:
        execution = flow.execute("x")
        assert len(execution.failures) == 3
        return weakref.ref(execution)

    past = run()
    run()
    assert past() is None


@EVERY
def test_no_local_of_whoever_executes_is_kept(way: str) -> None:
    flow = WAYS[way](Failing())

    def run() -> weakref.ref[Marker]:
        request = Marker()
        flow.execute(1)
        return weakref.ref(request)

    assert run()() is None


# --- raised -------------------------------------------------------------------------


def nested_and_raised(func: Any) -> StepFunction:
    return of("A", of("B", func))


RAISED: dict[str, Callable[[Any], StepFunction]] = {
    "a step": lambda f: of("A", f),
    "a step in a thread": lambda f: of("A", f, executor="thread"),
    "a nested workflow": nested_and_raised,
    "tasks": lambda f: of("A", {"a": f}, parallel=True, stop_on_failure=True),
    "an item": lambda f: mapped(f, tolerated_failures=0, stop_on_failure=True),
}


@pytest.mark.parametrize("way", RAISED)
def test_a_failure_that_is_raised_keeps_its_locals(way: str) -> None:
    failing = Failing()
    with pytest.raises(StepExecutionError) as raised:
        RAISED[way](failing).execute(1)
    error = raised.value.__cause__
    while isinstance(error, StepExecutionError):
        error = error.__cause__
    assert error is not None and error.__traceback__ is not None
    frame = error.__traceback__.tb_frame
    assert frame.f_code is Failing.__call__.__code__
    assert isinstance(frame.f_locals["marker"], Marker)


def test_only_the_last_attempt_of_what_is_raised_keeps_its_locals() -> None:
    failing = Failing()
    with pytest.raises(StepExecutionError):
        of("A", failing, retry=RetryPolicy(3, interval=0)).execute(1)
    assert [marker() is not None for marker in failing.markers] == [False, False, True]


def test_the_first_of_many_items_that_are_raised_keeps_its_locals() -> None:
    failing = Failing()
    with pytest.raises(StepExecutionError):
        mapped(failing, tolerated_failures=0, executor="inline").execute(1)
    assert [it() is not None for it in failing.markers] == [True] + 5 * [False]


def test_a_step_that_raises_what_it_handled_before_is_forgotten_whole() -> None:
    markers = []

    def stubborn(value: Any) -> None:
        last = None
        for _ in range(3):
            try:
                marker = Marker()
                markers.append(weakref.ref(marker))
                raise KeyError(value)
            except KeyError as error:
                last = error
        raise ValueError(f"after {last!r}")  # which is in a cycle with its frame

    handled(stubborn).execute(1)
    assert [marker() for marker in markers] == 3 * [None]


def test_an_execution_that_is_raised_is_in_no_cycle_by_our_frames() -> None:
    flows = [
        of("A", Failing()),
        of("A", int),
        of("A", Failing(), executor="thread"),
        of("A", Failing(), retry=TWICE),
        of("A", Failing(), on_failure="B").add_step("B", Failing()),
        of("A", str, branch={"a": "B"}).add_step("B", str),
    ]

    def run(flow: StepFunction) -> weakref.ref[Any]:
        try:
            flow.execute("x")
        except StepFunctionError as error:
            return weakref.ref(error.execution)  # type: ignore[attr-defined]
        raise AssertionError("it did not fail")

    pasts = [run(flow) for flow in flows]
    for flow in flows:
        run(flow)
    assert [past() for past in pasts] == len(flows) * [None]


# --- other ways to begin ------------------------------------------------------------


@pytest.mark.parametrize("keep_locals", [False, True])
def test_start_keeps_them_where_that_is_asked_for(keep_locals: bool) -> None:
    failing = Failing()
    execution = handled(failing).start(1, keep_locals=keep_locals)
    assert execution.wait(20)
    assert failing.kept == keep_locals


@pytest.mark.parametrize("keep_locals", [False, True])
def test_aexecute_keeps_them_where_that_is_asked_for(keep_locals: bool) -> None:
    failing = Failing()
    flow = handled(failing)
    execution = asyncio.run(flow.aexecute(1, keep_locals=keep_locals))
    assert failing.kept == keep_locals
    assert execution.failures


@pytest.mark.parametrize("keep_locals", [False, True])
def test_resume_keeps_them_where_that_is_asked_for(
    keep_locals: bool, tmp_path: Path
) -> None:
    failing = Failing()
    store = SQLiteStore(tmp_path / "store.db")
    tasks = {"a": failing, "b": same}
    flow = StepFunction("W", store=store).add_step(
        "Both", tasks, parallel=True, next_step="Last"
    )
    flow.add_step("Last", int).set_start_step("Both")
    with pytest.raises(StepExecutionError):
        flow.execute("x", execution_id="one")
    assert failing.kept == 0
    with pytest.raises(StepExecutionError) as raised:
        flow.resume("one", start_at="Both", keep_locals=keep_locals)
    assert failing.kept == keep_locals
    assert raised.value.execution is not None
    store.close()


# --- what it hides ------------------------------------------------------------------


def from_a_cause() -> None:
    try:
        hidden(Marker())
    except KeyError as error:
        raise ValueError("no") from error


def with_a_context() -> None:
    try:
        hidden(Marker())
    except KeyError:
        raise ValueError("no")


def a_group() -> None:
    errors = []
    for _ in range(2):
        try:
            hidden(Marker())
        except KeyError as error:
            errors.append(error)
    raise ExceptionGroup("both", [errors[0], ExceptionGroup("one", errors[1:])])


HIDDEN: list[weakref.ref[Marker]] = []


def hidden(marker: Marker) -> None:
    HIDDEN.append(weakref.ref(marker))
    raise KeyError(1)


@pytest.mark.parametrize("fail", [from_a_cause, with_a_context, a_group])
@pytest.mark.parametrize("way", ["a step", "tasks", "items in batches"])
def test_what_it_hides_is_forgotten_with_it(way: str, fail: Any) -> None:
    HIDDEN.clear()
    told = []

    def hear(event: Any) -> None:
        if event.error is not None:
            told.append((event.error, text_of(event.error)))

    flow = WAYS[way](Failing(fail))
    execution = flow.execute(1, listeners=[hear])
    assert HIDDEN and execution.failures
    assert [marker() for marker in HIDDEN] == [None] * len(HIDDEN)
    assert [text_of(error) for error, _ in told] == [text for _, text in told]


def test_what_the_caller_is_handling_keeps_its_locals() -> None:
    failing = Failing()
    try:
        failing(1)
    except ValueError as own:
        execution = handled(Failing()).execute(1)
        (record,) = execution.failures
        assert record.error is not None and record.error.__context__ is own
        assert failing.kept == 1
        execution = handled(Failing(), executor="inline", retry=TWICE).execute(1)
        assert failing.kept == 1


def test_what_the_caller_goes_on_to_raise_has_its_lines() -> None:
    held = ValueError("held")

    def fail(value: Any) -> None:
        raise held

    handled(fail).execute(1)
    with pytest.raises(ValueError) as raised:
        raise held
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert names[-1] == "fail"


def test_records_of_the_log_hold_no_locals() -> None:
    kept: list[logging.LogRecord] = []
    markers: list[weakref.ref[Marker]] = []

    async def later(value: Any) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        raise ValueError("no")

    def now(value: Any) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        raise ValueError("no")

    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign]
    logging.disable(logging.NOTSET)
    log = logging.getLogger("stepfunction")
    log.addHandler(handler)
    try:
        handled(later).execute(1)
        handled(now).execute(1)
        parallel(now).execute(1)
    finally:
        log.removeHandler(handler)
    assert [record.exc_info is not None for record in kept] == 4 * [True]
    assert [marker() for marker in markers] == 4 * [None]


# --- frames that go on --------------------------------------------------------------


def test_a_generator_that_has_failed_before_goes_on() -> None:
    def steps() -> Iterator[Any]:
        try:
            raise KeyError("first")
        except KeyError as error:
            kept = error
        yield kept
        yield "alive"

    generator = steps()

    def fail(value: Any) -> None:
        raise next(generator)

    execution = handled(fail).execute(1)
    assert execution.failures
    assert next(generator) == "alive"


def test_what_a_coroutine_awaits_goes_on() -> None:
    class Pause:
        def __await__(self) -> Iterator[None]:
            try:
                raise KeyError("in a pause")
            except KeyError as error:
                caught.append(error)
            yield

    async def long() -> str:
        try:
            raise KeyError("in a coroutine")
        except KeyError as error:
            caught.append(error)
        await Pause()
        return "alive"

    caught: list[BaseException] = []
    coroutine = long()
    coroutine.send(None)

    def fail(value: Any) -> None:
        raise ExceptionGroup("both", caught)  # type: ignore[type-var]

    assert handled(fail).execute(1).failures
    with pytest.raises(StopIteration, match="alive"):
        coroutine.send(None)


def test_a_generator_that_delegates_goes_on() -> None:
    caught: list[BaseException] = []

    def inner() -> Iterator[str]:
        yield "one"
        yield "two"

    def outer() -> Iterator[str]:
        try:
            raise KeyError("no")
        except KeyError as error:
            caught.append(error)
        yield from inner()

    generator = outer()
    next(generator)

    def fail(value: Any) -> None:
        raise caught[0]

    assert handled(fail).execute(1).failures
    assert list(generator) == ["two"]


def test_a_function_that_still_runs_keeps_its_locals() -> None:
    def outer() -> int:
        local = 17
        try:
            raise KeyError("mine")
        except KeyError as error:
            mine = error

        def fail(value: Any) -> None:
            raise mine

        execution = handled(fail).execute(1)
        assert execution.failures
        return local

    assert outer() == 17


def test_a_coroutine_is_forgotten_too() -> None:
    markers = []

    async def fail(value: Any) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        raise ValueError("no")

    execution = handled(fail).execute(1)
    assert "in fail\n" in text_of(execution.failures[0].error)  # type: ignore[arg-type]
    assert markers[0]() is None


def test_one_error_that_many_tasks_raise_is_forgotten_once() -> None:
    error = ValueError("one")
    markers = []

    def fail(value: Any) -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        raise error

    mapped(fail).execute(1)
    assert [marker() for marker in markers] == 6 * [None]


@pytest.mark.parametrize("where", ["step", "execution"])
def test_what_is_left_behind_and_fails_later_is_forgotten(where: str) -> None:
    go, gone = threading.Event(), threading.Event()

    def fail_late(value: Any) -> None:
        marker = Marker()
        weakref.finalize(marker, gone.set)
        go.wait()
        raise ValueError(value)

    limit: Any = {"timeout": 0.05}
    of_step = limit if where == "step" else {}
    workflow = of("A", fail_late, executor="thread", **of_step)
    with pytest.raises(StepFunctionError):
        workflow.execute(1, **({} if of_step else limit))
    go.set()

    assert gone.wait(10)


def test_somebody_elses_threads_keep_nothing() -> None:
    failing = Failing()
    with ThreadPoolExecutor(2) as pool:
        execution = parallel(failing, executor=pool).execute(1)
        assert execution.failures
        assert failing.kept == 0


# --- workflows of any shape ---------------------------------------------------------


def any_workflow(chance: random.Random, failing: Failing, depth: int) -> StepFunction:
    """Give a workflow whose steps fail, of which each failure is gone on after."""
    flow = StepFunction(f"W{depth}").set_start_step("s0")
    count = chance.randint(1, 4)
    for number in range(count):
        name, follower = f"s{number}", f"s{number + 1}"
        options: dict[str, Any] = {"next_step": follower}
        if chance.random() < 0.5:
            options["retry"] = RetryPolicy(chance.randint(1, 3), interval=0)

        def work() -> Any:
            if depth < 2 and chance.random() < 0.3:
                return any_failing(chance, failing, depth + 1)
            return failing

        executor = chance.choice(["inline", "thread"])
        kind = chance.choice(["call", "tasks", "items"])
        if kind == "call":
            flow.add_step(name, work(), on_failure=f"f{number}", **options)
        elif kind == "tasks":
            tasks = {f"t{at}": work() for at in range(chance.randint(1, 3))}
            flow.add_step(name, tasks, parallel=True, executor=executor, **options)
        else:
            called = work()
            if called is failing:
                options["batch_size"] = chance.choice([1, 2, 3])
            flow.add_map_step(
                name,
                called,
                items=lambda it: [1, 2, 3],
                tolerated_failures="100%",
                executor=executor,
                **options,
            )
        if kind == "call":
            flow.add_step(f"f{number}", same, next_step=follower)
    return flow.add_step(f"s{count}", same)


def any_failing(chance: random.Random, failing: Failing, depth: int) -> StepFunction:
    """Give one that does so at first, and fails at last."""
    flow = StepFunction(f"F{depth}").set_start_step("Before")
    flow.add_step("Before", any_workflow(chance, failing, depth), next_step="Last")
    return flow.add_step("Last", failing)


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_kept_whatever_the_workflow_is(seed: int) -> None:
    failing = Failing()
    flow = any_workflow(random.Random(seed), failing, 0)
    execution = flow.execute(1)
    assert execution.failures
    assert failing.kept == 0


@pytest.mark.parametrize("seed", range(15))
def test_what_is_raised_is_kept_whatever_led_to_it(seed: int) -> None:
    failing = Failing()
    flow = any_failing(random.Random(seed), failing, 1)
    with pytest.raises(StepExecutionError):
        flow.execute(1)
    assert failing.kept == 1
    assert failing.markers[-1]() is not None


# --- worker processes ---------------------------------------------------------------

_IN_WORKER: list[weakref.ref[Marker]] = []


def fail_in_worker(value: Any) -> None:
    gc.disable()
    marker = Marker()
    _IN_WORKER.append(weakref.ref(marker))
    try:
        raise KeyError("first")
    except KeyError as error:
        last = error  # in a cycle with this frame
    raise ValueError(f"after {last!r}")


def kept_in_worker(value: Any) -> tuple[int, int]:
    return sum(it() is not None for it in _IN_WORKER), len(_IN_WORKER)


@pytest.mark.parametrize(
    ("work", "options"),
    [
        (fail_in_worker, {}),
        (fail_in_worker, {"batch_size": 4}),
        (of("B", fail_in_worker), {}),
        (handled(fail_in_worker), {}),
    ],
    ids=["alone", "in batches", "nested", "nested and handled"],
)
def test_a_worker_that_goes_on_keeps_nothing(work: Any, options: Any) -> None:
    flow = StepFunction("W").set_start_step("Each")
    flow.add_map_step(
        "Each", work, tolerated_failures="100%", next_step="Count", **options
    )
    flow.add_step("Count", kept_in_worker, executor="process")
    with ProcessLanes(1) as lanes:
        assert flow.execute(range(8), executor=lanes).output == (0, 8)
