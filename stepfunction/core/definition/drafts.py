"""Drafts: steps that are being defined, until they are sound or refused.

Every argument is looked at, so that one error names all that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType, MappingProxyType
from typing import Any

from stepfunction.core.definition.actions import (
    Action,
    Callee,
    FanOut,
    MapItems,
    Nested,
    is_count,
)
from stepfunction.core.definition.arguments import (
    Calls,
    Leads,
    Many,
    description_problems,
    share,
)
from stepfunction.core.definition.branch import frozen_branch
from stepfunction.core.definition.callables import takes_input_alone, takes_names_alone
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.catches import frozen_on_failure
from stepfunction.core.definition.doors import Workflow
from stepfunction.core.definition.graph import Step
from stepfunction.core.errors import DefinitionError, Problem
from stepfunction.core.wording import did_you_mean, plain_text

__tracebackhide__ = True  # pytest shows the test and what is called, not us

_NO_CALLS = Calls()


class Draft:
    """A step that is being defined: what was given, and what is wrong with it.

    Args:
        builder: The StepFunction that it is for.
        name: Its name.
        leads: Where it leads.
        calls: How it calls.
        output: What it gives if it runs several tasks: ``"mapping"`` or ``"list"``;
            None for one call.
        is_new: Whether there is no step of this name yet.
        description: What it is for.

    Attributes:
        problems: What has been found wrong.
    """

    __slots__ = (
        "problems",
        "_builder",
        "_name",
        "_leads",
        "_calls",
        "_output",
        "_tasks",
        "_description",
    )

    def __init__(
        self,
        builder: Any,
        name: Any,
        leads: Leads,
        calls: Calls = _NO_CALLS,
        output: str | None = None,
        is_new: bool = True,
        description: Any = None,
    ) -> None:
        self.problems: list[Problem] = []
        self._builder = builder
        self._name = name
        self._leads = leads
        self._calls = calls
        self._output = output
        self._description = description
        self._tasks: Any = ()  # the names of those of a parallel step
        if not isinstance(name, str) or not name:
            self._refuse("name", f"the name of a step is a text, not {name!r}")
        elif is_new and name in builder.steps:
            text = "there is a step of this name already"
            self._refuse("name", text, "; give each its own")
        if description is not None:
            self.problems += description_problems(description)
        leads.check(self.problems, output)
        if calls is not _NO_CALLS:
            calls.check(self.problems)

    def call(
        self, func: Any, hint: str = "; add parallel=True to run them all"
    ) -> Callee | None:
        """Give what a step does that calls one function, or workflow."""
        if type(func) is not FunctionType and isinstance(func, Mapping):
            self._refuse("func", "func is a mapping of tasks", hint)
            return None
        return self._call(func)

    def workflow(self, workflow: Any) -> Callee | None:
        """Give what a step does that runs a workflow."""
        if not isinstance(workflow, Workflow):
            text = f"sub_step_function is a StepFunction, not {workflow!r}"
            self._refuse("sub_step_function", text)
            return None
        return self._nested(workflow, "sub_step_function")

    def fan_out(self, tasks: Any, many: Many) -> FanOut | None:
        """Give what a parallel step does, of task name to what it calls."""
        many.check(self.problems)
        if not isinstance(tasks, Mapping):
            self._refuse(
                "tasks",
                "a parallel step runs several tasks, each by its name, but was given "
                f"{'a list' if isinstance(tasks, list) else 'one'}",
                "; give {'task name': callable, …}",
            )
            return None
        self._tasks = tasks
        if not tasks:
            self._refuse("tasks", "a parallel step needs one task at least")
        found: dict[str, Any] = {}
        for name, func in tasks.items():
            if not isinstance(name, str) or not name:
                self._refuse("tasks", f"the name of a task is a text, not {name!r}")
                continue
            before = len(self.problems)
            found[plain_text(name)] = self._call(func)
            self.problems[before:] = [
                problem.within(f"task {name!r}", "tasks", name)
                for problem in self.problems[before:]
            ]
        if self._calls.has_inputs:
            self._refuse_untaken(tasks)
        if self.problems:
            return None
        tolerated = many.tolerated_failures or 0
        percentage = tolerated if isinstance(tolerated, str) else None
        return FanOut(
            MappingProxyType(found),
            bool(many.stop_on_failure),
            tolerated if percentage is None else share(percentage, len(found)),
            many.max_workers,
            percentage,
        )

    def map_items(
        self, func: Any, items: Any, many: Many, batch_size: Any, keep_results: Any
    ) -> MapItems | None:
        """Give what a map step does."""
        many.check(self.problems)
        calls = self._calls
        if calls.has_inputs and not callable(items):
            self._refuse_unknown(items)
        if calls.compensate is not None and not keep_results:
            self._refuse(
                "compensate",
                "compensate undoes each item given its result, which "
                "keep_results=False does not keep",
                "; leave out one or the other",
            )
        stops, workers = bool(many.stop_on_failure), many.max_workers
        tolerated = many.tolerated_failures
        tolerated = 0 if tolerated is None else tolerated
        action = MapItems(
            func, items, batch_size, stops, tolerated, workers, bool(keep_results)
        ).checked(self.problems)
        # What it takes of its named inputs are the items.
        self._calls = calls.replace(inputs=None)
        call = self.call(func, "; add_parallel_step() runs them all")
        self._calls = calls
        if call is None:
            return None
        if call.nested is not None and is_count(batch_size, 2):
            hint = "; each run of a workflow is a batch of its own"
            self._refuse("batch_size", "batch_size goes with a function", hint)
        return action.replace(call=call)

    def step(self, action: Action | None) -> Step:
        """Give the step.

        Args:
            action: What it does; None where that is not sound.

        Raises:
            DefinitionError: If anything is wrong, with all that is.
        """
        next_step, on_failure, branch, branch_targets, ends = self._leads._values
        _, inputs, executor, retry, timeout, heartbeat, undo = self._calls._values
        if timeout is not None or heartbeat is not None:
            self._calls.check_limits(self.problems, action)
        if undo is not None:
            undo = self._compensation(undo)
        if self.problems or action is None:
            raise DefinitionError(f"step {self._name!r}", self.problems)
        if executor is None and self._output is not None:
            executor = "thread"
        said = self._description
        given = (
            plain_text(self._name),
            action,
            None if next_step is None else plain_text(next_step),
            frozen_on_failure(on_failure),
            None if branch is None else frozen_branch(branch, branch_targets),
            retry,
            executor,
            timeout,
            heartbeat,
            ends,
            None if inputs is None else _frozen_inputs(inputs),
            undo,
            None if said is None else plain_text(said),
        )
        return Step._of(given)

    def _refuse(self, argument: str, text: str, hint: str = "") -> None:
        self.problems.append(Problem(argument, text, hint))

    def _call(self, func: Any) -> Callee | None:
        """Give the call of a function, or a workflow; None where neither can be."""
        calls = self._calls
        params, inputs = calls.params, calls.inputs
        if inputs is None and params is None and takes_input_alone(func):
            return Call(func)
        if isinstance(func, Workflow):
            return self._nested(func, "func")
        if not calls.has_params or not (inputs is None or calls.has_inputs):
            if callable(func):
                return None  # what is said of the params, or inputs, says it all
            params = inputs = None
        names = None if inputs is None else tuple(map(plain_text, inputs))
        if names is not None and not params and takes_names_alone(func, names):
            return Call(func, takes_input=False, named_inputs=names)
        from stepfunction.core.definition.signatures import bind  # with inspect, dear

        call = bind(func, params, names, self._output == "mapping")
        if isinstance(call, Call):
            return call
        self.problems += call
        return None

    def _nested(self, workflow: Any, argument: str) -> Nested:
        """Give the run of a workflow."""
        workflow._is_inside = True
        if self._builder._is_inside and self._builder in workflow._with_all_nested():
            text = f"workflow {self._builder.name!r} would run inside itself"
            self._refuse(argument, text)
        if self._calls.has_params and self._calls.params:
            self._refuse(
                "params",
                "params binds arguments of a function, but func is a workflow, "
                "which is given its input alone",
            )
        return Nested(workflow)

    def _refuse_untaken(self, tasks: Mapping[Any, Any]) -> None:
        """Refuse named inputs that no task takes; a workflow is given them all."""
        from stepfunction.core.definition.signatures import keywords_of

        known: set[str] = set()
        for task in tasks.values():
            keywords = keywords_of(task) if callable(task) else None
            if keywords is None:
                return
            known |= keywords
        for name in self._calls.inputs:
            if name not in known:
                text = f"inputs has {name!r}, but no task has a parameter of that name"
                hint = did_you_mean(name, known)
                self._refuse("inputs", f"{text} to give by keyword", hint)

    def _refuse_unknown(self, items: Any) -> None:
        """Refuse items of a map step that are not in its named inputs."""
        inputs = self._calls.inputs
        if items is None:
            text = "the items are in none of the inputs"
            hint = f"; say in which, as in items={next(iter(inputs))!r}"
            self._refuse("items", text, hint)
        elif isinstance(items, str | int) and items not in inputs:
            text = f"items is {items!r}, which is none of the inputs"
            self._refuse("items", text, did_you_mean(items, inputs))

    def _compensation(self, undo: Any) -> Any:
        """Give what undoes the step, or its tasks by their names."""
        if not isinstance(undo, Mapping):
            return self._undoing(undo, "compensate")
        if self._output != "mapping":
            text = (
                "compensate is a mapping of task to what undoes it, which goes with a "
                "parallel step"
            )
            self._refuse("compensate", text, "; give one callable")
            return None
        if not undo:
            hint = "; leave it out, or say what undoes"
            self._refuse("compensate", "compensate is empty", hint)
        found = []
        for name, one in undo.items():
            if name not in self._tasks:
                known = [task for task in self._tasks if task and isinstance(task, str)]
                text = f"compensate names {name!r}, which is no task"
                self._refuse("compensate", text, did_you_mean(name, known))
            found.append((name, self._undoing(one, f"compensate[{name!r}]")))
        return tuple(found)

    def _undoing(self, function: Any, what: str) -> Call | None:
        """Give the call that undoes something, given its output."""
        if takes_input_alone(function):
            return Call(function)
        if not callable(function):
            hint = "; give the function itself" if isinstance(function, str) else ""
            text = f"{what} is {function!r}, which cannot be called"
            self._refuse("compensate", text, hint)
            return None
        from stepfunction.core.definition.signatures import bind  # with inspect, dear

        call = bind(function)
        if isinstance(call, Call):
            return call
        for problem in call:
            hint = problem.hint
            if problem.argument == "params":  # there are none for what undoes
                hint = "; bind it with functools.partial, or give a default"
            self._refuse("compensate", f"{what}: {problem.text}", hint)
        return None


def _frozen_inputs(inputs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((plain_text(name), plain_text(to)) for name, to in inputs.items())
