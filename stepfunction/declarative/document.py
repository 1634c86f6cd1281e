"""Document: a workflow as JSON data, its functions by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from math import inf
from typing import Any

from stepfunction.core.definition.branch import Branch
from stepfunction.core.definition.compiling import definition_of
from stepfunction.core.definition.graph import Step
from stepfunction.core.errors import DefinitionError
from stepfunction.core.transcript.parts import Path, place, shown
from stepfunction.core.transcript.strictness import StrictWriter
from stepfunction.core.wording import plain_text
from stepfunction.core.workers.retry import RetryPolicy
from stepfunction.declarative.importing import NoSuchName
from stepfunction.declarative.naming import Names
from stepfunction.declarative.registry import FunctionRegistry

FORMAT = "stepfunction/1"
# What stays out of a document where it is so.
_DEFAULT_RETRY = RetryPolicy()
_TASKS_RUN_ON = "thread"


def to_document(workflow: Any, registry: FunctionRegistry) -> dict[str, Any]:
    """Give a workflow, and all that are nested in it, as JSON data.

    Args:
        workflow: A StepFunction.
        registry: The names of its functions.

    Raises:
        DefinitionError: If JSON cannot hold a part of it, or a function has no name,
            with the place of each.
    """
    return _Writer(registry).document(workflow)


class _Writer:
    def __init__(self, registry: FunctionRegistry) -> None:
        self._names = Names(registry)
        self._problems: list[str] = []
        self._keys: dict[Any, str] = {}
        self._waiting: list[Any] = []
        self._at: Path = ()

    def document(self, workflow: Any) -> dict[str, Any]:
        written: dict[str, Any]
        written = {"format": FORMAT, "name": workflow.name, **self._parts(workflow, ())}
        workflows = {}
        for nested in self._waiting:  # which grows as it is walked
            key = self._keys[nested]
            name = {} if key == nested.name else {"name": nested.name}
            parts = self._parts(nested, ("workflows", key))
            workflows[key] = {**name, **parts}
        if workflows:
            written["workflows"] = workflows
        if self._problems:
            what = f"workflow {workflow.name!r} cannot be written"
            raise DefinitionError(what, self._problems)
        return written

    def _parts(self, workflow: Any, at: Path) -> dict[str, Any]:
        self._at = at
        definition = definition_of(workflow)
        facts: dict[str, Any] = {
            "description": definition.description,
            "start": definition.start,
            "max_steps": definition.max_steps,
            "keep_history": definition.keep_history,
        }
        written = {key: value for key, value in facts.items() if value is not None}
        if definition.on_failure is not None:
            self._on_failure(written, "on_failure", definition.on_failure)
        written["steps"] = {
            name: self._step(step, (*at, "steps", name))
            for name, step in definition.steps.items()
        }
        return written

    def _step(self, step: Step, at: Path) -> dict[str, Any]:
        self._at = at
        kind = step.action.kind
        written: dict[str, Any] = {} if kind == "call" else {"type": kind}
        said, *others = _FIELDS
        self._field(written, step, said)  # which is for people, and so comes first
        _ACTIONS[kind](self, written, step.action)
        for key in others:
            self._field(written, step, key)
        return written

    def _field(self, written: dict[str, Any], step: Step, key: str) -> None:
        value = getattr(step, key)
        if value is not None:
            _FIELDS[key](self, written, key, value)

    # --- what a step does ---------------------------------------------------------

    def _call(self, written: dict[str, Any], action: Any) -> None:
        written["func"] = self._name(action.function, "func")
        self._params(written, action)

    def _nested(self, written: dict[str, Any], action: Any) -> None:
        written["workflow"] = self._key(action.nested)

    def _fan_out(self, written: dict[str, Any], action: Any) -> None:
        tasks = written["func"] = {}
        for name, callee in action.callees():
            tasks[name] = self._callee(callee, "func", name)
        for _, callee in action.callees():
            if callee.nested is None:  # every task has the same
                self._params(written, callee)
                break
        self._many(written, action, action.share)

    def _map_items(self, written: dict[str, Any], action: Any) -> None:
        written["func"] = self._callee(action.callee, "func")
        if action.nested is None:
            self._params(written, action.callee)
        if action.items is not None:
            written["items"] = self._value_or_func(action.items, "items")
        if action.batch_size != 1:
            written["batch_size"] = self._number(action.batch_size, "batch_size")
        if not action.keep_results:
            written["keep_results"] = False
        self._many(written, action, action.tolerated)

    def _many(self, written: dict[str, Any], action: Any, share: Any) -> None:
        """Write what a parallel step and a map step have in common."""
        if action.max_workers is not None:
            written["max_workers"] = self._number(action.max_workers, "max_workers")
        if action.stop_on_failure:
            written["stop_on_failure"] = True
        what = "tolerated_failures"
        if isinstance(share, str):
            written[what] = plain_text(share)
        elif action.tolerated != 0:
            written[what] = self._number(action.tolerated, what)

    def _wait(self, written: dict[str, Any], action: Any) -> None:
        until = action.until
        if until is None:
            written["seconds"] = self._value_or_func(action.seconds, "seconds")
        elif not isinstance(until, datetime):
            written["until"] = self._value_or_func(until, "until")
        else:
            text = written["until"] = datetime.isoformat(until)
            if datetime.fromisoformat(text).utcoffset() != until.utcoffset():
                self._refuse(f"{until!r} has no ISO 8601 text", "until")

    def _pass(self, written: dict[str, Any], action: Any) -> None:
        if action.is_constant:
            written["result"] = self._data(action.result, "result")

    def _fail(self, written: dict[str, Any], action: Any) -> None:
        written["error"] = plain_text(action.error)
        if action.cause is not None:
            written["cause"] = plain_text(action.cause)

    def _params(self, written: dict[str, Any], call: Any) -> None:
        if call.params:
            written["params"] = {
                plain_text(name): self._data(value, "params", name)
                for name, value in call.params.items()
            }

    def _callee(self, callee: Any, *where: str) -> Any:
        if callee.nested is not None:
            return {"workflow": self._key(callee.nested)}
        return self._name(callee.function, *where)

    def _value_or_func(self, value: Any, where: str) -> Any:
        if callable(value):
            return {"func": self._name(value, where, "func")}
        return self._data(value, where)

    def _key(self, nested: Any) -> str:
        """Give the key of a nested workflow in the table of workflows."""
        if nested not in self._keys:
            taken, key, count = self._keys.values(), nested.name, 1
            while key in taken:
                count += 1
                key = f"{nested.name} {count}"
            self._keys[nested] = key
            self._waiting.append(nested)
        return self._keys[nested]

    # --- the fields of a step -----------------------------------------------------

    def _text(self, written: dict[str, Any], key: str, value: Any) -> None:
        written[key] = plain_text(value)

    def _seconds(self, written: dict[str, Any], key: str, value: Any) -> None:
        if value == inf:
            self._refuse("JSON cannot hold inf; leave it out for no limit", key)
        else:
            written[key] = self._number(value, key)

    def _inputs(self, written: dict[str, Any], key: str, value: Any) -> None:
        written[key] = dict(value)

    def _on_failure(self, written: dict[str, Any], key: str, value: Any) -> None:
        if isinstance(value, str):
            written[key] = value
            return
        written[key] = [
            {"error": self._error(error, key, index, "error"), "step": target}
            for index, (error, target) in enumerate(value)
        ]

    def _branch(self, written: dict[str, Any], key: str, branch: Branch) -> None:
        if branch.chooser is not None:
            written[key] = self._name(branch.chooser, key)
            written["branch_targets"] = list(branch.targets)
        elif branch.conditions:
            written[key] = [
                {"if": self._name(holds, key, index, "if"), "step": target}
                for index, (holds, target) in enumerate(branch.conditions)
            ]
        elif all(isinstance(result, str) for result in branch.table):
            written[key] = {plain_text(it): to for it, to in branch.table.values()}
        else:
            written[key] = [
                {"result": self._result(result, key, index, "result"), "step": target}
                for index, (result, target) in enumerate(branch.table.values())
            ]

    def _result(self, result: Any, *where: str | int) -> Any:
        """Give the key of a branch; a member of an enum that is a text is that text."""
        if isinstance(result, str):
            return plain_text(result)
        return self._number(result, *where)

    def _executor(self, written: dict[str, Any], key: str, value: Any) -> None:
        if not isinstance(value, str):
            self._refuse(
                f"{shown(value)} is an object; name 'inline', 'thread' or 'process', "
                "or give it to execute(executor=…)",
                key,
            )
        elif value != _TASKS_RUN_ON or written.get("type") not in ("parallel", "map"):
            written[key] = plain_text(value)

    def _retry(self, written: dict[str, Any], key: str, retry: Any) -> None:
        if type(retry) is not RetryPolicy:
            kind = type(retry)
            name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
            self._refuse(f"a {name} cannot be written; give a RetryPolicy", key)
            return
        policy = written[key] = {}
        for name in RetryPolicy._fields:
            value = getattr(retry, name)
            default = getattr(_DEFAULT_RETRY, name)
            if name == "retry_on" and not isinstance(value, type | tuple):
                text = "a callable retry_on cannot be written; give exception classes"
                self._refuse(text, key, name)
                continue
            if value == default:
                continue
            if name == "retry_on" and isinstance(value, tuple):
                value = [
                    self._error(one, key, name, index)
                    for index, one in enumerate(value)
                ]
            elif name == "retry_on":
                value = self._error(value, key, name)
            else:
                value = self._number(value, key, name)
            policy[name] = value

    def _compensate(self, written: dict[str, Any], key: str, value: Any) -> None:
        if not isinstance(value, tuple):
            written[key] = self._name(value.function, key)
            return
        written[key] = {
            plain_text(task): self._name(call.function, key, task)
            for task, call in value
        }

    # --- names and values ---------------------------------------------------------

    def _name(self, function: Any, *where: str | int) -> str:
        try:
            return self._names.of(function)
        except NoSuchName as reason:
            self._refuse(str(reason), *where)
            return ""

    def _error(self, error: type[BaseException], *where: str | int) -> str:
        try:
            return self._names.of_error(error)
        except NoSuchName as reason:
            self._refuse(str(reason), *where)
            return ""

    def _number(self, value: Any, *where: str | int) -> Any:
        """Give a number as one of Python's own; numpy's float is one too."""
        for kind in (int, float):
            if isinstance(value, kind) and not isinstance(value, bool):
                value = kind(value)
        return self._data(value, *where)

    def _data(self, value: Any, *where: str | int) -> Any:
        writer = StrictWriter()
        written = writer.write(value, (*self._at, *where))
        self._problems += (f"{place(it.path)}: {it}" for it in writer.problems)
        return written

    def _refuse(self, problem: str, *where: str | int) -> None:
        self._problems.append(f"{place((*self._at, *where))}: {problem}")


_ACTIONS: Mapping[str, Callable[[_Writer, dict[str, Any], Any], None]] = {
    "call": _Writer._call,
    "workflow": _Writer._nested,
    "parallel": _Writer._fan_out,
    "map": _Writer._map_items,
    "wait": _Writer._wait,
    "pass": _Writer._pass,
    "fail": _Writer._fail,
}
_FIELDS: Mapping[str, Callable[[_Writer, dict[str, Any], str, Any], None]] = {
    "description": _Writer._text,
    "next_step": _Writer._text,
    "branch": _Writer._branch,
    "on_failure": _Writer._on_failure,
    "executor": _Writer._executor,
    "retry": _Writer._retry,
    "timeout": _Writer._seconds,
    "heartbeat": _Writer._seconds,
    "ends": _Writer._text,
    "inputs": _Writer._inputs,
    "compensate": _Writer._compensate,
}
