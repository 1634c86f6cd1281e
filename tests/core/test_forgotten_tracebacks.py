"""A traceback of a failure that is gone on after reads as it did."""

from __future__ import annotations

import inspect
import subprocess
import sys
import traceback
from types import TracebackType
from typing import Any

import pytest

from stepfunction import StepFunction


def handled(func: Any) -> StepFunction:
    flow = StepFunction("W").add_step("A", func, on_failure="Caught")
    flow.add_step("Caught", str, ends="completed")
    return flow.set_start_step("A")


def both_ways(func: Any) -> tuple[BaseException, BaseException]:
    """Give what a function fails with, as it is kept and as it is forgotten."""
    kept = handled(func).execute(3, keep_locals=True).failures[0].error
    forgotten = handled(func).execute(3).failures[0].error
    assert kept is not None and forgotten is not None
    return kept, forgotten


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def one(value: int) -> None:
    raise ValueError(value)


def deep(value: int) -> int:
    return deep(value + 1) + 1 if value < 400 else value // 0


def in_a_lambda(value: int) -> Any:
    return [(lambda it: it["no"])(item) for item in ({},)]


def of_no_line_here(value: int) -> Any:
    return int("no")


def in_a_generator(value: int) -> Any:
    return sum(1 // (it - value) for it in range(9))


class Closed:
    def __enter__(self) -> None: ...

    def __exit__(self, *raised: Any) -> None:
        raise KeyError("closing")


def in_a_block(value: int) -> None:
    with Closed():
        raise ValueError(value)


def of_a_group(value: int) -> None:
    try:
        one(value)
    except ValueError as error:
        raise ExceptionGroup("some", [error, KeyError(1)]) from error


def of_two_lines(value: int) -> float:
    return (
        value
        / (value - value)
    )


EVERY = [
    one,
    deep,
    in_a_lambda,
    of_no_line_here,
    in_a_generator,
    in_a_block,
    of_a_group,
    of_two_lines,
    bytes.fromhex,
]


@pytest.mark.parametrize("func", EVERY, ids=lambda it: it.__name__)
def test_the_text_is_the_same(func: Any) -> None:
    kept, forgotten = both_ways(func)
    assert text_of(kept) == text_of(forgotten)


@pytest.mark.parametrize("func", EVERY, ids=lambda it: it.__name__)
def test_each_frame_tells_where_it_was_and_nothing_else(func: Any) -> None:
    kept, forgotten = both_ways(func)
    before, after = kept.__traceback__, forgotten.__traceback__
    while before is not None and after is not None:
        assert before.tb_lineno == after.tb_lineno
        assert before.tb_lasti == after.tb_lasti
        was, code = before.tb_frame.f_code, after.tb_frame.f_code
        assert was.co_name == code.co_name and was.co_qualname == code.co_qualname
        assert was.co_filename == code.co_filename
        assert was.co_firstlineno == code.co_firstlineno
        name = "__name__"
        assert before.tb_frame.f_globals[name] == after.tb_frame.f_globals[name]
        assert after.tb_frame.f_locals == {}
        assert after.tb_frame.f_back is None
        before, after = before.tb_next, after.tb_next
    assert before is after is None


def test_what_shows_frames_can_show_them() -> None:
    kept, forgotten = both_ways(in_a_lambda)
    shown = [
        [frame[1:] for frame in inspect.getinnerframes(error.__traceback__)]
        for error in (kept, forgotten)
        if error.__traceback__ is not None
    ]
    assert shown[0] == shown[1]
    stack = traceback.StackSummary.extract(
        traceback.walk_tb(forgotten.__traceback__), capture_locals=True
    )
    assert [frame.name for frame in stack][0] == "in_a_lambda"


def test_lines_that_a_loader_has_are_found() -> None:
    source = "def fail(value):\n    raise ValueError('of a loader')\n"

    class Loader:
        def get_source(self, name: str) -> str:
            return source

    space: dict[str, Any] = {"__name__": "virtual", "__loader__": Loader()}
    exec(compile(source, "<of a loader>/virtual.py", "exec"), space)
    kept, forgotten = both_ways(space["fail"])
    assert "raise ValueError('of a loader')\n" in text_of(forgotten)
    assert text_of(kept) == text_of(forgotten)


@pytest.mark.parametrize("depth", [1, 2])
def test_lines_that_somebody_has_set_stay(depth: int) -> None:
    def of_a_template(value: int) -> None:
        try:
            one(value)
        except ValueError as error:
            found = error
        way = found.__traceback__
        assert way is not None and way.tb_next is not None
        way, told = way.tb_next, None
        for line in range(depth):  # as of the template that this was made of
            told = TracebackType(told, way.tb_frame, way.tb_lasti, 7000 + line)
        found.__traceback__ = told
        raise found

    kept, forgotten = both_ways(of_a_template)
    lines = [line for _, line in traceback.walk_tb(forgotten.__traceback__)]
    assert lines[1:] == list(reversed(range(7000, 7000 + depth)))
    assert text_of(kept) == text_of(forgotten)


def test_code_without_end_is_read_right() -> None:
    def made(number: int) -> Any:
        space: dict[str, Any] = {}
        lines = "\n" * (number % 7)
        code = f"{lines}def f{number}(value): raise ValueError({number})"
        exec(compile(code, f"<made {number}>", "exec"), space)
        return space[f"f{number}"]

    for number in range(2200):
        error = handled(made(number)).execute(1).failures[0].error
        assert error is not None
        (frame,) = traceback.extract_tb(error.__traceback__)
        found = (frame.filename, frame.name, frame.lineno)
        assert found == (f"<made {number}>", f"f{number}", number % 7 + 1)


def test_it_can_be_raised_handled_and_forgotten_again() -> None:
    error = both_ways(one)[1]

    def again(value: int) -> None:
        raise error

    for _ in range(3):
        assert handled(again).execute(1).failures[0].error is error
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames == ["again", "again", "again", "one"]


def test_who_clears_frames_may_clear_it() -> None:
    error = both_ways(one)[1]
    text = text_of(error)
    traceback.clear_frames(error.__traceback__)
    assert text_of(error) == text
    assert error.__traceback__ is not None
    frame = error.__traceback__.tb_frame
    assert frame.f_back is None and frame.f_locals == {}
    assert text_of(both_ways(one)[1]) == text


def test_a_debugger_that_traces_sees_none_of_it() -> None:
    seen: list[str] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_name == "one":
            seen.append(event)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        handled(one).execute(1)
        handled(one).execute(1)
    finally:
        sys.settrace(before)
    assert seen == 2 * ["call", "line", "exception", "return"]


def test_an_audit_that_refuses_leaves_the_failure_as_it_is() -> None:
    script = """if True:
        import sys, traceback
        from stepfunction import StepFunction
        flow = StepFunction("W").add_step("A", lambda it: it / 0, on_failure="B")
        flow.add_step("B", str, ends="completed").set_start_step("A").compile()

        def refuse(event, arguments):
            if event == "code.__new__":
                raise RuntimeError("no code is made here")

        sys.addaudithook(refuse)
        execution = flow.execute(1)
        assert execution.status == "COMPLETED"
        assert execution.failures[0].error.__traceback__ is not None
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


class Odd(dict[str, Any]):
    """The variables of a module, of a class whose ways all fail."""

    def get(self, *asked: Any) -> Any:
        raise RuntimeError("get")

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __contains__(self, name: object) -> bool:
        raise RuntimeError("in")


@pytest.mark.parametrize("executor", (None, "inline", "thread"))
@pytest.mark.parametrize(
    "variables", (Odd(), {"__package__": []}, {"__package__": Odd()})
)
def test_a_function_fails_whatever_the_variables_of_its_module_are(
    variables: dict[str, Any], executor: Any
) -> None:
    exec("def bad(value):\n    return value // 0", variables)
    flow = StepFunction("W")
    bad = dict.__getitem__(variables, "bad")
    flow.add_step("A", bad, executor=executor, on_failure="Caught")
    flow.add_step("Caught", str, ends="completed").set_start_step("A")

    (failed,) = flow.execute(3).failures

    assert failed.error is not None and failed.error.__traceback__ is not None
    assert type(failed.error) is ZeroDivisionError
    assert not failed.error.__traceback__.tb_frame.f_locals
