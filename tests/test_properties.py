from __future__ import annotations

import logging
import os
import pickle
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pydot
import pytest
import reference
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from stepfunction import (
    Context,
    DefinitionError,
    Event,
    Execution,
    FailStepError,
    NoBranchMatchedError,
    ParallelStepExecutionError,
    ProcessLanes,
    RemoteError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    StepLimitError,
    StepRecord,
)
from stepfunction.core.envelope.envelope import pack, unpack
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


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("stepfunction")
    logger.disabled = True
    yield
    logger.disabled = False


# --- what the steps of a random workflow do ---------------------------------------


class Oops(Exception):
    pass


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


# --- random workflows as plain data -------------------------------------------------

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
            if failures > reference.tolerance(step) + 1:
                line = ("give", "fine")
        tasks[name] = [line]
    return tasks


# --- and as the package knows them --------------------------------------------------


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


# --- what is compared ---------------------------------------------------------------


def check(workflow: Any, value: Any, races: bool, **options: Any) -> Execution:
    expected = outcome(workflow, value)
    execution, raised = executed(built(workflow), value, **options)
    actual = told(execution, raised is not None)
    assert comparable(actual, workflow, races) == comparable(expected, workflow, races)
    if raised is not None:
        assert plain(raised, races) == plain(expected["raised_if_failed"], races)
        assert type(raised) is StepLimitError or is_behind(raised, execution.error)
    check_order(execution, workflow)
    again = told(execution, raised is not None)
    assert comparable(again, workflow, races) == comparable(actual, workflow, races)
    return execution


def outcome(workflow: Any, value: Any) -> Any:
    """Give what the reference says, unless loops of tasks made it too long."""
    expected = reference.run(workflow, value)
    waiting, seen = [expected], 0
    while waiting and seen < 50_000:
        seen += 1
        it = waiting.pop()
        if isinstance(it, dict | list | tuple):
            waiting += it.values() if isinstance(it, dict) else it
    assume(not waiting)
    return expected


def is_behind(error: BaseException | None, first: BaseException | None) -> bool:
    if error is None or error is first:
        return error is first
    return is_behind(error.__cause__, first) or is_behind(error.__context__, first)


def told(execution: Execution, execute_raises: bool) -> Any:
    """Give an execution in the words of the reference."""
    failure = None
    try:
        assert execution.raise_if_failed() is execution
    except StepExecutionError as error:
        assert error.execution is execution
        failure = error
    return {
        "status": str(execution.status),
        "output": execution.output,
        "error": execution.error,
        "raised_if_failed": failure,
        "execute_raises": execute_raises,
        "context": dict(execution.context),
        "path": [record.step for record in execution.history if record.task is None],
        "failures": [[record.step, record.task] for record in execution.failures],
        "records": [told_record(record) for record in execution.history],
        "undone": [
            [record.step, record.task, record.input]
            for record in execution.compensations
        ],
    }


def check_order(execution: Execution, workflow: Any) -> None:
    """Look whether what ended last was undone first, here and in what is nested."""
    ends: dict[Any, list[float]] = {}
    for record in execution.history:
        if record.child is not None:
            step = workflow["steps"][record.step]
            do = step["tasks"][record.task] if record.task else step["do"]
            check_order(record.child, do)
        if record.started is not None:
            end = record.started + record.duration
            ends.setdefault((record.step, record.task), []).append(end)
    if workflow["max_steps"] is None:  # else a step may be visited twice
        undone = [ends[it.step, it.task][-1] for it in execution.compensations]
        assert all(a >= b - 1e-5 for a, b in pairwise(undone))
    last = max((it[-1] for it in ends.values()), default=0)
    assert all(it.started >= last - 1e-5 for it in execution.compensations)


def told_record(record: StepRecord) -> Any:
    facts = record._asdict()
    del facts["started"], facts["duration"]
    facts["outcome"] = str(record.outcome)
    facts["attempts"] = len(record.attempts)
    facts["child"] = record.child and told(record.child, False)
    return facts


def comparable(story: Any, workflow: Any, races: bool) -> Any:
    """Give what is certain of a told execution, with failures as tuples."""
    records, is_stopped = [], False
    for record in story["records"]:
        step, task = workflow["steps"][record["step"]], record["task"]
        if task is None:
            is_stopped = races and step["stop"] and record["outcome"] == "FAILED"
        elif is_stopped and record["error"] is None:
            record = {"task": task, "outcome": "ended, killed, or never began"}
        if record.get("child") is not None:
            nested = step["do"] if task is None else step["tasks"][task]
            child = {**record["child"], "execute_raises": None}
            record = {**record, "child": comparable(child, nested, races)}
        records.append(plain(record, races))
    if races:  # what succeeds is up to the races, and so is what is undone
        story = {**story, "undone": None}
    return {**plain(story, races), "records": records}


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


# --- executions ---------------------------------------------------------------------


@examples(120)
@given(workflows(races=False), VALUES)
def test_an_inline_execution_comes_to_what_the_reference_says(workflow, value):
    check(workflow, value, races=False, executor="inline")


@examples(70)
@given(workflows(races=True), VALUES)
def test_an_execution_on_threads_comes_to_what_the_reference_says(workflow, value):
    check(workflow, value, races=True, executor="thread")


@examples(60)
@given(workflows(races=True), VALUES)
def test_steps_come_to_the_same_wherever_they_say_they_run(workflow, value):
    check(workflow, value, races=True)


@pytest.fixture(scope="module")
def lanes() -> Iterator[ProcessLanes]:
    with ProcessLanes(max_workers=2) as lanes:
        yield lanes


@examples(50)
@given(workflow=workflows(races=True, steady=True, depth=2), value=VALUES)
def test_an_execution_in_processes_comes_to_what_the_reference_says(
    lanes, workflow, value
):
    check(workflow, value, races=True, executor=lanes)


@examples(4)
@given(workflow=workflows(races=True, steady=True, depth=2), value=VALUES)
def test_an_execution_with_processes_of_its_own_comes_to_the_same(workflow, value):
    check(workflow, value, races=True, executor="process")


def without_undoing(workflow: Any) -> Any:
    steps = {}
    for name, step in workflow["steps"].items():
        steps[name] = step = {**step, "undo": False}
        if "tasks" in step:
            tasks = step["tasks"].items()
            step["tasks"] = {task: undone_by_nobody(do) for task, do in tasks}
        else:
            step["do"] = undone_by_nobody(step["do"])
    return {**workflow, "steps": steps}


def undone_by_nobody(do: Any) -> Any:
    return without_undoing(do) if isinstance(do, dict) else do


@examples(50)
@given(workflows(races=False), VALUES, st.integers(1, 4))
def test_an_execution_that_forgets_comes_to_the_same(workflow, value, keeps):
    workflow = without_undoing(workflow)  # which cannot forget
    whole = comparable(outcome(workflow, value), workflow, False)
    execution, raised = executed(
        built(workflow, keep_history=keeps), value, executor="inline"
    )
    kept = comparable(told(execution, raised is not None), workflow, False)
    steps = [n for n, each in enumerate(whole["records"]) if each["task"] == "None"]
    assert execution.forgotten == max(0, len(steps) - keeps)
    records = whole["records"][([0] * keeps + steps)[-keeps] :]
    assert kept["records"] == records
    assert kept["path"] == whole["path"][-keeps:]
    for key in ("status", "output", "error", "raised_if_failed", "context"):
        assert kept[key] == whole[key]


@examples(30)
@given(workflows(races=False), VALUES)
def test_an_execution_tells_the_same_after_pickling(workflow, value):
    execution = check(workflow, value, races=False, executor="inline")
    copy = pickle.loads(pickle.dumps(execution))
    before = comparable(told(execution, False), workflow, False)
    assert comparable(told(copy, False), workflow, False) == before


# --- map steps ----------------------------------------------------------------------


def fail_so_often(item: tuple[int, int], context: Context) -> int:
    value, failures = item
    if context.attempt <= failures:
        raise Oops(value)
    return value


ITEMS = st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0, 0, 0, 1, 2, 3])))
MAP_STEPS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 5),
        "attempts": st.integers(1, 3),
        "stop": ONE_IN[2],
        "tolerated": TOLERATED,
        "is_counted": ONE_IN[2],
        "keeps": MOSTLY,
        "timeout": st.sampled_from([None, None, 60]),
        "max_workers": st.sampled_from([1, 2, None]),
    }
)


def check_map(items: Any, step: Any, executor: Any) -> None:
    workflow = StepFunction("w").set_start_step("a")
    workflow.add_map_step(
        "a",
        fail_so_often,
        batch_size=step["batch_size"],
        stop_on_failure=step["stop"],
        tolerated_failures=step["tolerated"],
        keep_results=step["keeps"],
        retry=RetryPolicy(step["attempts"], interval=0),
        timeout=step["timeout"],
        max_workers=step["max_workers"],
    )
    source = items if step["is_counted"] else iter(items)
    events: list[Event] = []
    execution, raised = executed(
        workflow, source, executor=executor, listeners=[events.append]
    )
    expected = reference.run_map(items, step)
    assert (raised is not None) == expected["has_failed"]
    races = expected["has_failed"] and step["stop"]
    if races and executor == "inline" and step["attempts"] == 1:
        races = False
    check_ends(execution, raised, items, step, expected, races)
    progress = [event for event in events if event.kind == "step_progressed"]
    assert progress[-1].done == progress[-1].total or races or expected["has_failed"]
    assert [event.done for event in progress] == sorted(e.done for e in progress)


def check_ends(
    execution: Any, raised: Any, items: Any, step: Any, expected: Any, races: bool
) -> None:
    ends, records = expected["ends"], execution.history[1:]
    for record in records:
        value, failures = items[int(record.task)]
        assert record.input == (value, failures)
        if record.outcome == "SUCCEEDED":
            assert (record.output, len(record.attempts)) == (value, failures + 1)
        elif record.error is not None:
            assert (str(record.error), record.output) == (str(value), None)
            assert 1 <= len(record.attempts) <= min(failures, step["attempts"])
        else:
            assert races or not record.attempts
    failed = {int(record.task) for record in records if record.error is not None}
    if races:
        assert len(failed) > expected["tolerated"]
        return
    assert failed == {at for at, end in enumerate(ends) if end["outcome"] == "FAILED"}
    noted = {int(it.task): (str(it.outcome), len(it.attempts)) for it in records}
    is_alone = step["batch_size"] == 1
    for at, end in enumerate(ends):
        has_trouble = end["attempts"] > 1 or end["outcome"] == "FAILED"
        if is_alone:
            has_trouble |= end["outcome"] != "SUCCEEDED"
        if has_trouble or (is_alone and step["keeps"]):
            if is_alone or end["outcome"] != "CANCELLED":
                assert noted[at] == (end["outcome"], end["attempts"])
    check_output(execution, raised, step, ends)


def check_output(execution: Any, raised: Any, step: Any, ends: Any) -> None:
    counts = Counter(end["outcome"] for end in ends)
    if raised is not None:
        outcomes = Counter(str(outcome) for outcome in raised.outcomes.values())
        assert outcomes == (counts if step["keeps"] else {"FAILED": counts["FAILED"]})
        succeeded = {
            at: end["value"]
            for at, end in enumerate(ends)
            if end["outcome"] == "SUCCEEDED"
        }
        assert dict(raised.results) == (succeeded if step["keeps"] else {})
    elif step["keeps"]:
        assert [str(result) for result in execution.output] == [
            str(end["value"]) for end in ends
        ]
        failed = [at for at, end in enumerate(ends) if end["outcome"] == "FAILED"]
        assert sorted(execution.output.failed) == failed
        assert all(type(execution.output[at]) is Oops for at in failed)
    else:
        told = {str(outcome): count for outcome, count in execution.output.items()}
        assert told == {"SUCCEEDED": 0, **counts}


@examples(400)
@given(ITEMS, MAP_STEPS)
def test_an_inline_map_comes_to_what_the_reference_says(items, step):
    check_map(items, step, "inline")


@examples(100)
@given(ITEMS, MAP_STEPS)
def test_a_map_on_threads_comes_to_what_the_reference_says(items, step):
    check_map(items, step, "thread")


@examples(60)
@given(items=ITEMS, step=MAP_STEPS)
def test_a_map_in_processes_comes_to_what_the_reference_says(lanes, items, step):
    check_map(items, step, lanes)


# --- the envelope -------------------------------------------------------------------


class TwoIn(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class ByKeyword(Exception):
    def __init__(self, *, text: str) -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text


class Coded(OSError):
    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(code, reason)


class Locked(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Unwilling(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no")


class Changing(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(f"<{text}>")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda items: st.lists(items, max_size=3)
    | st.tuples(items)
    | st.dictionaries(st.text(max_size=3), items, max_size=3),
    max_leaves=8,
)
ERRORS = st.one_of(
    st.builds(Oops, PLAIN, PLAIN),
    st.builds(KeyError, PLAIN),
    st.builds(OSError, st.integers(0, 99), st.text()),
    st.builds(lambda text: UnicodeDecodeError("utf-8", b"!", 0, 1, text), st.text()),
    st.builds(TwoIn, st.text(), st.integers()),
    st.builds(lambda text: ByKeyword(text=text), st.text()),
    st.builds(lambda code, text: Coded(code, reason=text), st.integers(), st.text()),
    st.builds(Locked, st.text()),
    st.builds(Unwilling, st.text()),
    st.builds(Changing, st.text()),
).map(raised)


@examples(100)
@given(PLAIN)
def test_a_value_comes_out_of_the_envelope_as_it_went_in(value):
    assert unpack(pack(value)) == value


@examples(100)
@given(ERRORS)
def test_an_exception_comes_out_with_its_class_text_and_traceback(error):
    came = unpack(pack(error))
    assert type(came) is type(error)
    assert str(came) == str(error)
    assert isinstance(came.__cause__, RemoteTraceback)
    assert "in raised\n" in str(came.__cause__)


@examples(50)
@given(st.text())
def test_an_exception_of_a_class_that_cannot_be_imported_comes_out_as_text(text):
    class Local(Exception):
        pass

    came = unpack(pack(raised(Local(text))))
    assert type(came) is RemoteError
    assert came.text == text
    assert came.type_name.endswith("<locals>.Local")
    assert "in raised\n" in str(came.__cause__)


@examples(50)
@given(st.lists(ERRORS, min_size=1, max_size=3), PLAIN)
def test_exceptions_inside_a_value_come_out_in_their_places(errors, value):
    sent = {"task": errors[0], "tasks": [{"a": value}, *errors]}
    assert plain(unpack(pack(sent)), races=False) == plain(sent, races=False)


# --- definitions --------------------------------------------------------------------

NAMES = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]
UNKNOWN = ["?", "!!", "%%%"]  # these resemble no name


@st.composite
def definitions(draw: Any) -> Any:
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 6))]
    targets = st.sampled_from([*names * 3, *UNKNOWN])
    steps = {}
    for name in names:
        branch = draw(st.lists(st.tuples(KEYS, targets), max_size=2))
        steps[name] = {
            "next": draw(st.none() | targets),
            "branch": dict(branch),
            "on_failure": {"Exception": draw(targets)} if draw(ONE_IN[3]) else {},
        }
    return {"start": draw(st.sampled_from([*names * 3, None, "?"])), "steps": steps}


def defined(definition: Any, **options: Any) -> StepFunction:
    builder = StepFunction("w", **options)
    if definition["start"] is not None:
        builder.set_start_step(definition["start"])
    for name, step in definition["steps"].items():
        failure_step = step["on_failure"].get("Exception")
        branch = step["branch"] or None
        builder.add_step(name, Scripted([]), step["next"], failure_step, branch)
    return builder


def problems_of(builder: StepFunction) -> tuple[str, ...]:
    try:
        builder.compile()
    except DefinitionError as error:
        return error.problems
    return ()


def arrows_of(definition: Any) -> list[tuple[str, str]]:
    return [
        (name, target)
        for name, step in definition["steps"].items()
        for targets in reference.arrows(step).values()
        for target in targets
    ]


def led_to(arrows: list[tuple[str, str]], starts: set[str]) -> set[str]:
    """Give what one or more arrows lead to from any of the starts."""
    found: set[str] = set()
    for _ in range(len(NAMES) + 1):
        found |= {target for name, target in arrows if name in starts | found}
    return found


@examples(150)
@given(definitions())
def test_compile_names_every_arrow_that_leads_to_no_step(definition):
    pattern = r"step '(\w+)': .* leads to '(\S+)',"
    found = [re.match(pattern, text) for text in problems_of(defined(definition))]
    steps = definition["steps"]
    assert sorted(match.groups() for match in found if match) == sorted(
        (name, target) for name, target in arrows_of(definition) if target not in steps
    )


@examples(150)
@given(definitions())
def test_compile_names_every_step_that_cannot_be_reached(definition):
    pattern = r"step '(\w+)' cannot be reached from '(\w+)'"
    found = [re.match(pattern, text) for text in problems_of(defined(definition))]
    start, unreached = definition["start"], set()
    if start in definition["steps"]:
        unreached = definition["steps"].keys() - {start}
        unreached -= led_to(arrows_of(definition), {start})
    assert sorted(match.groups() for match in found if match) == sorted(
        (name, start) for name in unreached
    )


@examples(150)
@given(definitions())
def test_compile_names_a_circle_exactly_where_there_is_one(definition):
    arrows = arrows_of(definition)
    in_circles = {
        name for name in definition["steps"] if name in led_to(arrows, {name})
    }
    pattern = r"steps run in a circle: ([^;]*)"
    found = [re.match(pattern, text) for text in problems_of(defined(definition))]
    circles = [
        [name.strip("'") for name in match[1].split(" → ")] for match in found if match
    ]
    assert bool(circles) == bool(in_circles)
    for circle in circles:
        assert circle[0] == circle[-1]
        assert set(pairwise(circle)) <= set(arrows)


@examples(150)
@given(definitions())
def test_compile_finds_nothing_else(definition):
    others = ("leads to", "cannot be reached", "run in a circle")
    rest = [
        text
        for text in problems_of(defined(definition))
        if not any(other in text for other in others)
    ]
    assert len(rest) == (definition["start"] not in definition["steps"])


@examples(50)
@given(definitions())
def test_compile_lets_circles_be_where_max_steps_bounds_a_run(definition):
    without = problems_of(defined(definition, max_steps=9))
    assert list(without) == [
        text for text in problems_of(defined(definition)) if "circle" not in text
    ]


# --- drawings -----------------------------------------------------------------------

HOSTILE = st.text(min_size=1, max_size=4) | st.sampled_from(
    ["node", "a:b", '"', "\\", "\\n", "\\N", "<b>", "&", "&amp;", "\n", "->", "{|}"]
)


# pydot's own parser uses names that pyparsing has since changed.
@pytest.mark.filterwarnings("ignore:.* deprecated - use:DeprecationWarning")
@examples(20)
@given(
    workflows(races=False, depth=2, plain=True),
    st.lists(
        st.lists(HOSTILE, min_size=1, max_size=3).map("".join),
        min_size=7,
        max_size=7,
        unique=True,
    ),
)
def test_a_drawing_is_read_back_with_every_name_as_a_label(workflow, names):
    hostile = renamed(workflow, dict(zip("abcdefw", names)))
    (drawing,) = pydot.graph_from_dot_data(built(hostile).to_dot())
    assert Counter(labels_in(drawing)) == Counter(map(shown, labels_of(hostile)))


def renamed(workflow: Any, names: Mapping[str, str]) -> Any:
    def do(doing: Any) -> Any:
        return renamed(doing, names) if isinstance(doing, dict) else doing

    steps = {}
    for name, step in workflow["steps"].items():
        step = {**step, "next": names.get(step["next"]), "undo": False}
        for kind in ("branch", "on_failure", "inputs"):
            step[kind] = {key: names[target] for key, target in step[kind].items()}
        if "tasks" in step:
            step["tasks"] = {names[task]: do(d) for task, d in step["tasks"].items()}
        else:
            step["do"] = do(step["do"])
        steps[names[name]] = step
    found = {"name": names["w"], "start": names[workflow["start"]], "steps": steps}
    return {**workflow, **found}


def labels_of(workflow: Any, name: str | None = None) -> Iterator[str]:
    own = workflow["name"]
    yield own if name in (None, own) else f"{name}: {own}"
    for step_name, step in workflow["steps"].items():
        if "tasks" in step:
            yield step_name
        for task, doing in step.get("tasks", {step_name: step.get("do")}).items():
            if isinstance(doing, dict):
                yield from labels_of(doing, task)
            else:
                yield task


def shown(text: str) -> str:
    """Give a text without what has no shape of its own; drawings may replace that."""
    one_line = "".join(" " if c.isspace() and c != "\n" else c for c in text)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in one_line)


def labels_in(drawing: Any) -> Iterator[str]:
    yield shown(unescaped(drawing.get_label()))
    for node in drawing.get_nodes():
        is_mark = node.get_label() in (None, '""')  # of a start or an end, or defaults
        if not is_mark:
            yield shown(unescaped(node.get_label()))
    for cluster in drawing.get_subgraphs():
        if cluster.get_label() is not None:  # a group that only arranges its nodes
            yield from labels_in(cluster)


def unescaped(label: str) -> str:
    assert label[0] == label[-1] == '"'
    meant = {"\\n": "\n", "&amp;": "&"}
    return re.sub(
        r"\\.|&amp;", lambda found: meant.get(found[0], found[0][1:]), label[1:-1]
    )
