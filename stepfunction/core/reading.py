"""Reading: an execution out of its transcript.

Nothing that the text names is imported or called: exceptions come back as
``RemoteError``, functions as names that refuse to be called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from math import inf
from typing import Any, Literal, NoReturn, cast

from stepfunction.core.actions import (
    Fail,
    FanOut,
    MapItems,
    Pass,
    Wait,
    seconds_problem,
    until_problem,
)
from stepfunction.core.branch import Arrow, Branch
from stepfunction.core.calls import Call
from stepfunction.core.cancellation import Cancellation
from stepfunction.core.errors import (
    FailStepError,
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepFunctionError,
    TranscriptError,
)
from stepfunction.core.execution import (
    Blame,
    Execution,
    Omitted,
    Outcome,
    Status,
    Visit,
)
from stepfunction.core.graph import Graph, Step
from stepfunction.core.results import MapResults, TaskResults
from stepfunction.core.transcript import FORMAT, OURS, VERSION


def from_text(text: str | bytes) -> Execution:
    """Give the execution that a JSON text describes.

    Raises:
        TranscriptError: If the text is none that ``to_json`` has written.
    """
    if not isinstance(text, str | bytes | bytearray):
        raise TranscriptError(
            f"a transcript is the text that to_json() wrote, not {text!r}; "
            "of a file give what is in it"
        )
    try:
        return from_document(json.loads(text, parse_constant=_refuse_constant))
    except RecursionError:
        raise TranscriptError("the transcript is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, TranscriptError):
            raise
        raise TranscriptError(f"the transcript is no JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise TranscriptError(f"the transcript is no JSON: it has a bare {name}")


def from_document(document: Any) -> Execution:
    """Give the execution that data as of ``to_document`` describes.

    Raises:
        TranscriptError: If it is no such data.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TranscriptError(
            "this is no transcript of an execution, which Execution.to_json() writes: "
            f"its 'format' is not {FORMAT!r}"
        )
    version = document.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise TranscriptError(
            f"the transcript has version {version!r} and this stepfunction reads "
            f"version {VERSION}; read it with the one that wrote it, or a newer one"
        )
    return _Reader(document).execution(document.get("execution"), "execution")


class _Unperformed:
    """Stands for a function of which nothing but the name was written."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __repr__(self) -> str:
        return f"<{self.__qualname__}, of which a transcript has the name alone>"

    def __call__(self, *args: Any, **keywords: Any) -> NoReturn:
        raise StepFunctionError(
            f"{self.__qualname__} cannot be called: it was read from a transcript, "
            "which has no more of it than the name"
        )


class _ReadStep(Step):
    """A step that was read: it keeps its arrows, and not what they ask for."""

    _arrows: tuple[Arrow, ...] = ()

    def arrows(self) -> list[Arrow]:
        return list(self._arrows)


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._graphs: list[Graph] = []
        self._errors: list[BaseException] = []
        for index, it in enumerate(_get(document, "", "graphs", list)):
            self._graphs.append(self._graph(it, f"graphs[{index}]"))
        facts = _get(document, "", "errors", list)
        for index, it in enumerate(facts):
            self._errors.append(_new_error(it, f"errors[{index}]"))
        for index, it in enumerate(facts):
            self._link(self._errors[index], it, f"errors[{index}]")
        _refuse_circles(facts)

    def execution(self, written: Any, at: str) -> Execution:
        """Read an execution."""
        execution = Execution.__new__(Execution)
        number = _get(written, at, "graph", int | None)
        timeout = _get(written, at, "timeout", _NUMBER | None)
        error = self._error(written, at, "error")
        started = _get(written, at, "started", _NUMBER)
        if not 0 <= started < _LATEST:
            raise TranscriptError(f"{at}.started of the transcript is no date")
        execution.__dict__.update(
            workflow=_get(written, at, "workflow", str),
            status=_member(Status, _get(written, at, "status", str), f"{at}.status"),
            input=self._value(_get(written, at, "input", object), f"{at}.input"),
            output=self._value(_get(written, at, "output", object), f"{at}.output"),
            _id=_get(written, at, "id", str),
            _graph=None if number is None else _pick(self._graphs, number, at, "graph"),
            _journal=self._journal(_get(written, at, "steps", list), f"{at}.steps"),
            _first_failure=None,
            _began=0.0,
            _ended=_get(written, at, "duration", _NUMBER),
            _epoch=started,
            _timeout=inf if timeout is None else timeout,
            _blame=self._blame(_get(written, at, "blame", dict | None), f"{at}.blame"),
            _cancellation=Cancellation(),
            _audience=None,
            _is_live=False,
            _undone=tuple(
                self._undone(it, place)
                for place, it in _each(written, at, "compensations")
            ),
        )
        if error is not None:
            execution.error = error
        return execution

    def _journal(self, steps: list[Any], at: str) -> list[Any]:
        journal: list[Any] = []
        for index, step in enumerate(steps):
            place = f"{at}[{index}]"
            visit = self._visit(step, place, "step")
            result = visit.output if visit.error is None else visit.error
            journal += (visit, _get(step, place, "ended", _NUMBER), result)
        return journal

    def _visit(self, written: Any, at: str, subject: str) -> Visit:
        name = _get(written, at, subject, str)
        outcome = _get(written, at, "outcome", str)
        child = _get(written, at, "child", dict, None)
        given = None
        if "input" in written:
            given = (self._value(written["input"], f"{at}.input"),)
        attempts = [
            (
                _member(Outcome, _get(it, place, "outcome", str), place),
                _get(it, place, "began", _NUMBER),
                _get(it, place, "ended", _NUMBER),
                self._error(it, place, "error"),
            )
            for place, it in _each(written, at, "attempts")
        ]
        tasks = [
            self._visit(it, place, "task") for place, it in _each(written, at, "tasks")
        ]
        return Visit(
            name,
            _member(Outcome, outcome, f"{at}.outcome"),
            tuple(attempts),
            self._value(written.get("output"), f"{at}.output"),
            self._error(written, at, "error", None),
            tuple(tasks),
            None if child is None else self.execution(child, f"{at}.child"),
            given,
        )

    def _undone(self, written: Any, at: str) -> Visit:
        """Read what a compensation did, as it is noted: of a task inside its step's."""
        step, task = _get(written, at, "step", str), _get(written, at, "task", str | None)
        outcome = _get(written, at, "outcome", str)
        error = self._error(written, at, "error")
        ended = (
            _member(Outcome, outcome, f"{at}.outcome"),
            _get(written, at, "began", _NUMBER),
            _get(written, at, "ended", _NUMBER),
            error,
        )
        visit = Visit(
            step if task is None else task,
            ended[0],
            (ended,),
            self._value(_get(written, at, "output", object), f"{at}.output"),
            error,
            given=(self._value(_get(written, at, "input", object), f"{at}.input"),),
        )
        return visit if task is None else Visit(step, ended[0], tasks=(visit,))

    def _blame(self, written: Any, at: str) -> Blame | None:
        if written is None:
            return None
        error = self._error(written, at, "error")
        names_step = _get(written, at, "names_step", bool)
        if error is None or (names_step and not isinstance(error, StepExecutionError)):
            raise TranscriptError(f"{at} of the transcript names no error of a step")
        return Blame(_get(written, at, "step", str), error, names_step)

    def _value(self, written: Any, at: str) -> Any:
        if isinstance(written, list):
            return [self._value(it, f"{at}[{i}]") for i, it in enumerate(written)]
        if not isinstance(written, dict):
            return written
        key = next(iter(written), "")
        if len(written) == 1 and key.startswith("$"):
            return self._marked(key, written[key], f"{at}.{key}")
        return {key: self._value(it, f"{at}.{key}") for key, it in written.items()}

    def _marked(self, mark: str, it: Any, at: str) -> Any:
        if mark == "$repr" and isinstance(it, str):
            return Omitted(it)
        if mark == "$error" and type(it) is int:
            return _pick(self._errors, it, at, "error")
        if mark == "$float" and it in ("nan", "inf", "-inf"):
            return float(it)
        if mark == "$outcome" and it in tuple(Outcome):
            return Outcome(it)
        if mark == "$tuple" and isinstance(it, list):
            return tuple(self._value(it, at))
        if mark == "$dict" and isinstance(it, list):
            try:
                return {self._value(k, at): self._value(v, at) for k, v in it}
            except TypeError as error:
                raise TranscriptError(f"{at} of the transcript: {error}") from None
        if mark == "$results" and isinstance(it, list) and len(it) == 2:
            results = self._value(it[0], at)
            failure = None if it[1] is None else self._marked("$error", it[1], at)
            if isinstance(results, dict):
                if isinstance(failure, ParallelStepExecutionError | None):
                    return TaskResults(results, failure)
        if mark == "$items" and isinstance(it, list) and len(it) == 2:
            items = self._value(it[0], at)
            failure = None if it[1] is None else self._marked("$error", it[1], at)
            if isinstance(items, list):
                if isinstance(failure, ParallelStepExecutionError | None):
                    return MapResults(items, failure)
        raise TranscriptError(
            f"{at} of the transcript is not a value that to_json() writes"
        )

    def _error(
        self, written: Any, at: str, key: str, default: Any = ...
    ) -> BaseException | None:
        number = _get(written, at, key, int | None, default)
        if number is None:
            return None
        return cast(BaseException, _pick(self._errors, number, at, key))

    def _link(self, error: BaseException, facts: Any, at: str) -> None:
        cause = self._error(facts, at, "cause")
        trace = _get(facts, at, "traceback", str | None)
        if isinstance(error, StepExecutionError):
            # What it comes from is the step's own exception, and nothing before it.
            error.__dict__["_recorded_traceback"] = trace
        elif trace is not None:
            remote = RemoteTraceback(trace)
            remote.__cause__, cause = cause, remote
        error.__cause__ = cause
        if isinstance(error, ParallelStepExecutionError):
            are_items = _get(facts, at, "are_items", bool, False)
            key = partial(_index, at=at) if are_items else str
            outcomes = {
                key(task): _member(Outcome, it, f"{at}.outcomes.{task}")
                for task, it in _get(facts, at, "outcomes", dict).items()
            }
            results = {
                key(task): self._value(it, f"{at}.results.{task}")
                for task, it in _get(facts, at, "results", dict).items()
            }
            errors = _get(facts, at, "errors", dict)
            failed = {
                key(task): cast(
                    BaseException, self._error(errors, f"{at}.errors", task)
                )
                for task in errors
            }
            error.outcomes, error.results, error.errors = outcomes, results, failed
            error.args = (*error.args[:2], outcomes, results, failed)

    def _graph(self, written: Any, at: str) -> Graph:
        start = _get(written, at, "start", str)
        steps = [self._step(it, place) for place, it in _each(written, at, "steps")]
        table = {step.name: step for step in steps}
        for step in steps:
            named = [arrow.target for arrow in step.arrows()]
            for name in [*named, *(origin for _, origin in step.inputs or ())]:
                if name not in table:
                    raise TranscriptError(
                        f"{at} of the transcript has an arrow to {name!r}, "
                        "which is no step of it"
                    )
        if start not in table:
            raise TranscriptError(f"{at}.start of the transcript is no step of it")
        return Graph(
            _get(written, at, "name", str),
            start,
            table,
            (start, {}, 0),  # nothing here can be run
            frozenset(map(str, _get(written, at, "failure_steps", list))),
            _get(written, at, "max_steps", int | None),
            keep_history=_get(written, at, "keep_history", int | None, None),
        )

    def _step(self, written: Any, at: str) -> Step:
        arrows = tuple(
            Arrow(
                cast(Any, _one_of(_get(it, place, "kind", str), _KINDS, place)),
                _get(it, place, "label", str),
                _get(it, place, "target", str),
            )
            for place, it in _each(written, at, "arrows")
        )
        follower = [arrow.target for arrow in arrows if arrow.kind == "next"]
        inputs = _get(written, at, "inputs", dict | None, None)
        retry = _get(written, at, "retry", str | None)
        ends = _get(written, at, "ends", str | None)
        step = _ReadStep(
            _get(written, at, "name", str),
            self._action(_get(written, at, "action", dict), f"{at}.action"),
            next_step=follower[0] if follower else None,
            branch=_branch(written, at, arrows),
            retry=cast(Any, None if retry is None else Omitted(retry)),
            executor=cast(Any, _get(written, at, "executor", str | None)),
            timeout=_get(written, at, "timeout", _NUMBER | None),
            heartbeat=_get(written, at, "heartbeat", _NUMBER | None),
            ends=cast(Literal["completed", "failed"] | None, ends),
            inputs=None if inputs is None else _pairs(inputs, f"{at}.inputs"),
            compensate=_compensation(written, at),
        )
        step._arrows = arrows
        return step

    def _action(self, written: Any, at: str) -> Any:
        kind = _get(written, at, "kind", str)
        _one_of(kind, (*_ACTIONS, "map", "parallel", "workflow"), f"{at}.kind")
        if kind in _ACTIONS:
            return _ACTIONS[kind](written, at)
        if kind == "workflow":
            return _pick(self._graphs, _get(written, at, "graph", int), at, "graph")
        if kind == "map":
            return self._map(written, at)
        tolerated = _get(written, at, "tolerated", _NUMBER | None)
        tasks = _get(written, at, "tasks", dict)
        if not tasks:
            raise TranscriptError(f"{at}.tasks of the transcript is empty")
        return FanOut(
            {
                name: self._action(task, f"{at}.tasks.{name}")
                for name, task in tasks.items()
            },
            _get(written, at, "stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            _get(written, at, "max_workers", int | None),
        )


    def _map(self, written: Any, at: str) -> MapItems:
        items = _get(written, at, "items", str | int | None)
        tolerated = _get(written, at, "tolerated", _NUMBER | str | None)
        if _get(written, at, "picks", bool):
            items = _Unperformed(str(items))
        return MapItems(
            self._action(_get(written, at, "call", dict), f"{at}.call"),
            items,
            _get(written, at, "batch_size", int),
            _get(written, at, "stop_on_failure", bool),
            inf if tolerated is None else tolerated,
            _get(written, at, "max_workers", int | None),
            _get(written, at, "keep_results", bool),
        )


_NUMBER = int | float
_NUMBERS = (_NUMBER, _NUMBER | None)
_LARGEST = 1e300  # beyond which it may be infinite, or no float
_LATEST = 253_402_300_800  # the end of the year 9999, beyond which there are no dates
_KINDS = ("next", "branch", "failure")


def _get(written: Any, at: str, key: str, kind: Any, default: Any = ...) -> Any:
    """Give a part of what was written, if it is of its kind."""
    place = f"{at}.{key}" if at else key
    if not isinstance(written, dict):
        raise TranscriptError(f"{at} of the transcript is {written!r:.60}, no object")
    value = written.get(key, default)
    if value is ...:
        raise TranscriptError(f"the transcript lacks {place}")
    if value is default:
        return value
    if (
        not isinstance(value, kind)
        or (isinstance(value, bool) and kind not in _ANY)
        or (kind in _NUMBERS and value is not None and not abs(value) < _LARGEST)
    ):
        raise TranscriptError(f"{place} of the transcript cannot be {value!r:.60}")
    return value


_ANY = (bool, object)


def _read_call(written: Any, at: str) -> Call:
    return Call(_Unperformed(_get(written, at, "function", str)))


def _read_wait(written: Any, at: str) -> Wait:
    seconds = _get(written, at, "seconds", _NUMBER | dict | None)
    until: Any = _get(written, at, "until", str | dict | None)
    if isinstance(seconds, dict):
        seconds = _Unperformed(_get(seconds, f"{at}.seconds", "function", str))
    elif seconds is not None and seconds_problem(seconds):
        raise TranscriptError(f"{at}.seconds of the transcript cannot be {seconds!r}")
    if isinstance(until, dict):
        until = _Unperformed(_get(until, f"{at}.until", "function", str))
    elif until is not None:
        until = _moment(until, f"{at}.until")
    if (seconds is None) is (until is None):
        raise TranscriptError(f"{at} of the transcript has not one of seconds and until")
    return Wait(seconds, until)


def _moment(text: str, at: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TranscriptError(f"{at} of the transcript cannot be {text!r:.60}") from None
    if until_problem(moment):
        raise TranscriptError(f"{at} of the transcript has no time zone")
    return moment


def _read_pass(written: Any, at: str) -> Pass:
    return Pass(_get(written, at, "is_constant", bool), Omitted("the constant"))


def _read_fail(written: Any, at: str) -> Fail:
    return Fail(_get(written, at, "error", str), _get(written, at, "cause", str | None))


_ACTIONS: dict[str, Callable[[Any, str], Any]] = {
    "call": _read_call,
    "wait": _read_wait,
    "pass": _read_pass,
    "fail": _read_fail,
}


def _branch(written: Any, at: str, arrows: tuple[Arrow, ...]) -> Branch | None:
    if not _get(written, at, "branches", bool):
        return None
    if not _get(written, at, "conditions", bool, False):
        return Branch(chooser=_Unperformed("a branch"))
    led_to = [arrow for arrow in arrows if arrow.kind == "branch"]
    return Branch(conditions=tuple((_Unperformed(it.label), it.target) for it in led_to))


def _compensation(written: Any, at: str) -> Any:
    undo = _get(written, at, "compensate", str | dict | None, None)
    if isinstance(undo, dict):
        pairs = _pairs(undo, f"{at}.compensate")
        return tuple((task, Call(_Unperformed(name))) for task, name in pairs)
    return None if undo is None else Call(_Unperformed(undo))


def _pairs(written: dict[str, Any], at: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, _get(written, at, key, str)) for key in written)


def _index(task: str, at: str) -> Any:
    """Give the index of an item, which is the key of it where it failed."""
    if not task.isdecimal():
        raise TranscriptError(f"{at} of the transcript has an item {task!r:.60}")
    return int(task)


def _each(written: Any, at: str, key: str) -> list[tuple[str, Any]]:
    items = _get(written, at, key, list, [])
    return [(f"{at}.{key}[{index}]", item) for index, item in enumerate(items)]


def _pick(table: list[Any], number: int, at: str, key: str) -> Any:
    if not 0 <= number < len(table):
        raise TranscriptError(f"{at}.{key} of the transcript: there is no {number}")
    return table[number]


def _member(kinds: Any, name: Any, at: str) -> Any:
    return kinds(_one_of(name, tuple(kinds), at))


def _one_of(value: Any, known: tuple[str, ...], at: str) -> Any:
    if value not in known:
        listed = ", ".join(known)
        raise TranscriptError(
            f"{at} of the transcript is {value!r:.60}, and none of {listed}"
        )
    return value


def _new_error(facts: Any, at: str) -> BaseException:
    name, text = _get(facts, at, "type", str), _get(facts, at, "text", str)
    if OURS.get(name) is FailStepError and "reason" in facts:
        error = _get(facts, at, "error", str)
        return FailStepError(text, error, _get(facts, at, "reason", str | None))
    if name not in OURS or "step" not in facts:  # which one from afar has lost
        return RemoteError(f"{name}: {text}" if text else name, name, text)
    step = _get(facts, at, "step", str)
    if OURS[name] is ParallelStepExecutionError:
        return ParallelStepExecutionError(text, step, {}, {}, {})
    ours: StepExecutionError = OURS[name](text, step)
    return ours


def _refuse_circles(facts: list[Any]) -> None:
    ended: set[int] = set()  # from where a chain has been followed to its end
    for index in range(len(facts)):
        chain: set[int] = set()
        number: int | None = index
        while number is not None and number not in ended:
            if number in chain:
                text = f"errors[{index}] of the transcript causes itself"
                raise TranscriptError(text)
            chain.add(number)
            number = facts[number]["cause"]
        ended |= chain
