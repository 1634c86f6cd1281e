"""Parts: how the parts of a step are read out of a document.

What is wrong is noted with its place, and something stands in for the part, so that
the rest is checked too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from stepfunction.core.errors import DefinitionError, Problem
from stepfunction.core.transcript.parts import Path, place, shown
from stepfunction.core.wording import did_you_mean
from stepfunction.core.workers.retry import RetryPolicy
from stepfunction.declarative.importing import NoSuchName
from stepfunction.declarative.kinds import KINDS
from stepfunction.declarative.naming import Names

SUBJECT = "document"
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)"
)


class _Unread(Exception):
    """A part is not what it should be, which has been noted, and is left out."""


class PartReader:
    """Reads parts of a document.

    Args:
        builder: The class of the workflows.
        names: What its functions are called.
        marks: Where a text has each part, as messages begin with it.
    """

    def __init__(
        self, builder: type[Any], names: Names, marks: Mapping[Path, str]
    ) -> None:
        self.problems: list[str] = []
        self.told: set[Path] = set()  # of what has been said all there is to say
        self.nested: dict[str, Any] = {}
        self._builder = builder
        self._names = names
        self._marks = marks

    def made(
        self,
        make: Any,
        at: Path,
        written: Mapping[str, Any],
        renamed: Mapping[str, str] = {},
    ) -> Any:
        """Give what is made, or note where what is wrong with it stands.

        Args:
            make: Makes it.
            at: Where it is described.
            written: What is written there.
            renamed: What an argument is called in a document, if otherwise.
        """
        try:
            return make()
        except DefinitionError as error:
            for problem in error.problems:
                where = _part_of(problem, written, renamed)
                if (*at, *where) not in self.told:
                    self.note((*at, *where), problem)
            return self._builder("?")

    # --- the parts of a step ------------------------------------------------------

    def argument(
        self,
        arguments: dict[str, Any],
        written: dict[str, Any],
        key: str,
        at: Path,
        read: Read | None = None,
    ) -> None:
        """Read what a key has, if it is there, into an argument of its name."""
        if key not in written:
            return
        value, path = written[key], (*at, key)
        if value is None and key not in _MAY_BE_NULL:
            self.note(path, "null is no value for it; leave it out")
            return
        try:
            arguments[key] = value if read is None else read(self, value, path)
        except _Unread:
            return

    def _func(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            try:
                return self._names.function(value)
            except NoSuchName as reason:
                self.note(path, str(reason))
                return unread
        hint = ""
        if isinstance(value, dict):
            kind = "workflow" if "workflow" in value else "parallel"
            hint = f"; give the step {_typed(kind)}"
        self.note(path, f"give the name of a function, not {shown(value)}{hint}")
        return unread

    def _callee(self, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._func(value, path)
        self.check_keys(value, path, ("workflow",), ("workflow",))
        if "workflow" not in value:
            return self._builder("?")
        return self._workflow(value["workflow"], (*path, "workflow"))

    def _workflow(self, value: Any, path: Path) -> Any:
        if isinstance(value, str) and value in self.nested:
            return self.nested[value]
        hint = did_you_mean(value, self.nested) if isinstance(value, str) else ""
        self.note(path, f"'workflows' has no {shown(value)}{hint}")
        return self._builder("?")

    def _tasks(self, value: Any, path: Path) -> Any:
        self._expect(value, dict, "an object of task to function", path)
        return {task: self._callee(it, (*path, task)) for task, it in value.items()}

    def _value_or_func(self, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return value
        self.check_keys(value, path, ("func",), ("func",))
        if "func" not in value:
            raise _Unread
        return self._func(value["func"], (*path, "func"))

    def _until(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return self._value_or_func(value, path)
        try:
            if isinstance(value, str) and _MOMENT.fullmatch(value):
                return datetime.fromisoformat(value)
        except ValueError:
            pass  # such as a 13th month
        self.note(
            path,
            f"{shown(value)} is no moment; give date, time and offset, as in "
            "'2030-01-31T08:00:00+01:00'",
        )
        return lambda _: None  # so that there is one

    def _on_failure(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            rows = [(key, to, (*path, key)) for key, to in value.items()]
        elif isinstance(value, list):
            rows = [
                (it["error"], it["step"], (*path, index, "error"))
                for index, it in self._entries(value, path, "error")
            ]
        else:
            return value
        arrows: dict[Any, Any] = {}
        for name, target, where in rows:
            error = self._error(name, where)
            if error in arrows:
                self.note(where, f"{name!r} is there more than once")
            elif error is not None:
                arrows[error] = target
        if value and not arrows:
            raise _Unread
        return arrows

    def _error(self, value: Any, path: Path) -> Any:
        if not isinstance(value, str):
            text = f"give the name of an exception class, not {shown(value)}"
            self.note(path, text)
            return None
        try:
            return self._names.error(value)
        except NoSuchName as reason:
            self.note(path, str(reason))
            return None

    def _branch(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            return self._func(value, path)
        if not isinstance(value, list):
            self._expect(value, dict, "an object, a list or a name", path)
            return dict(value)
        if not value:
            return value
        if any(isinstance(it, dict) and "if" in it for it in value):
            return [
                (self._func(it["if"], (*path, index, "if")), it["step"])
                for index, it in self._entries(value, path, "if")
            ] or _leave_out()
        table: dict[Any, Any] = {}
        for index, it in self._entries(value, path, "result"):
            result, where = it["result"], (*path, index, "result")
            if not isinstance(result, str | int | float | None):
                text = f"a text, a number, true, false or null, not {shown(result)}"
                self.note(where, f"give {text}")
            elif result in table:
                twin = next(key for key in table if key == result)
                self.note(where, f"{result!r} and {twin!r} are one key in Python")
            else:
                table[result] = it["step"]
        return table or _leave_out()

    def _entries(self, value: list[Any], path: Path, key: str) -> Entries:
        """Give the entries of a list that say what leads to which step."""
        for index, it in enumerate(value):
            where = (*path, index)
            if not isinstance(it, dict):
                first = "'result', or 'if'," if key == "result" else repr(key)
                text = f"give an object of {first} and 'step', not {shown(it)}"
                self.note(where, text)
                continue
            self.check_keys(it, where, (key, "step"), (key, "step"))
            if key in it and "step" in it:
                yield index, it

    def _retry(self, value: Any, path: Path) -> Any:
        self._expect(value, dict, "an object", path)
        self.check_keys(value, path, (), RetryPolicy._fields)
        options: dict[str, Any] = {}
        for key in RetryPolicy._fields:
            self.argument(options, value, key, path, READ.get(key))
        made = self.made(lambda: RetryPolicy(**options), path, value)
        return made if isinstance(made, RetryPolicy) else _leave_out()

    def _retry_on(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list):
            return self._error(value, path) or _leave_out()
        errors = [self._error(it, (*path, index)) for index, it in enumerate(value)]
        if None in errors:
            raise _Unread
        return tuple(errors)

    def _compensate(self, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._func(value, path)
        return {task: self._func(it, (*path, task)) for task, it in value.items()}

    def _inputs(self, value: Any, path: Path) -> Any:
        self._expect(value, dict, "an object of parameter to step", path)
        for name, step in value.items():
            self._expect(step, str, "the name of a step", (*path, name))
        return dict(value)

    def _flag(self, value: Any, path: Path) -> Any:
        self._expect(value, bool, "true or false", path)
        return value

    def _object(self, value: Any, path: Path) -> Any:
        self._expect(value, dict, "an object", path)
        return self._data(value, path)

    def _data(self, value: Any, path: Path) -> Any:
        from copy import deepcopy

        return deepcopy(value)

    # --- what is wrong ------------------------------------------------------------

    def _expect(self, value: Any, kind: type, what: str, path: Path) -> None:
        if not isinstance(value, kind):
            self.note(path, f"give {what}, not {shown(value)}")
            raise _Unread

    def check_keys(
        self,
        written: dict[str, Any],
        at: Path,
        required: tuple[str, ...],
        known: tuple[str, ...],
    ) -> None:
        for key in required:
            if key not in written:
                self.note((*at, key), "it is missing")
        for key in written:
            if key not in known and isinstance(key, str):
                self.note((*at, key), f"this key is not known{_hint(key, known)}")

    def note(self, path: Path, problem: str) -> None:
        where = place(path)
        text = f"{where}: {problem}" if where else problem
        while path and path not in self._marks:  # as of what is missing
            path = path[:-1]
        self.problems.append(self._marks.get(path, "") + text)

    def _raise_problems(self) -> None:
        if self.problems:
            raise DefinitionError(SUBJECT, self.problems)


def _leave_out() -> Any:
    raise _Unread


def unread(value: Any = None, context: Any = None, **params: Any) -> None:
    """Stand for a function that is not there, while the rest is checked."""


def _hint(key: str, known: tuple[str, ...]) -> str:
    if "type" in known:
        if key in KINDS:
            return f"; give the step {_typed(key)}"
        takers = [name for name, it in KINDS.items() if key in (*it.required, *it.keys)]
        if takers:
            return f"; it goes with {' or '.join(map(_typed, takers))}"
    return did_you_mean(key, known)


def _typed(kind: str) -> str:
    return f'"type": "{kind}"'


def _part_of(
    problem: str, written: Mapping[str, Any], renamed: Mapping[str, str]
) -> Path:
    """Give the part of what is written that a builder's problem is about."""
    if not isinstance(problem, Problem) or not problem.path:
        return ()
    first, *rest = problem.path
    key = renamed.get(first, first)
    return (key, *rest) if key in written else ()


Entries: TypeAlias = Iterator[tuple[int, dict[str, Any]]]
Read: TypeAlias = Callable[[PartReader, Any, Path], Any]

_MAY_BE_NULL = ("result", "max_delay", "jitter")
READ: Mapping[str, Read] = {
    "branch": PartReader._branch,
    "compensate": PartReader._compensate,
    "func": PartReader._func,
    "inputs": PartReader._inputs,
    "items": PartReader._value_or_func,
    "keep_results": PartReader._flag,
    "map func": PartReader._callee,
    "on_failure": PartReader._on_failure,
    "parallel func": PartReader._tasks,
    "params": PartReader._object,
    "result": PartReader._data,
    "retry": PartReader._retry,
    "retry_on": PartReader._retry_on,
    "seconds": PartReader._value_or_func,
    "stop_on_failure": PartReader._flag,
    "until": PartReader._until,
    "workflow": PartReader._workflow,
}
