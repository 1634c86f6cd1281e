"""What mypy --strict must accept of the public API. It is read, and never run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from pickle import PicklingError
from typing import Any, assert_type

import tenacity

from stepfunction import (
    Attempt,
    CompensationError,
    Context,
    DefinitionError,
    DrawingError,
    Event,
    Execution,
    ExecutionCancelledError,
    ExecutionTimeoutError,
    FailStepError,
    FunctionRegistry,
    Graph,
    Listener,
    NoBranchMatchedError,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RemoteError,
    ResumeError,
    RetryPolicy,
    Status,
    Step,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StepLimitError,
    StepRecord,
    StoreError,
    TaskResults,
    TransferError,
    WorkerCrashedError,
    WorkerInitError,
    WorkerKilledError,
    WorkerStartError,
)
from stepfunction.core.step_function import StepFunction as StepFunctionAtHome
from stepfunction.testing import (
    assert_path,
    detect_shared_mutation,
    dry_run,
    mock_steps,
    skip_waits,
)


def plain(value: int) -> str:
    return str(value)


def without_input() -> None: ...


def with_context(value: int, context: Context) -> int:
    assert_type(context["Earlier"], Any)
    assert_type(context.execution_id, str)
    assert_type(context.step, str)
    assert_type(context.task, str | None)
    assert_type(context.attempt, int)
    assert_type(context.failure, StepRecord | None)
    assert_type(context.failed, StepRecord)
    assert_type(context.cancelled, bool)
    return value


async def asynchronous(value: int) -> int:
    return value


class Caller:
    def __call__(self, value: int) -> int:
        return value

    def method(self, value: int) -> int:
        return value


def choose(output: str) -> str | None:
    return output or None


def building(nested: StepFunction, pool: ThreadPoolExecutor) -> StepFunction:
    workflow = StepFunction("Typed", max_steps=10)
    workflow.add_step("A", plain)
    workflow.add_step("B", without_input, "C", "F")
    workflow.add_step("C", with_context, next_step="D", on_failure="F")
    workflow.add_step("D", asynchronous, on_failure={ValueError: "F", OSError: "G"})
    workflow.add_step("E", Caller(), branch={"yes": "F", "no": "G"})
    workflow.add_step("F", Caller().method, branch={404: "G", True: "H", None: "I"})
    workflow.add_step("G", plain, branch=choose, branch_targets=["H", "I"])
    workflow.add_step("H", partial(plain, 3), params={"scale": 2}, ends="failed")
    workflow.add_step("I", lambda: 3, retry=RetryPolicy(max_attempts=3))
    workflow.add_step("J", nested, retry=tenacity.Retrying(reraise=True))
    workflow.add_step("K", int, executor="process")
    tasks = {"plain": plain, "context": with_context}
    workflow.add_step("L", tasks, "M", "F", None, True, True)
    mixed = {"function": plain, "workflow": nested, "class": int}
    workflow.add_step("M", mixed, parallel=True, tolerated_failures="10%")
    workflow.add_step("N", tasks, parallel=True, executor=pool, max_workers=4)
    workflow.add_step("O", tasks, parallel=True, executor=ProcessLanes(max_workers=2))
    workflow.add_sub_step_function(
        "P", nested, "A", "F", {"yes": "A"}, ends="completed"
    )
    workflow.add_step("S", tasks, parallel=True, inputs={"value": "A"})
    workflow.validate()
    assert_type(workflow.set_start_step("A"), StepFunction)
    assert_type(workflow.add_step("Q", plain).add_step("R", plain), StepFunction)
    assert_type(workflow.name, str)
    assert_type(workflow.steps, Mapping[str, Step])
    assert_type(workflow.status, Status)
    assert_type(workflow.context, Mapping[str, Any])
    assert_type(workflow.last_result, Any)
    assert_type(workflow.compile(), Graph)
    return workflow


def failing_by_names_from_elsewhere(
    workflow: StepFunction,
    arrows: dict[str, str],
    handlers: dict[type[Exception], str],
    tasks: dict[str, StepFunction],
) -> None:
    workflow.add_step("A", plain, branch=arrows, on_failure=handlers)
    workflow.add_step("B", tasks, parallel=True)


def executing(workflow: StepFunction, pool: Executor) -> None:
    assert_type(workflow.execute(), Execution)
    assert_type(workflow.execute({"order": 17}, executor="inline"), Execution)
    assert_type(workflow.execute(executor=pool, check=True), Execution)


async def awaiting(workflow: StepFunction) -> None:
    assert_type(await workflow.execute(), Execution)
    assert_type(await workflow.aexecute(3, executor="thread", check=True), Execution)
    await asyncio.gather(workflow.aexecute(1), workflow.aexecute(2, shield=True))


def reporting(execution: Execution, path: os.PathLike[str]) -> None:
    assert_type(execution.report(), str)
    assert_type(execution.report(path, max_chars=10), str)
    with open("run.html", "wb") as data, open("run.html", "w") as text:
        execution.report(data)
        execution.report(text)
    assert_type(execution.report_parts(prefix="a-").head, str)
    assert_type(execution.report_parts().graph, str)
    assert_type(execution.report_parts().steps, str)


def drawing(workflow: StepFunction, path: os.PathLike[str]) -> None:
    assert_type(workflow.visualize(), str)
    assert_type(workflow.visualize("a.svg"), str)
    assert_type(workflow.visualize(Path("a"), format="png"), str)
    assert_type(workflow.visualize(path, "dot"), str)
    assert_type(workflow.to_dot(), str)


def looking_at(execution: Execution) -> None:
    assert_type(execution.id, str)
    assert_type(execution.workflow, str)
    assert_type(execution.status, Status)
    assert_type(execution.input, Any)
    assert_type(execution.output, Any)
    assert_type(execution.last_result, Any)
    assert_type(execution.error, Exception | Any)
    assert_type(execution.context, Mapping[str, Any])
    assert_type(execution.history, tuple[StepRecord, ...])
    assert_type(execution.failures, tuple[StepRecord, ...])
    assert_type(execution.children["Nested"], Execution)
    assert_type(execution.children["Parallel", "task"], Execution)
    assert_type(execution.started, float)
    assert_type(execution.duration, float)
    assert_type(execution.raise_if_failed(), Execution)
    execution.cancel()


def the_error_of_an_execution(execution: Execution) -> None:
    if execution.status == "FAILED":
        raise execution.error
    told_of(execution.error)
    if isinstance(execution.error, FailStepError):
        assert_type(execution.error.cause, str | None)
    if execution.error is None:
        execution.cancel()


def told_of(error: Exception) -> None: ...


class OneOfMine(StepFunction):
    """A builder that adds something of its own."""


def a_builder_gives_itself(mine: OneOfMine) -> None:
    assert_type(mine.add_step("A", plain).add_map_step("B", plain), OneOfMine)
    assert_type(mine.add_parallel_step("C", {"a": plain}), OneOfMine)
    assert_type(mine.add_wait_step("D", seconds=3).set_start_step("A"), OneOfMine)


def looking_at_records(record: StepRecord, attempt: Attempt) -> None:
    assert_type(record.step, str)
    assert_type(record.task, str | None)
    assert_type(record.outcome, Outcome | None)
    assert_type(record.error, BaseException | None)
    assert_type(record.started, float | None)
    assert_type(record.duration, float)
    assert_type(record.attempts, tuple[Attempt, ...])
    assert_type(record.next_step, str | None)
    assert_type(record.child, Execution | None)
    assert_type(attempt.number, int)
    assert_type(attempt.outcome, Outcome)
    assert_type(attempt.error, BaseException | None)


def listening(workflow: StepFunction) -> None:
    seen: list[Event] = []
    listener: Listener = seen.append
    StepFunction("W", listeners=[listener, seen.append, heard])
    StepFunction("W", listeners=(heard,))
    assert_type(workflow.execute(3, listeners=[listener]), Execution)
    assert_type(workflow.start(3, listeners=[heard]), Execution)
    assert_type(seen[0].kind, str)
    assert_type(seen[0].time, float)
    assert_type(seen[0].path, tuple[str | tuple[str, str | int], ...])
    assert_type(seen[0].step, str | None)
    assert_type(seen[0].tasks, tuple[str, ...])
    assert_type(seen[0].outcome, Outcome | None)
    assert_type(seen[0].status, Status | None)
    assert_type(seen[0].attempts, tuple[Attempt, ...])
    assert_type(seen[0].error, BaseException | None)
    assert_type(seen[0].execution, Execution | None)


def heard(event: Event) -> int:
    return len(event.workflow)


def looking_at_results(results: TaskResults) -> None:
    assert_type(results["task"], Any)
    assert_type(results.failed, Mapping[str, BaseException])
    assert_type(results.raise_if_failed(), TaskResults)


def catching(workflow: StepFunction) -> None:
    try:
        workflow.execute()
    except ParallelStepExecutionError as error:
        assert_type(error.step, str)
        assert_type(error.outcomes, Mapping[Any, Outcome])
        assert_type(error.results, Mapping[Any, Any])
        assert_type(error.errors, Mapping[Any, BaseException])
    except StepExecutionError as error:
        assert_type(error.execution, Execution)
    except DefinitionError as error:
        assert_type(error.problems, tuple[str, ...])
    except (ExecutionCancelledError, ExecutionTimeoutError) as error:
        assert_type(error.execution, Execution)
    except CompensationError as error:
        assert_type(error.execution, Execution)
        assert_type(error.exceptions[0], Exception | ExceptionGroup[Exception])
    except (WorkerStartError, StoreError, ResumeError) as error:
        assert_type(error.execution, Execution | None)  # it may not have begun
    except StepFunctionError:
        raise


def every_error_is_one_of_ours() -> Sequence[type[StepFunctionError]]:
    return (
        DefinitionError,
        DrawingError,
        ExecutionCancelledError,
        NoBranchMatchedError,
        ParallelStepExecutionError,
        RemoteError,
        StepExecutionError,
        StepLimitError,
        TransferError,
        WorkerCrashedError,
        WorkerInitError,
        WorkerKilledError,
        WorkerStartError,
    )


def errors_that_are_of_a_known_kind() -> Sequence[type[Exception]]:
    value: type[ValueError] = DefinitionError
    lookup: type[LookupError] = NoBranchMatchedError
    runtime: type[RuntimeError] = WorkerStartError
    start: type[WorkerStartError] = WorkerInitError
    broken: type[BrokenProcessPool] = WorkerCrashedError
    kind: type[TypeError] = TransferError
    pickling: type[PicklingError] = TransferError
    return value, lookup, runtime, start, broken, kind, pickling


def documents(workflow: StepFunction) -> None:
    registry = FunctionRegistry({"plain": plain})
    assert_type(registry.register(plain)(3), str)
    assert_type(registry.register("other", plain)(3), str)
    assert_type(registry.register("third")(plain)(3), str)
    assert_type(workflow.to_dict(registry), dict[str, Any])
    assert_type(workflow.to_json({"plain": plain}, indent=2), str)
    assert_type(StepFunction.from_dict({}, registry, ["shop"]), StepFunction)
    assert_type(StepFunction.from_json("{}", {"plain": plain}), StepFunction)
    assert_type(StepFunction.json_schema(), dict[str, Any])
    assert_type(workflow.copy(), StepFunction)
    registry.register(3)  # type: ignore[call-overload]
    unlike = {"plain": plain, "without_input": without_input}
    assert_type(workflow.to_json(unlike), str)
    assert_type(FunctionRegistry(unlike), FunctionRegistry)
    workflow.add_step("Pay", unlike, parallel=True, compensate=unlike)


def lanes() -> None:
    with ProcessLanes(max_workers=2) as executor:
        future: Future[Any] = executor.submit(plain, 3)
        assert_type(future.result(), Any)
        StepFunction("W").execute(executor=executor)


def the_kit_to_test_with(workflow: StepFunction) -> None:
    with mock_steps(workflow, {"Pay": 3, ("Update", "a"): [ValueError]}) as mocks:
        assert_type(mocks["Pay"].calls, list[Any])
        assert_type(mocks["Update", "a"].count, int)
    with skip_waits() as skipped:
        assert_type(skipped.total, float)
    assert_type(dry_run(workflow, {"Pay": 3}), Execution)
    assert_path(workflow.execute(), ["Pay"])
    with detect_shared_mutation() as watch:
        assert_type(watch.mutations[0].task, str | int | None)


def what_is_refused(workflow: StepFunction) -> None:
    workflow.add_step("A")  # type: ignore[call-arg]
    workflow.add_step("A", 3)  # type: ignore[arg-type]
    workflow.add_step("A", plain, executor="threads")  # type: ignore[arg-type]
    workflow.add_step("A", plain, ends="success")  # type: ignore[arg-type]
    workflow.add_step("A", plain, retry=3)  # type: ignore[arg-type]
    workflow.add_sub_step_function("A", plain)  # type: ignore[arg-type]
    workflow.name = "Other"  # type: ignore[misc]
    workflow.steps["A"] = plain  # type: ignore[index]
    RetryPolicy(jitter="half")  # type: ignore[arg-type]
    StepFunction("W", listeners=[plain])  # type: ignore[list-item]
    workflow.execute(listeners=heard)  # type: ignore[arg-type]


def names_that_are_misspelt() -> object:
    from stepfunction import StepFuncton  # type: ignore[attr-defined]
    from stepfunction.stores import SQLStore  # type: ignore[attr-defined]
    from stepfunction.testing import mock_step  # type: ignore[attr-defined]

    return StepFuncton, SQLStore, mock_step


def one_class_by_two_paths(workflow: StepFunctionAtHome) -> StepFunction:
    return workflow


def in_the_place_of_a_process_pool() -> None:
    context = get_context("spawn")
    with ProcessLanes(2, context, print, ("ready",), max_tasks_per_child=9) as lanes:
        assert_type(lanes.submit(divmod, 7, 2).result(), tuple[int, int])
        texts = lanes.map(plain, [1, 2], chunksize=2, buffersize=1)
        assert_type(list(texts), list[str])
        lanes.submit(plain, "no number")  # type: ignore[arg-type]
