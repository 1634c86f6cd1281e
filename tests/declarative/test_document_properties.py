from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import jsonschema
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared.calls import Oops

from stepfunction import (
    Context,
    DefinitionError,
    FunctionRegistry,
    RetryPolicy,
    StepFunction,
    StepTimeoutError,
)

examples = settings(
    max_examples=50 * int(os.environ.get("STEPFUNCTION_EXAMPLES", "1")),
    derandomize="STEPFUNCTION_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


# --- what random workflows call ---------------------------------------------------


def echo(value: Any) -> Any:
    return value


def beat(value: Any, context: Context) -> Any:
    return value


def scale(value: Any, factor: Any = 1, **more: Any) -> Any:
    return value


async def later(value: Any) -> Any:
    return value


class Desk:
    def __eq__(self, other: object) -> bool:
        return type(other) is Desk

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def file(value: Any) -> Any:
        return value

    @classmethod
    def open(cls, value: Any) -> Any:
        return value

    def stamp(self, value: Any) -> Any:
        return value


class Gone(Oops):
    pass


desk = Desk()
REGISTRY = FunctionRegistry({"echo": echo, "stamp": desk.stamp, "Gone": Gone})


@REGISTRY.register("is large")
def is_large(value: Any) -> bool:
    return bool(value > 3)


NAMED = [echo, desk.stamp, REGISTRY["is large"]]
FUNCTIONS = st.sampled_from([*NAMED, scale, later, beat, Desk.file, Desk.open, Desk])
ANSWERS = st.sampled_from([*NAMED, Desk.file, Desk.open])
OF_VALUE = st.sampled_from([echo, scale, later, beat, Desk.file, Desk.open])
MODULES = [__name__, Oops.__module__]  # that have the classes of errors
ERRORS = [Gone, Oops, StepTimeoutError, ConnectionError, OSError, Exception]

TEXTS = st.text(max_size=6)
NAMES = st.text(min_size=1, max_size=6)
NUMBERS = st.integers(-9, 10**20) | st.floats(-1e9, 1e9)
SECONDS = st.integers(1, 99) | st.floats(0.001, 1e9)
DATA = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ZONES = st.integers(-1439, 1439).map(lambda it: timezone(timedelta(minutes=it)))
MOMENTS = st.datetimes(timezones=ZONES)


def options(**strategies: Any) -> Any:
    return st.fixed_dictionaries({}, optional=strategies)


def retry_on() -> Any:
    lists = st.lists(st.sampled_from(ERRORS), min_size=1, unique=True).map(tuple)
    return st.sampled_from(ERRORS) | lists


RETRIES = options(
    max_attempts=st.integers(1, 9),
    interval=st.integers(0, 9) | st.floats(0, 9),
    backoff_rate=st.integers(1, 9) | st.floats(1, 9),
    max_delay=st.none() | st.integers(0, 9),
    jitter=st.sampled_from(["full", None]),
    retry_on=retry_on(),
).map(lambda it: RetryPolicy(**it))


@st.composite
def failure_arrows(draw: Any, targets: list[str]) -> Any:
    target = st.sampled_from(targets)
    if draw(st.booleans()):
        return draw(target)
    chosen = draw(st.lists(st.sampled_from(ERRORS), min_size=1, unique=True))
    arrows: dict[Any, str] = {}
    for error in chosen:
        if not any(issubclass(error, earlier) for earlier in arrows):
            arrows[error] = draw(target)
    return arrows


@st.composite
def branches(draw: Any, targets: list[str], tabular: bool = True) -> dict[str, Any]:
    target = st.sampled_from(targets)
    kind = draw(st.sampled_from(["table"] * tabular + ["chooser", "conditions", None]))
    if kind == "table":
        keys = TEXTS | st.booleans() | st.none() | NUMBERS
        return {"branch": draw(st.dictionaries(keys, target, min_size=1, max_size=4))}
    if kind == "chooser":
        names = st.lists(target, min_size=1, max_size=3)
        return {"branch": draw(ANSWERS), "branch_targets": draw(names)}
    if kind == "conditions":
        pairs = st.tuples(ANSWERS, target)
        return {"branch": draw(st.lists(pairs, min_size=1, max_size=3))}
    return {}


@st.composite
def arrows(draw: Any, targets: list[str], tabular: bool = True) -> dict[str, Any]:
    if not targets:
        return dict(draw(options(ends=st.sampled_from(["completed", "failed"]))))
    found = draw(branches(targets, tabular))
    found |= draw(
        options(next_step=st.sampled_from(targets), on_failure=failure_arrows(targets))
    )
    return dict(found)


MANY = {
    "executor": st.sampled_from(["inline", "thread", "process"]),
    "max_workers": st.integers(1, 9),
    "tolerated_failures": st.integers(0, 9) | st.sampled_from(["0%", "33.3%", "100%"]),
    "stop_on_failure": st.booleans(),
    "retry": RETRIES,
}
# Every function that is drawn for a step with params takes any.
PARAMS = options(params=st.dictionaries(st.just("factor") | TEXTS, DATA, max_size=3))


def add_call(draw: Any, add: Callable[..., Any], earlier: list[str], _: Any) -> None:
    given = draw(options(retry=RETRIES, executor=MANY["executor"]))
    if draw(st.booleans()):
        params = draw(PARAMS)
        add("add_step", draw(st.just(scale)), **params, **given)
    elif earlier and draw(st.booleans()):
        inputs = {"value": draw(st.sampled_from(earlier))}
        add("add_step", draw(OF_VALUE), inputs=inputs, **given)
    else:
        limits = options(timeout=SECONDS, heartbeat=SECONDS, compensate=FUNCTIONS)
        given |= {"executor": "thread"} | draw(limits)
        add("add_step", beat if "heartbeat" in given else draw(FUNCTIONS), **given)


def add_nested(draw: Any, add: Callable[..., Any], _: Any, nested: Any) -> None:
    given = options(retry=RETRIES, timeout=SECONDS, compensate=FUNCTIONS)
    add("add_sub_step_function", draw(st.sampled_from(nested)), **draw(given))


def add_parallel(draw: Any, add: Callable[..., Any], _: Any, nested: Any) -> None:
    given = draw(options(**MANY))
    callees = FUNCTIONS
    if draw(st.booleans()):
        callees, given = st.just(scale), {**given, **draw(PARAMS)}
    elif nested:
        callees |= st.sampled_from(nested)
    tasks = draw(st.dictionaries(NAMES, callees, min_size=1, max_size=3))
    undo = st.dictionaries(st.sampled_from([*tasks]), FUNCTIONS, min_size=1)
    given |= draw(options(compensate=FUNCTIONS | undo))
    add("add_step", tasks, parallel=True, tabular=False, **given)


def add_map(draw: Any, add: Callable[..., Any], _: Any, nested: Any) -> None:
    items = TEXTS | st.integers() | ANSWERS
    given = draw(options(**MANY, items=items, keep_results=st.booleans()))
    if nested and draw(st.booleans()):
        callee = draw(st.sampled_from(nested))
    else:
        callee = scale
        given |= draw(PARAMS) | draw(options(batch_size=st.integers(1, 9)))
    add("add_map_step", callee, tabular=False, **given)


def add_wait(draw: Any, add: Callable[..., Any], _: Any, nested: Any) -> None:
    if draw(st.booleans()):
        how = {"seconds": draw(st.just(0) | SECONDS | ANSWERS)}
    else:
        how = {"until": draw(MOMENTS | ANSWERS)}
    add("add_wait_step", branching=False, **how)


def add_pass(draw: Any, add: Callable[..., Any], _: Any, nested: Any) -> None:
    add("add_pass_step", **draw(options(result=DATA)))


KINDS = [add_call, add_call, add_parallel, add_map, add_wait, add_pass]


@st.composite
def workflows(draw: Any, depth: int = 2) -> StepFunction:
    count = draw(st.integers(1, 5))
    names = draw(st.lists(NAMES, min_size=count, max_size=count, unique=True))
    nested = []
    if depth:
        nested = draw(st.lists(workflows(depth - 1), max_size=2))
    given = {"max_steps": 9} | draw(
        options(
            on_failure=failure_arrows(names),
            keep_history=st.integers(1, 9),
            description=TEXTS,
        )
    )
    if draw(st.booleans()):
        del given["max_steps"]
    builder = StepFunction(draw(st.sampled_from("ab")), **given)
    for place, name in enumerate(names):
        targets = names if "max_steps" in given else names[place + 1 :]
        follower = names[place + 1 : place + 2]  # without it some are never reached
        if not follower and draw(st.sampled_from([False, False, True])):
            builder.add_fail_step(name, draw(NAMES), draw(st.none() | TEXTS))
            continue

        def add(
            method: str,
            *positional: Any,
            tabular: bool = True,
            branching: bool = True,
            **more: Any,
        ) -> None:
            found = draw(arrows(targets, tabular))
            if not branching:
                found.pop("branch", None)
                found.pop("branch_targets", None)
            found |= {"next_step": name for name in follower}
            found |= draw(options(description=TEXTS))
            getattr(builder, method)(name, *positional, **more, **found)

        kind = draw(st.sampled_from([*KINDS, add_nested] if nested else KINDS))
        kind(draw, add, names[:place], nested)
    return builder.set_start_step(names[0])


def frozen(builder: StepFunction) -> Any:
    """Give the graph; where it is not sound, what is wrong with it."""
    try:
        return builder.compile()
    except DefinitionError as error:
        return error.problems


SCHEMA = jsonschema.Draft202012Validator(StepFunction.json_schema())


@examples
@given(workflows())
def test_every_workflow_survives_being_written_and_read(builder):
    document = builder.to_dict(REGISTRY)
    read = StepFunction.from_dict(document, REGISTRY, allow_imports=MODULES)
    assert frozen(read) == frozen(builder)
    assert list(read.steps) == list(builder.steps)
    # Where Python sees no difference, as of 1, 1.0 and True, JSON does.
    assert json.dumps(read.to_dict(REGISTRY)) == json.dumps(document)


@examples
@given(workflows(), st.none() | st.integers(0, 2))
def test_every_workflow_survives_being_text(builder, indent):
    text = builder.to_json(REGISTRY, indent=indent)
    read = StepFunction.from_json(text, REGISTRY, allow_imports=MODULES)
    assert frozen(read) == frozen(builder)
    assert read.to_json(REGISTRY, indent=indent) == text


@examples
@given(workflows())
def test_every_workflow_survives_being_yaml(builder):
    text = builder.to_yaml(REGISTRY)
    read = StepFunction.from_yaml(text, REGISTRY, allow_imports=MODULES)
    assert frozen(read) == frozen(builder)
    assert read.to_json(REGISTRY) == builder.to_json(REGISTRY)
    assert read.to_yaml(REGISTRY) == text


@examples
@given(workflows())
def test_other_readers_of_yaml_read_the_same(builder):
    document = yaml.safe_load(builder.to_yaml(REGISTRY))
    assert json.dumps(document) == builder.to_json(REGISTRY)


LIKE_OTHERS = st.sampled_from(
    "yes No ON off y N true False NULL ~ 1 -0 010 0o7 0x1F 0b1 1_000 12:30 1.2.3 1e3 "
    "+.5 .inf .NaN 2030-01-31 2030-1-1 << = - -- ? | > % @ ` # : a:b a#b a: *a &a !a "
    "[] {} ' \" , _1 0_ . .. ... ---".split()
)
AWKWARD = TEXTS | LIKE_OTHERS | st.text("a0 .:-#'\"\\\n\r\t\x85\u2028\ud800\ufeff\0😀")


@settings(examples, max_examples=6 * examples.max_examples)
@given(AWKWARD | st.lists(AWKWARD) | st.dictionaries(AWKWARD, DATA | AWKWARD))
def test_every_text_survives_being_yaml(result):
    workflow = StepFunction("W").add_pass_step("A", result).set_start_step("A")
    try:
        text = workflow.to_yaml()
    except DefinitionError:  # as of two halves of a character
        return
    assert StepFunction.from_yaml(text).to_json() == workflow.to_json()
    assert json.dumps(yaml.safe_load(text)) == workflow.to_json()


@examples
@given(workflows())
def test_what_is_written_is_valid_by_the_schema(builder):
    SCHEMA.validate(json.loads(builder.to_json(REGISTRY)))


@examples
@given(workflows())
def test_a_copy_is_defined_alike(builder):
    assert frozen(builder.copy()) == frozen(builder)
    assert frozen(copy.deepcopy(builder)) == frozen(builder)


@examples
@given(workflows())
def test_a_pickle_is_defined_alike(builder):
    assert frozen(pickle.loads(pickle.dumps(builder))) == frozen(builder)


@st.composite
def damaged(draw: Any) -> Any:
    """Draw a document in which something was changed, or left out, somewhere."""
    document = draw(workflows()).to_dict(REGISTRY)
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return document
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or draw(st.sampled_from([1, 0, 0, 0])):
            break
        place = inner
    how = draw(st.sampled_from(["leave out", "rename", "change"]))
    if how == "change" or isinstance(place, list):
        place[key] = draw(DATA)
    elif how == "leave out":
        del place[key]
    else:
        place[draw(TEXTS)] = place.pop(key)
    return document


@examples
@given(damaged())
def test_what_the_schema_refuses_is_refused_when_it_is_read(document):
    try:
        StepFunction.from_dict(document, REGISTRY, allow_imports=MODULES)
    except DefinitionError:
        return
    SCHEMA.validate(document)
