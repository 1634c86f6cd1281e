"""Definition: what ``add_step`` is given, turned into a step or into problems.

Every argument is looked at, so that one error names all that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import floor, inf
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from stepfunction.core.calls import Call, takes_input_alone
from stepfunction.core.errors import DefinitionError, did_you_mean
from stepfunction.core.executors import NAMES, is_executor, is_lanes
from stepfunction.core.graph import (
    Action,
    Branch,
    FanOut,
    Step,
    plain_call,
)
from stepfunction.core.retry import is_retry, judges_results

if TYPE_CHECKING:
    from stepfunction.core.events import Listener


class StepArguments(NamedTuple):
    """The arguments of ``StepFunction.add_step``, in its order and as they were given.

    Attributes:
        builder: The StepFunction that the step is for.
        must_nest: Whether ``func`` must be a StepFunction.
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
    must_nest: bool = False

    def step(self) -> Step:
        """Give the step that they define.

        Raises:
            DefinitionError: If they do not define one, with every reason.
        """
        problems = list(self._problems())
        action = self._action(problems)
        if self.timeout is not None or self.heartbeat is not None:
            problems += self._limit_problems(action)
        if problems or action is None:
            raise DefinitionError(f"step {self.name!r}", problems)
        executor = self.executor
        if executor is None and isinstance(action, FanOut):
            executor = "thread"
        return Step(
            plain_text(self.name),
            action,
            plain_call(action) if executor is None and self._retries_late() else None,
            None if self.next_step is None else plain_text(self.next_step),
            None if self.on_failure is None else self._frozen_on_failure(),
            None if self.branch is None else self._frozen_branch(),
            self.retry,
            executor,
            self.timeout,
            self.heartbeat,
            self.ends,
        )

    def _retries_late(self) -> bool:
        """Whether the retry is of no account until the function itself has failed."""
        return self.retry is None or (
            self.branch is None and not judges_results(self.retry)
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
            yield from _failure_problems(self.on_failure)
        if self.ends is not None:
            yield from self._end_problems()
        if self.branch is not None or self.branch_targets is not None:
            yield from self._branch_problems()
        if self.executor is not None and not is_executor(self.executor):
            yield _unknown_executor(self.executor)
        if self.retry is not None and not is_retry(self.retry):
            yield f"retry is a RetryPolicy or a tenacity.Retrying, not {self.retry!r}"
        if not self._has_params():
            yield f"params is a mapping of parameter name to value, not {self.params!r}"
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

    def _branch_problems(self) -> Iterator[str]:
        branch, targets = self.branch, self.branch_targets
        if isinstance(branch, Mapping):
            if not branch:
                yield "branch is empty; leave it out, or say where results lead"
            for result, target in branch.items():
                if not isinstance(target, str):
                    yield f"branch[{result!r}] is the name of a step, not {target!r}"
            if self.parallel:
                yield (
                    "branch is a mapping, but the output of a parallel step, itself a "
                    "mapping, can be no key of it; let branch be a callable of the "
                    "output, with branch_targets"
                )
        elif callable(branch):
            if isinstance(targets, str):
                yield f"branch_targets is a list of names, not the text {targets!r}"
            elif not _are_names(targets):
                yield (
                    "branch is a callable, so give branch_targets=['…'], the names of "
                    "the steps it may choose; checking and drawing cannot call it"
                )
            return
        elif branch is not None:
            yield (
                "branch is a mapping of result to step, or a callable of the output "
                f"that gives a step's name, not {branch!r}"
            )
        if targets is not None:
            yield "branch_targets goes with a branch that is a callable"

    def _limit_problems(self, action: Action | None) -> Iterator[str]:
        for name, limit in (("timeout", self.timeout), ("heartbeat", self.heartbeat)):
            if limit is not None and not _is_duration(limit):
                yield f"{name} is seconds above 0, not {limit!r}"
        executor = self.executor or ("thread" if self.parallel else "inline")
        if executor == "inline" and isinstance(action, Call | FanOut):
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
        calls = action.tasks.values() if isinstance(action, FanOut) else [action]
        if any(not isinstance(c, Call) or c.context_name is None for c in calls):
            yield (
                "heartbeat expects calls of context.heartbeat(), so every function of "
                "the step must take a parameter annotated Context, or named context"
            )

    def _parallel_problems(self) -> Iterator[str]:
        if self.parallel:
            yield from _tolerance_problems(self.tolerated_failures)
            workers = self.max_workers
            if workers is not None and not _is_count(workers, 1):
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

    def _call(self, func: Any, problems: list[str]) -> Action | None:
        if isinstance(func, type(self.builder)):
            if self.builder in func.with_all_nested():
                problems.append(
                    f"workflow {self.builder.name!r} would run inside itself"
                )
            if self.params:
                problems.append(
                    "params binds arguments of a function, but func is a workflow, "
                    "which is given its input alone"
                )
            action: Action = func
            return action
        if self.must_nest:
            problems.append(f"sub_step_function is a StepFunction, not {func!r}")
            return None
        if not self._has_params():
            if callable(func):
                return None  # what is said of the params says it all
        elif not self.params and takes_input_alone(func):
            return Call(func)
        from stepfunction.core.signatures import bind  # and with it inspect, dear

        call = bind(func, self.params)
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
        if problems:
            return None
        return FanOut(
            MappingProxyType(tasks),
            bool(self.stop_on_failure),
            self._tolerated(),
            self.max_workers,
        )

    def _tolerated(self) -> float:
        tolerated = self.tolerated_failures
        if tolerated is None:
            is_tolerant = not self.stop_on_failure and self.on_failure is None
            return inf if is_tolerant else 0
        if isinstance(tolerated, str):
            # A share of 10% of 30 tasks is 3, whatever binary fractions say.
            return floor(float(tolerated[:-1]) * len(self.func) / 100 + 1e-9)
        return float(tolerated)

    def _frozen_on_failure(self) -> Any:
        if isinstance(self.on_failure, Mapping):
            items = self.on_failure.items()
            return tuple((cause, plain_text(step)) for cause, step in items)
        return plain_text(self.on_failure)

    def _frozen_branch(self) -> Branch:
        if isinstance(self.branch, Mapping):
            items = self.branch.items()
            table = {key: (key, plain_text(step)) for key, step in items}
            return Branch(MappingProxyType(table))
        return Branch(
            chooser=self.branch, targets=tuple(map(plain_text, self.branch_targets))
        )


def plain_text(name: str) -> str:
    """Give the text of a name, which may be a member of an enum of texts."""
    return name if type(name) is str else str.__str__(name)


def check_arguments(
    executor: Any, timeout: Any, listeners: Any
) -> tuple[Listener, ...]:
    """Refuse what cannot be an executor, a timeout or listeners of an execution.

    Returns:
        The listeners.

    Raises:
        DefinitionError: If one is none.
    """
    problems: list[str] = []
    if executor is not None and not is_executor(executor):
        problems.append(_unknown_executor(executor))
    if timeout is not None and not _is_duration(timeout):
        problems.append(f"timeout is seconds above 0, not {timeout!r}")
    told = checked_listeners(listeners, problems)
    if problems:
        raise DefinitionError("execute", problems)
    return told


def checked_listeners(listeners: Any, problems: list[str]) -> tuple[Listener, ...]:
    """Give the listeners, and say what is wrong with them."""
    if not isinstance(listeners, Iterable) or isinstance(listeners, str):
        hint = "; write listeners=[…]" if callable(listeners) else ""
        problems.append(f"listeners is a list of callables, not {listeners!r}{hint}")
        return ()
    told = tuple(listeners)
    for listener in told:
        problems += _listener_problems(listener)
    return told


def _listener_problems(listener: Any) -> Iterator[str]:
    if not callable(listener):
        yield f"a listener is a callable of one Event, not {listener!r}"
        return
    if isinstance(listener, type):
        yield f"a listener is an object, not the class {listener.__name__}; make one"
        return
    import inspect  # dear

    call = listener if inspect.isroutine(listener) else type(listener).__call__
    if inspect.iscoroutinefunction(call) or inspect.isgeneratorfunction(call):
        yield f"a listener is a plain function, and {listener!r} would never be run"
        return
    try:
        inspect.signature(listener).bind(None)
    except ValueError:  # a builtin that does not tell
        return
    except TypeError as error:
        yield f"a listener is given one Event, but {listener!r} cannot be: {error}"


def _unknown_executor(executor: Any) -> str:
    text = "executor is 'inline', 'thread', 'process' or a concurrent.futures.Executor"
    if isinstance(executor, type):
        return f"{text}, not the class {executor.__name__}; make one of it"
    hint = did_you_mean(executor, NAMES)
    if hasattr(executor, "get_executor"):  # as Dask's Client has
        hint = "; give its get_executor(pure=False)"
    elif "multiprocessing" in getattr(executor, "__module__", ""):
        hint = "; use ProcessLanes, or concurrent.futures.ProcessPoolExecutor"
    return f"{text}, not {executor!r}{hint}"


def _failure_problems(on_failure: Any) -> Iterator[str]:
    if isinstance(on_failure, str):
        return
    if not isinstance(on_failure, Mapping):
        yield (
            "on_failure is the name of a step or a mapping of exception class to name, "
            f"not {on_failure!r}"
        )
        return
    if not on_failure:
        yield "on_failure is empty; leave it out, or say where failures lead"
    earlier: list[type[BaseException]] = []
    for error_class, target in on_failure.items():
        if not isinstance(error_class, type) or not issubclass(
            error_class, BaseException
        ):
            yield f"on_failure has the key {error_class!r}, which is no exception class"
            continue
        base = next((base for base in earlier if issubclass(error_class, base)), None)
        if base is not None:
            yield (
                f"on_failure asks for {error_class.__name__} after {base.__name__}, "
                "which takes it already; put the narrower class first"
            )
        if not isinstance(target, str):
            yield (
                f"on_failure[{error_class.__name__}] is the name of a step, "
                f"not {target!r}"
            )
        earlier.append(error_class)


def _tolerance_problems(tolerated: Any) -> Iterator[str]:
    if tolerated is None or _is_count(tolerated, 0):
        return
    if isinstance(tolerated, str) and re.fullmatch(r"\d+(\.\d+)?%", tolerated):
        if float(tolerated[:-1]) <= 100:
            return
    yield (
        "tolerated_failures is a count from 0, or a share of the tasks such as "
        f"'10%', not {tolerated!r}"
    )


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _are_names(names: Any) -> bool:
    return (
        isinstance(names, Sequence)
        and not isinstance(names, str)
        and bool(names)
        and all(isinstance(name, str) for name in names)
    )
