from __future__ import annotations

import io
import json
import random
from collections import OrderedDict
from enum import IntEnum

import pytest
from shared.pictures import giving, read_back

from stepfunction import (
    Execution,
    RetryPolicy,
    StepFunction,
    StepFunctionError,
    TranscriptError,
    register_codec,
)


class Lie:
    """Says that it is of another class, and is good for nothing."""

    def __init__(self, kind):
        object.__setattr__(self, "kind", kind)

    @property
    def __class__(self):
        return self.kind

    def __eq__(self, other):
        raise RuntimeError("compared")

    def __bool__(self):
        raise RuntimeError("asked for its truth")

    def __repr__(self):
        raise RuntimeError("no words")

    __hash__ = None


class Dict(dict):
    def get(self, *args):
        raise RuntimeError("asked")

    items = keys = values = __iter__ = __len__ = __contains__ = __getitem__ = get


class List(list):
    def __iter__(self):
        raise RuntimeError("asked")

    __len__ = __getitem__ = __iter__


class Text(str):
    def __eq__(self, other):
        raise RuntimeError("compared")

    __hash__ = __len__ = __getitem__ = __eq__


class Number(IntEnum):
    ONE = 1


class Mute:
    def __repr__(self):
        raise RuntimeError("no words")


def lies():
    kinds = (int, str, dict, list, float, bool, type(None), tuple, ValueError)
    return [*map(Lie, kinds), Dict(a=1), Dict(), List([1]), Text("x"), Text("FAILED")]


JUNK = [None, True, -1, 2**70, 10**400, 1.5, float("nan"), "", "x", "\ud800", "FAILED"]
JUNK += [[], {}, [0], [[]], {"$": 1}, {"$error": 0}, {"$error": 99}, {"$tuple": [1]}]
JUNK += [{"$dict": [[1, 2]]}, {"$items": [[], 0]}, {"$results": [{}, None]}]
JUNK += [{"$value": ["a", 1]}, {1: 2}, (1,), b"x", {1}, object(), Number.ONE]
JUNK += [{"$outcome": Text("FAILED")}, {"$dict": [[Lie(str), 1]]}, *lies()]


def ended():
    inner = StepFunction("Inner").add_step("Look", lambda _: 1 / 0, compensate=str)
    inner.set_start_step("Look")
    workflow = StepFunction("Shop", max_steps=30)
    workflow.add_step("Parse", lambda it: [it, {2}, b"x"], "Update", compensate=str)
    tasks = {"count": len, "fail": lambda _: {}["k"], "nested": inner}
    retry = RetryPolicy(2, interval=0)
    workflow.add_step("Update", tasks, "Each", parallel=True, retry=retry)
    workflow.add_map_step(
        "Each",
        (1).__floordiv__,
        lambda _: [1, 0],
        next_step="Choose",
        tolerated_failures=5,
    )
    workflow.add_pass_step("Choose", branch=[(bool, "In")], next_step="In")
    workflow.add_sub_step_function("In", inner, on_failure="End")
    workflow.add_fail_step("End", "E", "cause")
    try:
        return workflow.set_start_step("Parse").execute("x", executor="inline")
    except StepFunctionError as error:
        return error.execution


def places(data, way=()):
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, part in pairs:
        yield *way, key
        if isinstance(part, dict | list):
            yield from places(part, (*way, key))


def test_whatever_stands_in_a_transcript_it_is_shown_or_refused():
    text = ended().to_json()
    ways = list(places(json.loads(text)))
    chosen = random.Random(16)
    shown = 0
    for number in range(2_500):
        document = part = json.loads(text)
        *way, last = chosen.choice(ways)
        for key in way:
            part = part[key]
        part[last] = chosen.choice(JUNK)
        try:
            copy = Execution.from_dict(document)
        except TranscriptError:
            continue
        shown += 1
        assert copy.to_mermaid()
        assert [repr(it) for it in (copy, *copy.history, *copy.failures)]
        assert read_back(copy).to_dict() == copy.to_dict()
        if number % 50 == 0:
            copy.report(io.StringIO())
    assert shown > 100


def test_data_of_subclasses_is_read_as_that_of_their_bases():
    document = json.loads(ended().to_json(), object_pairs_hook=OrderedDict)
    assert Execution.from_dict(document).to_dict() == document


@pytest.mark.parametrize("value", lies(), ids=lambda it: type(it).__name__)
def test_a_value_that_says_it_is_another_is_written_and_shown(value):
    workflow = StepFunction("W").add_step("A", lambda: [value]).set_start_step("A")
    execution = workflow.execute()
    for redact in (None, lambda where, it: it):
        text = execution.to_json(redact=redact)
        assert Execution.from_json(text).to_json() == text or redact
        execution.report(io.StringIO(), redact=redact)


def test_a_report_shows_values_that_come_back_as_they_are():
    register_codec(Mute, lambda it: 0, lambda _: Mute())
    value = [10**5_000, {(1, b"x")}, frozenset(), Mute(), "text"]
    page = io.StringIO()
    giving(value).execute().report(page)
    for text in ("[0x31e2", "…", "{(1, b&#x27;x&#x27;)}", "frozenset()", "repr failed"):
        assert text in page.getvalue()
