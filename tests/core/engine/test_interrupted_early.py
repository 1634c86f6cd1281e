"""Interrupts that come where nobody is at work yet, or any more."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from stepfunction import Status, StepFunction, StepFunctionError, core

ENGINE = core.__path__[0] + "/engine"


def nested() -> StepFunction:
    builder = StepFunction("Nested")
    builder.add_step("X", lambda value: value)
    builder.set_start_step("X")
    return builder


def chain() -> StepFunction:
    builder = StepFunction("Chain")
    builder.add_step("A", lambda value: value, next_step="Nest")
    builder.add_sub_step_function("Nest", nested())
    builder.set_start_step("A")
    return builder


class Interrupting:
    """Lets a KeyboardInterrupt come at a line of the functions that run executions."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(ENGINE):
            return None
        if code.co_name in ("carry_out", "run_to_end", "sprint", "walk"):
            return self.line
        return None

    def line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and "try" not in source_line(frame):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.line


def source_line(frame: FrameType) -> str:
    import linecache

    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)


@pytest.mark.parametrize("listeners", [[], [lambda event: None]], ids=["", "told"])
def test_an_interrupted_execution_is_over_wherever_the_interrupt_came(
    listeners: list[Any],
) -> None:
    number = 0
    while True:
        number += 1
        builder, seen = chain(), []
        interrupting = Interrupting(number)

        def remember(event: Any) -> None:
            seen.append(event.execution)

        sys.settrace(interrupting)
        try:
            builder.execute(1, listeners=listeners and [remember])
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if interrupting.left > 0:
            break
        latest = builder._latest
        assert latest is not None
        if latest.status is not Status.INITIALIZED:
            assert latest.status in (Status.CANCELLED, Status.COMPLETED), number
            assert latest.wait(0)
            for child in latest.children.values():
                assert child.status is not Status.RUNNING, number
    assert number > 20


def test_an_execution_that_no_thread_can_time_has_failed(monkeypatch) -> None:
    import threading

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    builder = chain()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        builder.execute(1, timeout=5)
    execution = builder._latest
    assert execution is not None
    assert execution.status is Status.FAILED
    assert execution.wait(0)
    with pytest.raises(StepFunctionError, match="new thread"):
        execution.result(0)


class Value:
    pass


def in_a_task(builder: StepFunction) -> None:
    builder.add_step("A", {"nest": nested()}, parallel=True)


def inline_in_a_task(builder: StepFunction) -> None:
    builder.add_step("A", {"nest": nested()}, parallel=True, executor="inline")


def in_items(builder: StepFunction) -> None:
    builder.add_map_step("A", nested(), items=lambda value: [value])


def with_a_timeout(builder: StepFunction) -> None:
    builder.add_sub_step_function("A", nested(), timeout=60)


@pytest.mark.parametrize(
    "add", [in_a_task, inline_in_a_task, in_items, with_a_timeout]
)
def test_a_nested_execution_goes_with_what_it_was_nested_in(
    add: Callable[[StepFunction], None],
) -> None:
    value = Value()
    is_held = weakref.ref(value)
    builder = StepFunction("Outer")
    add(builder)
    builder.set_start_step("A")
    gc.disable()
    try:
        execution = builder.execute(value)
        assert execution.children
        builder._latest = None
        del execution, value
        assert is_held() is None
    finally:
        gc.enable()
