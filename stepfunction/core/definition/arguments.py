"""Definition: what ``add_step`` is given, turned into a step or into problems.

Every argument is looked at, so that one error names all that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from types import FunctionType, MappingProxyType
from typing import Any, NamedTuple, cast

from stepfunction.core.definition.actions import (
    Action,
    Callee,
    FanOut,
    MapItems,
    Workflow,
    is_count,
    share,
)
from stepfunction.core.definition.branch import Branch, branch_problems, frozen_branch
from stepfunction.core.definition.callables import (
    takes_input_alone,
    takes_names_alone,
)
from stepfunction.core.definition.calls import Call
from stepfunction.core.definition.catches import failure_problems, frozen_on_failure
from stepfunction.core.definition.graph import Graph, Step
from stepfunction.core.errors import DefinitionError
from stepfunction.core.wording import did_you_mean, plain_text
from stepfunction.core.workers.executors import executor_problem, is_executor, is_lanes
from stepfunction.core.workers.retry import is_retry, judges_results


class StepArguments(NamedTuple):
    """The arguments of ``StepFunction.add_step``, in its order and as they were given.

    Attributes:
        builder: The StepFunction that the step is for.
        must_nest: Whether ``func`` must be a StepFunction.
        made: The action, where it is no call; of a map step all of it but the call.
    """

    builder: Any
    name: Any
    func: Any
    next_step: Any = None
    on_failure: Any = None
    branch: Any = None
    parallel: Any = False
    stop_on_failure: Any = False
    params: Any = None
    branch_targets: Any = None
    executor: Any = None
    max_workers: Any = None
    tolerated_failures: Any = None
    retry: Any = None
    timeout: Any = None
    heartbeat: Any = None
    ends: Any = None
    inputs: Any = None
    compensate: Any = None
    must_nest: bool = False
    made: Any = None

    def step(self, problems: Iterable[str] = ()) -> Step:
        """Give the step that they define.

        Args:
            problems: What has been found already.

        Raises:
            DefinitionError: If they do not define one, with every reason.
        """
        problems = [*problems, *self._problems()]
        action = self._action(problems)
        if self.timeout is not None or self.heartbeat is not None:
            problems += self._limit_problems(action)
        compensate = None
        if self.compensate is not None:
            compensate = self._compensation(problems)
        if problems or action is None:
            raise DefinitionError(f"step {self.name!r}", problems)
        executor = self.executor
        if executor is None and self._has_tasks:
            executor = "thread"
        return Step(
            plain_text(self.name),
            action,
            action.plain if self._is_plain(executor) else None,
            None if self.next_step is None else plain_text(self.next_step),
            None if self.on_failure is None else frozen_on_failure(self.on_failure),
            None if self.branch is None else self._frozen_branch(),
            self.retry,
            executor,
            self.timeout,
            self.heartbeat,
            self.ends,
            None if self.inputs is None else self._frozen_inputs(),
            compensate,
        )

    def _frozen_branch(self) -> Branch:
        return frozen_branch(self.branch, self.branch_targets)

    def _is_plain(self, executor: Any) -> bool:
        """Whether it is a call with its input, and no more until that has failed."""
        return (executor is None and self.inputs is None) and (
            self.retry is None
            or (self.branch is None and not judges_results(self.retry))
        )

    def _problems(self) -> Iterator[str]:
        """Say what is wrong with anything but the action; what is not given is not."""
        if not isinstance(self.name, str) or not self.name:
            yield f"the name of a step is a text, not {self.name!r}"
        elif self.name in self.builder.steps:
            yield "there is a step of this name already; give each its own"
        if self.next_step is not None and not isinstance(self.next_step, str):
            yield f"next_step is the name of a step, not {self.next_step!r}"
        if self.on_failure is not None:
            yield from failure_problems(self.on_failure)
        if self.ends is not None:
            yield from self._end_problems()
        if self.branch is not None or self.branch_targets is not None:
            output = "mapping" if self.parallel else "list" if self._has_tasks else None
            yield from branch_problems(self.branch, self.branch_targets, output)
        if self.executor is not None and not is_executor(self.executor):
            yield executor_problem(self.executor)
        if self.retry is not None and not is_retry(self.retry):
            yield f"retry is a RetryPolicy or a tenacity.Retrying, not {self.retry!r}"
        if not self._has_params():
            yield f"params is a mapping of parameter name to value, not {self.params!r}"
        if self.inputs is not None:
            yield from self._input_problems()
        yield from self._parallel_problems()

    def _end_problems(self) -> Iterator[str]:
        if self.ends not in ("completed", "failed"):
            yield f"ends is 'completed' or 'failed', not {self.ends!r}"
        if self.ends and (self.next_step is not None or self.branch is not None):
            yield (
                "ends says how an execution that ends here has ended, but next_step "
                "or branch leads on from here; leave out one or the other"
            )

    def _has_params(self) -> bool:
        return self.params is None or (
            isinstance(self.params, Mapping)
            and all(isinstance(name, str) for name in self.params)
        )

    def _input_problems(self) -> Iterator[str]:
        if not isinstance(self.inputs, Mapping):
            yield (
                "inputs is a mapping of parameter name to the name of a step, "
                f"not {self.inputs!r}"
            )
            return
        if not self.inputs:
            yield "inputs is empty; leave it out, or say whose outputs the step takes"
        for name, source in self.inputs.items():
            if not _is_parameter(name):
                yield f"inputs has the key {name!r}, which can be no parameter's name"
            elif not isinstance(source, str) or not source:
                yield f"inputs[{name!r}] is the name of a step, not {source!r}"
            if self.params and self._has_params() and name in self.params:
                yield f"inputs and params both have {name!r}; leave out one of them"

    def _has_inputs(self) -> bool:
        """Whether there are named inputs, of names that a function can be given."""
        names = self.inputs if isinstance(self.inputs, Mapping) else ()
        return len(names) > 0 and all(map(_is_parameter, names))

    def _limit_problems(self, action: Action | None) -> Iterator[str]:
        for name, limit in (("timeout", self.timeout), ("heartbeat", self.heartbeat)):
            if limit is not None and not is_duration(limit):
                yield f"{name} is seconds above 0, not {limit!r}"
        executor = self.executor or ("thread" if self._has_tasks else "inline")
        if executor == "inline" and isinstance(action, Call | FanOut | MapItems):
            if self.timeout is not None:
                yield (
                    "timeout cannot be honoured in the calling thread, where nothing "
                    "can stop a call; use executor='process', which is killed, or "
                    "executor='thread', which is no longer waited for"
                )
        if self.heartbeat is None or action is None:
            return
        if executor not in ("thread", "process") and not is_lanes(executor):
            yield (
                "heartbeat goes with executor='thread' or executor='process', "
                "or with ProcessLanes"
            )
        calls: list[Any] = [callee for _, callee in action.callees()] or [action]
        if any(not isinstance(c, Call) or c.context_name is None for c in calls):
            yield (
                "heartbeat expects calls of context.heartbeat(), so every function of "
                "the step must take a parameter annotated Context, or named context"
            )

    @property
    def _has_tasks(self) -> bool:
        """Whether it is a parallel step or a map step."""
        return bool(self.parallel) or isinstance(self.made, MapItems)

    def _parallel_problems(self) -> Iterator[str]:
        if self._has_tasks:
            yield from _tolerance_problems(self.tolerated_failures)
            workers = self.max_workers
            if workers is not None and not is_count(workers, 1):
                yield f"max_workers is a whole number from 1, not {workers!r}"
            return
        if self.stop_on_failure is not None and self.stop_on_failure is not False:
            yield "stop_on_failure goes with parallel=True"
        if self.max_workers is not None and self.max_workers is not False:
            yield "max_workers goes with parallel=True"
        if self.tolerated_failures is not None and self.tolerated_failures is not False:
            yield "tolerated_failures goes with parallel=True"

    def _action(self, problems: list[str]) -> Action | None:
        func = self.func
        if self.made is not None:
            return self._made_action(problems)
        if type(func) is not FunctionType and isinstance(func, Mapping):
            if not self.parallel:
                problems.append(
                    "func is a mapping of tasks; add parallel=True to run them all"
                )
                return None
            return self._fan_out(problems)
        if self.parallel:
            problems.append(
                "parallel=True runs several tasks, each by its name, but func is "
                f"{'a list' if isinstance(func, list) else 'one'}; "
                "give func={'task name': callable, …}"
            )
            return None
        return self._call(func, problems)

    def _made_action(self, problems: list[str]) -> Action | None:
        if not isinstance(self.made, MapItems):
            action: Action = self.made
            return action
        made = self.made.checked(problems)
        call = self._call(self.func, problems)
        if call is not None and call.nested is not None:
            if self.made.batch_size != 1:
                problems.append(
                    "batch_size goes with a function; each run of a workflow is a "
                    "batch of its own"
                )
        if problems or call is None:
            return None
        is_share = isinstance(self.tolerated_failures, str)
        tolerated = self.tolerated_failures if is_share else self._tolerated()
        return made.replace(
            call=call,
            stop_on_failure=bool(self.stop_on_failure),
            tolerated=tolerated,
            max_workers=self.max_workers,
        )

    def _compensation(self, problems: list[str]) -> Any:
        """Give what undoes the step, or its tasks by their names."""
        undo = self.compensate
        if isinstance(self.made, MapItems) and not self.made.keep_results:
            problems.append(
                "compensate undoes each item given its result, which "
                "keep_results=False does not keep; leave out one or the other"
            )
        if not isinstance(undo, Mapping):
            return _undoing(undo, "compensate", problems)
        if not self.parallel:
            problems.append(
                "compensate is a mapping of task to what undoes it, which goes with "
                "parallel=True; give one callable"
            )
            return None
        if not undo:
            problems.append("compensate is empty; leave it out, or say what undoes")
        tasks = self.func if isinstance(self.func, Mapping) else {}
        found = []
        for name, one in undo.items():
            if name not in tasks:
                known = [task for task in tasks if task and isinstance(task, str)]
                hint = did_you_mean(name, known)
                problems.append(f"compensate names {name!r}, which is no task{hint}")
            found.append((name, _undoing(one, f"compensate[{name!r}]", problems)))
        return tuple(found)

    def _frozen_inputs(self) -> tuple[tuple[str, str], ...]:
        items = self.inputs.items()
        return tuple((plain_text(name), plain_text(step)) for name, step in items)

    def _call(self, func: Any, problems: list[str]) -> Callee | None:
        if not (self.params or self.must_nest or self.inputs is not None):
            if takes_input_alone(func):
                return Call.with_input(func)
        if isinstance(func, Workflow) and not isinstance(func, Graph):
            if self.builder in cast(Any, func).with_all_nested():
                problems.append(
                    f"workflow {self.builder.name!r} would run inside itself"
                )
            if self.params:
                problems.append(
                    "params binds arguments of a function, but func is a workflow, "
                    "which is given its input alone"
                )
            return func
        if self.must_nest:
            problems.append(f"sub_step_function is a StepFunction, not {func!r}")
            return None
        if self.inputs is None and not self.params and takes_input_alone(func):
            return Call.with_input(func)
        if not self._has_params() or not (self.inputs is None or self._has_inputs()):
            if callable(func):
                return None  # what is said of the params, or inputs, says it all
        elif self.inputs is not None:
            return self._named_call(func, problems)
        from stepfunction.core.definition.signatures import (
            bind,  # and with it inspect, dear
        )

        call = bind(func, self.params)
        if isinstance(call, list):
            problems += call
            return None
        return call

    def _named_call(self, func: Any, problems: list[str]) -> Call | None:
        """Give the call of a function with named inputs, of a task with its own."""
        names = tuple(map(plain_text, self.inputs))
        if not self.params and takes_names_alone(func, names):
            return Call(func, takes_input=False, named_inputs=names)
        from stepfunction.core.definition.signatures import bind_named

        call = bind_named(func, self.params, names, bool(self.parallel))
        if isinstance(call, list):
            problems += call
            return None
        return call

    def _fan_out(self, problems: list[str]) -> FanOut | None:
        if not self.func:
            problems.append("func has no tasks; a parallel step needs one at least")
        tasks: dict[str, Any] = {}
        for name, func in self.func.items():
            if not isinstance(name, str) or not name:
                problems.append(f"the name of a task is a text, not {name!r}")
                continue
            found: list[str] = []
            tasks[plain_text(name)] = self._call(func, found)
            problems += (f"task {name!r}: {problem}" for problem in found)
        if self._has_inputs():
            problems += self._untaken_problems()
        if problems:
            return None
        tolerated = self.tolerated_failures
        return FanOut(
            MappingProxyType(tasks),
            bool(self.stop_on_failure),
            self._tolerated(),
            self.max_workers,
            tolerated if isinstance(tolerated, str) else None,
        )

    def _untaken_problems(self) -> Iterator[str]:
        """Say which named inputs no task takes; a workflow is given them all."""
        from stepfunction.core.definition.signatures import keywords_of

        tasks = [task for task in self.func.values() if callable(task)]
        if len(tasks) < len(self.func):
            return
        known: set[str] = set()
        for task in tasks:
            keywords = keywords_of(task)
            if keywords is None:
                return
            known |= keywords
        for name in self.inputs:
            if name not in known:
                yield (
                    f"inputs has {name!r}, but no task has a parameter of that name to "
                    f"give by keyword{did_you_mean(name, known)}"
                )

    def _tolerated(self) -> float:
        tolerated = self.tolerated_failures
        if tolerated is None:
            is_tolerant = not self.stop_on_failure and self.on_failure is None
            return inf if is_tolerant else 0
        if isinstance(tolerated, str):
            return share(tolerated, len(self.func))
        return cast(int, tolerated)


def _undoing(function: Any, what: str, problems: list[str]) -> Call | None:
    """Give the call that undoes something, given its output."""
    if takes_input_alone(function):
        return Call(function)
    from stepfunction.core.definition.signatures import (
        bind,  # and with it inspect, dear
    )

    if not callable(function):
        hint = "; give the function itself" if isinstance(function, str) else ""
        problems.append(f"{what} is {function!r}, which cannot be called{hint}")
        return None
    call = bind(function)
    if isinstance(call, list):
        for problem in call:
            hint = problem.hint
            if problem.argument == "params":  # there are none for what undoes
                hint = "; bind it with functools.partial, or give a default"
            problems.append(f"{what}: {problem.text}{hint}")
        return None
    return call


def _tolerance_problems(tolerated: Any) -> Iterator[str]:
    if tolerated is None or is_count(tolerated, 0):
        return
    if isinstance(tolerated, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%", tolerated):
        if float(tolerated[:-1]) <= 100:
            return
    yield (
        "tolerated_failures is a count from 0, or a share of the tasks such as "
        f"'10%', not {tolerated!r}"
    )


def _is_parameter(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier()


def is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
