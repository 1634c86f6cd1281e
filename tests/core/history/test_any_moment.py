"""What a running execution shows between any two lines of what runs it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from stepfunction import Execution, RetryPolicy, StepFunction, core

HOUSE = core.__path__[0]


def history_at_every_line(builder: StepFunction, **options: Any) -> list[Any]:
    """Give each history that a run has, as its own thread sees it on the way."""
    seen: list[Any] = []
    is_known, executions = threading.Event(), []

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(HOUSE):
            return None
        sys.settrace(None)  # what it takes to look is not looked at
        (execution,) = executions
        seen.append(execution.history)
        sys.settrace(look)
        return look

    def begin(value: Any) -> Any:
        assert is_known.wait(20)
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.startswith(HOUSE):
                frame.f_trace = look
            frame = frame.f_back
        sys.settrace(look)
        return value

    def end(value: Any) -> Any:
        sys.settrace(None)
        return value

    builder.add_step("Begin", begin, next_step="A")
    builder.add_step("End", end)
    builder.set_start_step("Begin")
    execution = builder.start(0, **options)
    executions.append(execution)
    is_known.set()
    assert execution.wait(60)
    execution.raise_if_failed()
    return [*seen, execution.history]


def check(seen: list[Any], builder: StepFunction) -> None:
    """Look whether each history leads on from the one before, step by step."""
    assert len(seen) > 20
    names = [record.step for record in seen[-1] if record.part is None]
    ended = 0
    for history in seen:
        steps = [record for record in history if record.part is None]
        assert [step.step for step in steps] == names[: len(steps)]
        assert all(step.outcome is not None for step in steps[:-1])
        assert [step.next_step for step in steps[:-1]] == names[1 : len(steps)]
        for before, step in zip(steps, steps[1:]):
            assert step.input is before.output or step.input is before.error
        done = sum(step.outcome is not None for step in steps)
        assert done >= ended
        ended = done
        parts = [(record.step, record.part) for record in history if record.part]
        assert len(parts) == len(set(parts))
        assert all(record.step in CHILDREN for record in history if record.child)


CHILDREN = ("Nest", "Both", "Nests")


def up(value: Any) -> Any:
    return [value]


def never(value: Any) -> None:
    raise ValueError(value)


def nested() -> StepFunction:
    builder = StepFunction("Nested")
    builder.add_step("X", up, next_step="Y")
    builder.add_step("Y", up)
    builder.set_start_step("X")
    return builder


def asked(target: str) -> dict[str, Any]:
    return {"branch": lambda output: target, "branch_targets": [target, "End"]}


def plain(builder: StepFunction) -> None:
    builder.add_step("A", up, next_step="B")


def chosen(builder: StepFunction) -> None:
    builder.add_step("A", up, **asked("C"))
    builder.add_step("C", up, **asked("B"))


def nesting(builder: StepFunction) -> None:
    builder.add_step("A", up, next_step="Nest")
    builder.add_sub_step_function("Nest", nested(), **asked("B"))


def failing(builder: StepFunction) -> None:
    builder.add_step("A", never, next_step="B", on_failure="B")


def retried(builder: StepFunction) -> None:
    failures = iter([ValueError(1), ValueError(2)])

    def flaky(value: Any) -> Any:
        for failure in failures:
            raise failure
        return value

    retry = RetryPolicy(3, interval=0)
    builder.add_step("A", flaky, retry=retry, **asked("C"))
    builder.add_step("C", never, retry=retry, on_failure="B")


def parallel(builder: StepFunction) -> None:
    tasks = {"one": up, "nest": nested()}
    builder.add_step("A", up, next_step="Both")
    builder.add_parallel_step("Both", tasks, executor="inline", **asked("B"))


def mapping(builder: StepFunction) -> None:
    builder.add_step("A", lambda value: [1, 2, 3], next_step="Items")
    builder.add_map_step("Items", up, executor="inline", next_step="Nests")
    builder.add_map_step("Nests", nested(), executor="inline", **asked("B"))


@pytest.mark.parametrize("listeners", [[], [lambda event: None]], ids=["", "told"])
@pytest.mark.parametrize(
    "add", [plain, chosen, nesting, failing, retried, parallel, mapping]
)
def test_whoever_looks_at_any_moment_sees_each_step_once(
    add: Callable[[StepFunction], None], listeners: list[Any]
) -> None:
    builder = StepFunction("Watched")
    add(builder)
    builder.add_step("B", up, next_step="End")
    check(history_at_every_line(builder, listeners=listeners), builder)


def test_a_step_after_one_that_asked_where_to_go_is_seen_under_way() -> None:
    executions: list[Execution] = []
    is_known = threading.Event()

    def look(value: Any) -> Any:
        assert is_known.wait(20)
        return [(it.step, it.outcome is None) for it in executions[0].history][-1]

    builder = StepFunction("Asked")
    builder.add_step("A", {"one": up}, parallel=True, **asked("C"))
    builder.add_step("C", look)
    builder.add_step("End", up)
    builder.set_start_step("A")
    execution = builder.start(0)
    executions.append(execution)
    is_known.set()
    assert execution.result(20) == ("C", True)


def test_a_child_is_never_seen_at_another_step() -> None:
    interval = sys.getswitchinterval()
    builder = StepFunction("Loop", max_steps=1_000_000, keep_history=1)
    builder.add_step("A", up, next_step="Nest")
    builder.add_sub_step_function("Nest", nested(), next_step="A")
    builder.set_start_step("A")
    sys.setswitchinterval(1e-6)
    try:
        execution = builder.start(0)
        for _ in range(5_000):
            seen = execution.history
            assert all(it.step == "Nest" for it in seen if it.child is not None)
    finally:
        execution.cancel()
        sys.setswitchinterval(interval)
        execution.wait()
