"""Workflows made at random, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from shared import reference
from shared.calls import Oops

from stepfunction import (
    FailStepError,
    NoBranchMatchedError,
    ParallelStepExecutionError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    StepLimitError,
)
from stepfunction.core.errors import RemoteTraceback

# Every run tries the same examples. Who looks for trouble gives a factor: then there
# are more, they are new in every run, and what fails is made small, which takes long.
FACTOR = int(os.environ.get("STEPFUNCTION_EXAMPLES", "1"))
HUNTING = FACTOR > 1


def examples(count: int) -> settings:
    return settings(
        max_examples=count * FACTOR,
        derandomize=not HUNTING,
        phases=[Phase.generate, *[Phase.shrink] * HUNTING],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Flaky(Oops):
    pass


class Gone(Oops, LookupError):
    pass


def class_names(error_class: type) -> tuple[str, ...]:
    return tuple(c.__name__ for c in error_class.__mro__[:-2])


CLASSES = {
    c.__name__: c
    for c in (
        Oops,
        Flaky,
        Gone,
        LookupError,
        NoBranchMatchedError,
        StepLimitError,
        ParallelStepExecutionError,
        StepExecutionError,
        Exception,
    )
}
WRAPPERS = ["ParallelStepExecutionError", "StepExecutionError", "Exception"]


class Scripted:
    def __init__(self, script: list[Any]) -> None:
        self.script = script
        self.calls = 0

    def __call__(self, value: Any) -> Any:
        verb, *facts = self.script[min(self.calls, len(self.script) - 1)]
        self.calls += 1
        if verb == "fail":
            raise CLASSES[facts[0][0]](facts[1])
        if verb == "raise" and isinstance(value, Exception):
            raise value
        return facts[0] if verb == "give" else value


class ScriptedByName(Scripted):
    def __call__(self, **named: Any) -> Any:
        return super().__call__(named)


class Condition:
    def __init__(self, key: Any, of_tasks: bool) -> None:
        self.key = key
        self.of_tasks = of_tasks

    def __call__(self, output: Any) -> bool | None:
        result = next(iter(output.values())) if self.of_tasks else output
        return reference.choose({self.key: True}, result)


class Chooser:
    def __init__(self, branch: Mapping[Any, str], of_tasks: bool) -> None:
        self.branch = branch
        self.of_tasks = of_tasks

    def __call__(self, output: Any) -> str | None:
        result = next(iter(output.values())) if self.of_tasks else output
        return reference.choose(self.branch, result)


KEYS = st.sampled_from([True, False, 0, 1, 2, "a", "b", None])
VALUES = KEYS | st.sampled_from([[1], {"k": 0}])
GIVE = st.tuples(st.just("give"), VALUES)
ECHO = st.just(("echo",))
RAISE = st.just(("raise",))
FAIL = st.builds(
    lambda error_class, text: ("fail", class_names(error_class), text),
    st.sampled_from([Oops, Flaky, Gone, LookupError]),
    st.sampled_from(["", "no", "not 'so'"]),
)
FAIL_STEP = st.just(("fail", class_names(FailStepError), "E.No: not so"))
MADE = ["pass", "constant", "wait", "fail"]
ONE_IN = {n: st.sampled_from([True] + [False] * (n - 1)) for n in (2, 3, 4, 6)}
MOSTLY = st.sampled_from([True, True, False])


def contains_fan_out(do: Any) -> bool:
    return isinstance(do, dict) and any(
        "tasks" in step or contains_fan_out(step["do"]) for step in do["steps"].values()
    )


@st.composite
def workflows(
    draw: Any, races: bool, steady: bool = False, depth: int = 3, plain: bool = False
) -> Any:
    """Draw a workflow; a plain one has steps of ``add_step`` alone.

    With ``races`` tasks may run side by side, so nothing depends on which of them
    fails first, or on what still happens to those that are stopped. What is
    ``steady`` does the same in every call, so that calls need not be counted.
    """
    sizes = [5, 6, 4, 3, 1] if depth == 3 else [3, 2, 1, 4]
    names = list("abcdef"[: draw(st.sampled_from(sizes))])
    may_loop = draw(ONE_IN[6])
    steps = {}
    for place, name in enumerate(names):
        targets = names if may_loop else names[place + 1 :]
        steps[name] = draw(drawn_steps(targets, races, steady, depth, plain))
    max_steps = draw(st.integers(1, 12)) if may_loop or draw(ONE_IN[6]) else None
    on_failure = {}
    if len(names) > 1 and not plain and draw(ONE_IN[3]):
        on_failure = draw(takers(names[1:], races))
    workflow = {"name": "w", "start": "a", "max_steps": max_steps, "steps": steps}
    workflow["on_failure"] = on_failure
    found = reference.reachable(workflow, ["next", "branch", "failure"])
    order = sorted(found, reverse=draw(ONE_IN[2]))
    workflow["on_failure"] = {c: to for c, to in on_failure.items() if to in found}
    workflow["steps"] = {name: steps[name] for name in order}
    for name in order:
        sources = reference.always_before(workflow, name)
        if steps[name]["kind"] not in MADE and sources and draw(ONE_IN[3]):
            inputs = st.dictionaries(
                st.sampled_from("xyz"), st.sampled_from(sources), min_size=1, max_size=2
            )
            steps[name]["inputs"] = draw(inputs)
    return workflow


@st.composite
def drawn_steps(
    draw: Any,
    targets: list[str],
    races: bool,
    steady: bool,
    depth: int,
    plain: bool = False,
) -> Any:
    step: dict[str, Any] = {"next": None, "branch": {}, "on_failure": {}}
    step |= {"ends": None, "inputs": {}}
    kinds = [] if plain else MADE
    kind = draw(st.sampled_from(["script"] * 6 + ["fan-out"] * 3 + ["nested"] + kinds))
    step |= {"kind": kind, "asks": draw(st.sampled_from(["chooser", "conditions"]))}
    step |= {"stop": False, "tolerated": None, "attempts": 1, "retry_on": "Exception"}
    step |= {"chooser": kind == "fan-out" or draw(ONE_IN[4])}
    step |= {"executor": draw(st.sampled_from([None, None, "inline", "thread"]))}
    doings = scripts(races, steady)
    if depth > 1:
        nested = workflows(races, steady, depth - 1, plain)
        doings = st.one_of(doings, doings, doings, nested)
    if kind == "fan-out":
        count = draw(st.integers(1, 4 if depth == 3 else 2))
        step["tolerated"] = draw(TOLERATED)
        step["stop"] = draw(ONE_IN[2])
        step["tasks"] = {name: draw(doings) for name in "abcd"[:count]}
    else:
        nested_only = kind == "nested" and depth > 1
        step["do"] = draw(nested if nested_only else scripts(races, steady))
    if kind in kinds:
        verb = FAIL_STEP if kind == "fail" else GIVE if kind == "constant" else ECHO
        step |= {"do": [draw(verb)], "executor": None}
    is_racy = races and ("tasks" in step or contains_fan_out(step["do"]))
    if targets and kind != "fail":
        nearest = [targets[0]] * 4
        step["next"] = draw(st.sampled_from([*nearest, *targets, None]))
        if kind != "wait" and draw(ONE_IN[3]):
            pairs = st.tuples(KEYS, st.sampled_from(targets))
            step["branch"] = dict(draw(st.lists(pairs, min_size=1, max_size=4)))
        if draw(MOSTLY):
            step["on_failure"] = draw(takers(targets, is_racy))
    if step["next"] is None and not step["branch"] and kind != "fail":
        step["ends"] = draw(st.sampled_from([None, None, "completed", "failed"]))
    # A fan-out with retries always races: which task ends first is nobody's promise.
    if kind not in kinds and draw(ONE_IN[2]) and (races or "do" in step):
        narrow = [] if is_racy else ["Oops", "Oops", "LookupError"]
        step["attempts"] = draw(st.integers(2, 3))
        step["retry_on"] = draw(st.sampled_from(["Exception", *narrow, *WRAPPERS]))
    if races and step["stop"]:
        step["tasks"] = without_races(step)
    step["undo"] = kind not in kinds and draw(st.sampled_from([False, False, True]))
    if "tasks" in step and draw(ONE_IN[2]):
        step["undo"] = sorted(draw(st.sets(st.sampled_from([*step["tasks"]]))))
    return step


def scripts(races: bool, steady: bool) -> Any:
    line = st.one_of(GIVE, GIVE, GIVE, ECHO, FAIL, FAIL, ECHO if races else RAISE)
    return st.lists(line, min_size=1, max_size=1 if steady else 3)


TOLERATED = st.sampled_from([None, None, 0, 1, 2, 9, "0%", "25%", "33.4%", "50%"])


def takers(targets: list[str], is_racy: bool) -> Any:
    """Draw what on_failure maps; a class behind one of its bases is left out."""

    def in_order(pairs: list[tuple[str, str]]) -> dict[str, str]:
        taken: dict[str, str] = {}
        for name, target in pairs:
            if not any(issubclass(CLASSES[name], CLASSES[base]) for base in taken):
                taken[name] = target
        return taken

    names = st.sampled_from(WRAPPERS if is_racy else [*CLASSES])
    pairs = st.tuples(names, st.sampled_from(targets))
    return st.lists(pairs, min_size=1, max_size=4).map(in_order)


def without_races(step: Any) -> Any:
    """Give the tasks of a step that stops such that it does not matter when."""
    failures, tasks = 0, {}
    for name, do in step["tasks"].items():
        line = do[0] if isinstance(do, list) else ("give", "nested")
        if line[0] == "fail":
            failures += 1
            if failures > reference.tolerance(step, True) + 1:
                line = ("give", "fine")
        tasks[name] = [line]
    return tasks


def built(workflow: Any, **options: Any) -> StepFunction:
    options["on_failure"] = on_failure_of(workflow)
    builder = StepFunction(
        workflow["name"], max_steps=workflow["max_steps"], **options
    )
    builder.set_start_step(workflow["start"])
    for name, step in workflow["steps"].items():
        shape: dict[str, Any] = {
            "next_step": step["next"],
            "on_failure": on_failure_of(step),
            "branch": step["branch"] or None,
            "ends": step["ends"],
            "inputs": step["inputs"] or None,
        }
        by_name = bool(step["inputs"])
        if step["branch"] and step["chooser"]:
            shape |= asking(step)
        if step["kind"] in MADE:
            del shape["inputs"]
            add_made(builder, name, step, shape)
            continue
        shape["executor"] = step["executor"]
        if step["undo"]:
            undo = step["undo"]
            shape["compensate"] = repr if undo is True else dict.fromkeys(undo, repr)
        if step["attempts"] > 1:
            shape["retry"] = RetryPolicy(
                step["attempts"], interval=0, retry_on=CLASSES[step["retry_on"]]
            )
        if "tasks" in step:
            tasks = {task: action(do, by_name) for task, do in step["tasks"].items()}
            shape["stop_on_failure"] = step["stop"]
            shape["tolerated_failures"] = step["tolerated"]
            builder.add_step(name, tasks, parallel=True, **shape)
        elif isinstance(step["do"], dict) and step["chooser"]:
            builder.add_sub_step_function(name, built(step["do"]), **shape)
        else:
            builder.add_step(name, action(step["do"], by_name), **shape)
    return builder


def on_failure_of(it: Any) -> Any:
    """Give what the on_failure of a step, or of a workflow, is as an argument."""
    if [*it["on_failure"]] == ["Exception"]:
        return it["on_failure"]["Exception"]
    return {CLASSES[c]: to for c, to in it["on_failure"].items()} or None


def asking(step: Any) -> dict[str, Any]:
    branch, of_tasks = step["branch"], "tasks" in step
    if step["asks"] == "conditions":
        return {"branch": [(Condition(k, of_tasks), to) for k, to in branch.items()]}
    return {"branch": Chooser(branch, of_tasks), "branch_targets": [*branch.values()]}


def add_made(builder: StepFunction, name: str, step: Any, shape: Any) -> None:
    if step["kind"] == "fail":
        builder.add_fail_step(name, "E.No", "not so")
    elif step["kind"] == "wait":
        del shape["branch"]
        builder.add_wait_step(name, seconds=0, **shape)
    elif step["kind"] == "constant":
        builder.add_pass_step(name, step["do"][0][1], **shape)
    else:
        builder.add_pass_step(name, **shape)


def action(do: Any, by_name: bool) -> Any:
    if isinstance(do, dict):
        return built(do)
    return ScriptedByName(do) if by_name else Scripted(do)


def executed(builder: StepFunction, value: Any, **options: Any) -> Any:
    """Give the execution, and what execute() raised."""
    try:
        return builder.execute(value, **options), None
    except StepExecutionError as error:
        assert error.execution is not None
        return error.execution, error


def plain(value: Any, races: bool) -> Any:
    if isinstance(value, BaseException):
        value = facts_of(value)
    if isinstance(value, Mapping):
        return {key: plain(item, races) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, races) for item in value]
    if isinstance(value, tuple):
        if races and value[0] == reference.PARALLEL:
            names, step, _, _, errors, first = value
            assert plain(first, races) in plain([*errors.values()], races)
            value = (names, step, errors)
        return tuple(plain(item, races) for item in value)
    return repr(value)


def facts_of(error: BaseException) -> Any:
    names = class_names(type(error))
    if isinstance(error, ParallelStepExecutionError):
        outcomes = {task: str(outcome) for task, outcome in error.outcomes.items()}
        facts = (error.step, outcomes, error.results, error.errors, error.__cause__)
    elif isinstance(error, StepLimitError):
        facts = (error.step,)
    elif isinstance(error, StepExecutionError):
        is_root = isinstance(error.__cause__, RemoteTraceback)
        facts = (error.step, None if is_root else error.__cause__)
    elif isinstance(error, NoBranchMatchedError):
        facts = (error.step, error.result)
    else:
        return (names, str(error))
    assert repr(error.step) in str(error)
    return (names, *facts)
