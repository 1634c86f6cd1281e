"""Arguments: what a step is told beside what it does, and what is wrong with that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stepfunction.core.definition.actions import Action, is_count
from stepfunction.core.definition.branch import branch_problems
from stepfunction.core.definition.catches import failure_problems
from stepfunction.core.durations import in_seconds
from stepfunction.core.errors import Problem, about
from stepfunction.core.frozen import Frozen
from stepfunction.core.raised import short_repr
from stepfunction.core.workers.executors import executor_problem, is_executor, is_lanes
from stepfunction.core.workers.retry import is_retry


class Leads(Frozen):
    """Where a step leads, as it was given."""

    __slots__ = ()

    next_step: Any = None
    on_failure: Any = None
    branch: Any = None
    branch_targets: Any = None
    ends: Any = None

    def check(self, problems: list[Problem], output: str | None) -> None:
        """Say what is wrong.

        Args:
            problems: Takes what is found.
            output: What the step gives that can be no key of a branch: ``"mapping"``
                or ``"list"``; or None.
        """
        next_step, on_failure, branch, branch_targets, ends = self._values
        if next_step is not None and not isinstance(next_step, str):
            text = f"next_step is the name of a step, not {next_step!r}"
            problems.append(Problem("next_step", text))
        if on_failure is not None:
            problems += about("on_failure", failure_problems(on_failure))
        if ends is not None and (
            not isinstance(ends, str) or ends not in ("completed", "failed")
        ):
            text = f"ends is 'completed' or 'failed', not {ends!r}"
            problems.append(Problem("ends", text))
        if ends is not None and (next_step is not None or branch is not None):
            text = (
                "ends says how an execution that ends here has ended, but next_step "
                "or branch leads on from here"
            )
            problems.append(Problem("ends", text, "; leave out one or the other"))
        if branch is not None or branch_targets is not None:
            found = branch_problems(branch, branch_targets, output)
            problems += about("branch", found)


class Calls(Frozen):
    """How a step calls what it calls, as it was given."""

    __slots__ = ()

    params: Any = None
    inputs: Any = None
    executor: Any = None
    retry: Any = None
    timeout: Any = None
    heartbeat: Any = None
    compensate: Any = None

    def __init__(
        self,
        params: Any = None,
        inputs: Any = None,
        executor: Any = None,
        retry: Any = None,
        timeout: Any = None,
        heartbeat: Any = None,
        compensate: Any = None,
    ) -> None:
        limits = in_seconds(timeout), in_seconds(heartbeat)
        super().__init__(params, inputs, executor, retry, *limits, compensate)

    @property
    def has_params(self) -> bool:
        """Whether the params, if there are any, are of names that are texts."""
        return self.params is None or (
            isinstance(self.params, Mapping)
            and all(isinstance(name, str) for name in self.params)
        )

    @property
    def has_inputs(self) -> bool:
        """Whether there are named inputs, of names that a function can be given."""
        names = self.inputs if isinstance(self.inputs, Mapping) else ()
        return len(names) > 0 and all(map(_is_parameter, names))

    def check(self, problems: list[Problem]) -> None:
        """Say what is wrong, but for what depends on the calls themselves."""
        params, inputs, executor, retry, *_ = self._values
        if executor is not None and not is_executor(executor):
            problems.append(executor_problem(executor))
        if retry is not None and not is_retry(retry):
            text = f"retry is a RetryPolicy or a tenacity.Retrying, not {retry!r}"
            hint = ""
            if is_count(retry, 1):
                hint = f"; write retry=RetryPolicy(max_attempts={retry})"
            problems.append(Problem("retry", text, hint))
        if params is not None and not self.has_params:
            text = f"params is a mapping of parameter name to value, not {params!r}"
            problems.append(Problem("params", text))
        if inputs is not None:
            problems += about("inputs", self._input_problems())

    def _input_problems(self) -> list[str]:
        if not isinstance(self.inputs, Mapping):
            text = "inputs is a mapping of parameter name to the name of a step"
            return [f"{text}, not {self.inputs!r}"]
        found = []
        if not self.inputs:
            text = "leave it out, or say whose outputs the step takes"
            found.append(f"inputs is empty; {text}")
        for name, source in self.inputs.items():
            if not _is_parameter(name):
                text = "which can be no parameter's name"
                found.append(f"inputs has the key {name!r}, {text}")
            elif not isinstance(source, str) or not source:
                found.append(f"inputs[{name!r}] is the name of a step, not {source!r}")
            if self.params and self.has_params and name in self.params:
                text = "leave out one of them"
                found.append(f"inputs and params both have {name!r}; {text}")
        return found

    def check_limits(self, problems: list[Problem], action: Action | None) -> None:
        """Say what is wrong with the time that a step may take.

        Args:
            problems: Takes what is found.
            action: What it does; None if that is not known.
        """
        timeout, heartbeat = self.timeout, self.heartbeat
        for name, limit in (("timeout", timeout), ("heartbeat", heartbeat)):
            if limit is not None and not is_duration(limit):
                text = f"{name} is seconds above 0, not {short_repr(limit)}"
                problems.append(Problem(name, text))
        if action is None:
            return
        executor = self.executor or ("thread" if action.has_tasks else "inline")
        if timeout is not None and executor == "inline" and action.kind != "workflow":
            text = (
                "timeout cannot be honoured in the calling thread, where nothing can "
                "stop a call"
            )
            hint = (
                "; use executor='process', which is killed, or executor='thread', "
                "which is no longer waited for"
            )
            problems.append(Problem("timeout", text, hint))
        if heartbeat is not None:
            found = _heartbeat_problems(executor, action)
            problems += about("heartbeat", found)


def _heartbeat_problems(executor: Any, action: Action) -> list[str]:
    found = []
    if executor not in ("thread", "process") and not is_lanes(executor):
        found.append(
            "heartbeat goes with executor='thread' or executor='process', "
            "or with ProcessLanes"
        )
    callees: list[Any] = [callee for _, callee in action.callees()]
    expects = "heartbeat expects calls of context.heartbeat()"
    if any(callee.nested is not None for callee in callees):
        text = "which a workflow does not make; give it to steps of the workflow"
        found.append(f"{expects}, {text}")
    elif any(callee.context_name is None for callee in callees):
        found.append(
            f"{expects}, so every function of the step must take a parameter "
            "annotated Context, or named context"
        )
    return found


class Many(Frozen):
    """How a step runs several tasks, as it was given."""

    __slots__ = ()

    stop_on_failure: Any = False
    max_workers: Any = None
    tolerated_failures: Any = None

    def check(self, problems: list[Problem]) -> None:
        """Say what is wrong."""
        tolerated, workers = self.tolerated_failures, self.max_workers
        if not (tolerated is None or is_count(tolerated, 0) or _is_share(tolerated)):
            text = (
                "tolerated_failures is a count from 0, or a share of the tasks such as "
                f"'10%', not {tolerated!r}"
            )
            problems.append(Problem("tolerated_failures", text))
        if workers is not None and not is_count(workers, 1):
            text = f"max_workers is a whole number from 1, not {workers!r}"
            problems.append(Problem("max_workers", text))

    def refuse(self, problems: list[Problem]) -> None:
        """Say that each of them goes with several tasks alone."""
        for name, given in zip(self._fields, self._values):
            if given is not None and given is not False:
                problems.append(Problem(name, f"{name} goes with parallel=True"))


def is_duration(value: Any) -> bool:
    """Tell a number of seconds above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return float(value) > 0
    except OverflowError:  # a whole number beyond what a float holds
        return False


def share(percentage: str, count: int) -> int:
    """Give how many of so many a share such as ``"10%"`` is, rounded down."""
    # 10% of 30 is 3, whatever binary fractions say.
    return int(float(percentage[:-1]) * count / 100 + 1e-9)


def _is_share(value: Any) -> bool:
    is_one = isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%", value)
    return bool(is_one) and float(value[:-1]) <= 100


def _is_parameter(name: Any) -> bool:
    return isinstance(name, str) and name.isidentifier()


def description_problems(description: Any) -> list[Problem]:
    """Say what is wrong with what is said of a step, or of a workflow."""
    if isinstance(description, str):
        return []
    return [Problem("description", f"description is a text, not {description!r}")]
