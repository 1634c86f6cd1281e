from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfunction import (
    Attempt,
    MapResults,
    Omitted,
    Outcome,
    Status,
    StepFunction,
    StepRecord,
    TaskResults,
    TranscriptError,
    UnstorableValueError,
)
from stepfunction.core.transcript.storing import FragmentReader, Fragments, digest_of

BERLIN = ZoneInfo("Europe/Berlin")
EAST = timezone(timedelta(hours=5, minutes=30), "east")
CAFÉ = "café 😀"
HALVES = "\ud83d\ude00"  # which is no 😀


def stored(value, **options):
    """Give a value as it comes back, in a text that stands in a row."""
    fragments = Fragments()
    row = f"[0,{fragments.value(value)}]"
    apart = fragments.take_apart() or {}
    return FragmentReader(apart.__getitem__, **options).value(json.loads(row)[1])


def read(text, **apart):
    return FragmentReader(apart.__getitem__).value(json.loads(text))


def inside(value):
    return [value, {"key": value}, (value,)]


class Text(str):
    pass


class Number(IntEnum):
    ONE = 1


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Moment(datetime):
    pass


EXACT = [
    *(None, True, False, 0, -1, 2**63, 1.5, -0.0, 5e-324, math.inf, -math.inf),
    *("", "plain", CAFÉ, "\udc00", HALVES, "\x00\u2028", "$", '"\\ud83d"'),
    pytest.param(10**4_299, id="as many digits as Python reads"),
    pytest.param(-(10**5_000), id="more digits"),
    *(b"", b"\x00\xff", bytearray(b"ab"), range(3, 9, 2)),
    *([], [[], {}], (), (1, (2, [3])), {}, {"a": {"b": [None]}}),
    {1: "one", (2, b"x"): None, None: 0, 0.5: 1, False: 2, frozenset({1}): 3},
    *({"$": 1}, {"$": 1, "$errors": []}, {"$tuple": [1]}, [{"$repr": "x"}]),
    *({"$": (1,)}, {"$apart": "x"}, {"$": {"$apart": "x"}}, {HALVES: 1}),
    *(set(), {1, "1", 1.5, None, (1, 2)}, frozenset({frozenset({1})})),
    *(1j, complex(-0.0, math.inf)),
    *(datetime(2020, 1, 1), datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)),
    *(datetime.max, datetime(1, 1, 1, tzinfo=timezone.utc), date.min),
    *(time(1, 2, 3, 4), time(1, tzinfo=EAST, fold=1), timedelta.min, timedelta(-1, 1)),
    *(BERLIN, EAST, timezone.utc, timezone(timedelta(microseconds=1))),
    *(Decimal("-0.00"), Decimal("1E+5"), Decimal("Infinity"), Decimal(1) / 3),
    *(UUID(int=5), uuid1()),
    *(Path("a/b"), Path("/"), PurePosixPath("\udcff"), PureWindowsPath("c:/x")),
    *(Outcome.FAILED, Status.RUNNING, Omitted("<it>")),
    *(TaskResults({"a": (1,)}), MapResults([1, {2}])),
    Attempt(1, Outcome.SUCCEEDED, 1.5, 2.0),
    StepRecord("A", None, Outcome.SUCCEEDED, (1,), {2}, None, 1.5, 2.0, (), "B", None),
]


@pytest.mark.parametrize("value", EXACT)
def test_a_value_comes_back_exactly_wherever_it_stands(value):
    for whole in (value, *inside(value)):
        copy = stored(whole)
        assert copy == whole
        assert repr_of(copy) == repr_of(whole)


def repr_of(value):
    """Tell types apart too, and what is equal, as 1 and True, or -0.0 and 0.0."""
    kind, parts = type(value), [value]
    if kind is int:
        return hex(value)
    if kind in (list, tuple, MapResults):
        return f"{kind} {[*map(repr_of, value)]}"
    if kind in (dict, TaskResults):
        return f"{kind} {[*map(repr_of, value)]} {[*map(repr_of, value.values())]}"
    if kind in (set, frozenset):
        return f"{kind} {sorted(map(repr_of, value))}"
    return f"{kind} {parts} {getattr(value, 'fold', None)}"


@pytest.mark.parametrize("value", [math.nan, Decimal("sNaN12"), Decimal("-NaN")])
def test_what_is_not_equal_to_itself_comes_back(value):
    assert repr(stored([value])) == repr([value])


def test_a_record_comes_back_with_its_attempts_and_its_error():
    def fail(_):
        raise LookupError("no")

    workflow = StepFunction("W").add_step("A", fail, on_failure="B").add_step("B", str)
    record = workflow.set_start_step("A").execute((1,)).history[0]
    copy = stored(record)
    assert (copy.step, copy.input, copy.outcome) == ("A", (1,), Outcome.FAILED)
    assert type(copy.error) is LookupError
    assert copy.attempts[0].error is copy.error
    assert copy.attempts[0].duration == record.attempts[0].duration


REFUSED = [
    *(Text("a"), Number.ONE, Colour.RED, Point(1), Moment(2020, 1, 1)),
    *(OrderedDict(a=1), defaultdict(int, a=1), Counter("a"), SimpleNamespace(a=1)),
    *(object(), int, len, threading.Lock(), (it for it in "a"), memoryview(b"a")),
    *(Fraction(1, 3), deque([1]), MappingProxyType({}), ..., NotImplemented),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda it: type(it).__name__)
def test_a_value_that_would_come_back_as_another_is_refused(value):
    for whole in (value, *inside(value)):
        with pytest.raises(UnstorableValueError):
            Fragments().value(whole)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [0, object()]}, r"its part \['a'\]\[1\] is a object, which cannot"),
        (Text("a"), r"would come back as a str; give str\(…\) of it, or .* once: reg"),
        (OrderedDict(), r"collections.OrderedDict, .* give dict\(…\) of it"),
        (Colour.RED, r"register_codec\(Colour, lambda it: it.name, Colour.__getitem"),
        (Point(1), r"register_codec\(Point, tuple, Point._make\)"),
        ((it for it in "a"), r"a generator; give list\(…\) of it"),
        ({(1, 2): len}, r"its part \[a tuple\] is a builtin_function_or_method"),
        (StepFunction("W").add_step("A", str).set_start_step("A").execute(), "its out"),
    ],
)
def test_a_refusal_says_where_what_and_what_to_do(value, message):
    with pytest.raises(UnstorableValueError, match=message):
        Fragments().value(value)


def test_a_value_that_contains_itself_is_refused():
    value = {"again": []}
    value["again"].append(value)
    for whole in (value, (value,)):
        with pytest.raises(UnstorableValueError, match="contains itself"):
            Fragments().value(whole)


@pytest.mark.parametrize("leaf", [1, (1,)])
def test_a_value_may_be_100_deep_and_no_more(leaf):
    value = leaf
    for _ in range(100 - (leaf != 1)):
        value = [value]
    assert stored(value) == value
    with pytest.raises(UnstorableValueError, match="more than 100 deep"):
        Fragments().value([value])


def test_a_value_that_shares_its_parts_without_end_is_refused_in_time():
    value = []
    for _ in range(99):
        value = [value, value]
    with pytest.raises(UnstorableValueError, match="has more than"):
        Fragments().value(value)


def test_plain_data_is_the_json_of_itself():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"$mine": 1}}
    assert json.loads(Fragments().value(value)) == value


def test_dicts_keep_their_order():
    assert list(stored({"b": 1, "a": 2})) == ["b", "a"]
    assert list(stored({2: 1, 1: 2})) == [2, 1]


def test_a_set_of_things_that_are_equal_to_nothing_comes_back_whole():
    assert len(stored({float("nan"), float("nan")})) == 2


# --- what stands apart --------------------------------------------------------------


def test_large_bytes_stand_apart_raw():
    fragments = Fragments()
    fragments.value(["a", b"x" * 5_000])
    assert list(fragments.take_apart().values()) == [b"x" * 5_000]
    assert fragments.take_apart() is None


def test_a_large_value_stands_apart_as_text():
    value = {"a": ["x" * 100_000, (1,)]}
    fragments = Fragments()
    assert len(fragments.value(value)) < 100
    assert stored(value) == value


def test_what_is_equal_stands_apart_once():
    fragments = Fragments()
    texts = {fragments.value(["x" * 100_000, b"y" * 2_000]) for _ in range(3)}
    assert len(texts) == 1
    assert len(fragments.take_apart()) == 2


def test_what_was_refused_leaves_nothing_apart():
    fragments = Fragments()
    fragments.value(b"x" * 5_000)
    with pytest.raises(UnstorableValueError):
        fragments.value([b"y" * 5_000, object()])
    assert list(fragments.take_apart().values()) == [b"x" * 5_000]


def test_what_stands_apart_and_was_changed_is_refused():
    fragments = Fragments()
    text = fragments.value(b"x" * 5_000)
    (name,) = fragments.take_apart()
    with pytest.raises(TranscriptError, match="another than it was"):
        read(text, **{name: b"y" * 5_000})


@pytest.mark.parametrize("value", ["x" * 1_000, b"x" * 2_000, [(1, "x" * 1_000)]])
def test_a_value_longer_than_the_store_takes_is_refused(value):
    assert Fragments(largest=3_000).value(value)
    with pytest.raises(UnstorableValueError, match="the store takes 900; give a path"):
        Fragments(largest=900).value(value)


# --- digests ------------------------------------------------------------------------


DIGESTS = """
from decimal import Decimal
from stepfunction.core.transcript.storing import digest_of
print(digest_of({"a": {"x", "y", ("z", 1), b"q"}, "b": [1, 2.5, Decimal("1.0")]}))
print(digest_of([{"k": frozenset({1, "1", None})}, b"x" * 9999]))
"""


def test_a_digest_is_the_same_in_every_process():
    def digests(seed):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        run = [sys.executable, "-c", DIGESTS]
        return subprocess.run(run, env=env, capture_output=True, check=True).stdout

    assert digests("1") == digests("2") == digests("77")


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (1, True),
        (1, 1.0),
        ("1", 1),
        ([1], (1,)),
        ({1}, frozenset({1})),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: 1}, {"1": 1}),
        (0.0, -0.0),
        (b"x" * 9_999, b"x" * 9_998 + b"y"),
        ({"$": 1}, [{"$": 1}]),
        (HALVES, "😀"),
        (Decimal("1.0"), Decimal("1.00")),
    ],
)
def test_values_that_are_not_the_same_have_other_digests(value, other):
    assert digest_of(value) != digest_of(other)
    assert digest_of(value) == digest_of(stored(value))


def test_a_digest_is_not_of_the_context_of_decimal():
    with localcontext() as context:
        context.capitals = 0
        small = digest_of([Decimal("1E+5")])
    assert small == digest_of([Decimal("1E+5")])


def test_a_digest_of_what_cannot_be_stored_is_refused():
    with pytest.raises(UnstorableValueError):
        digest_of(object())


# --- surroundings -------------------------------------------------------------------


class FakeDate(date):
    __module__ = "freezegun.api"  # which puts such into the place of the true ones


class FakeDatetime(datetime, FakeDate):
    __module__ = "freezegun.api"


def test_what_a_frozen_clock_gives_can_be_stored(monkeypatch):
    moment = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    faked = FakeDatetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    values = [faked, FakeDate(2020, 1, 2)]
    monkeypatch.setattr("datetime.datetime", FakeDatetime)
    monkeypatch.setattr("datetime.date", FakeDate)
    assert digest_of(values) == digest_of([moment, moment.date()])
    assert [type(it) for it in stored(values)] == [datetime, date]


def test_long_numbers_come_back_whatever_python_is_told_to_read():
    limit = sys.get_int_max_str_digits()
    try:
        for digits in (0, 640, limit):
            sys.set_int_max_str_digits(digits)
            for value in (10**600, 10**4_100, 10**6_000, -(10**6_000)):
                assert stored([value]) == [value]
                assert stored([value, ()]) == [value, ()]
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_dict_that_another_thread_changes_meanwhile_is_stored_or_refused():
    value, may_end = {str(n): n for n in range(2_000)}, threading.Event()

    def change():
        while not may_end.is_set():
            value["x"] = 1
            value.pop("x")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            try:
                Fragments().value(value)
                Fragments().value([value, ()])
            except UnstorableValueError as error:
                assert "changes while it is stored" in str(error)
    finally:
        may_end.set()
        thread.join()


# --- what was tampered with ---------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"$":{"$new":1}}',
        '{"$":{"$apart":1}}',
        '{"$":{"$bytes":{"$apart":[]}}}',
        '{"$":{"$bytes":"a"}}',
        '{"$":{"$bytes":1}}',
        '{"$":{"$tuple":1}}',
        '{"$":{"$set":[1,1]}}',
        '{"$":{"$set":[[]]}}',
        '{"$":{"$dict":[[1,2],[1,3]]}}',
        '{"$":{"$dict":["ab"]}}',
        '{"$":{"$dict":[[[],1]]}}',
        '{"$":{"$int":"12"}}',
        '{"$":{"$int":5}}',
        '{"$":{"$float":"1"}}',
        '{"$":{"$float":[]}}',
        '{"$":{"$str":"ab"}}',
        '{"$":{"$str":[1]}}',
        '{"$":{"$error":0}}',
        '{"$":{"$error":"0"}}',
        '{"$":{"$outcome":"DONE"}}',
        '{"$":{"$outcome":[]}}',
        '{"$":{"$status":{}}}',
        '{"$":{"$items":[1]}}',
        '{"$":{"$results":[[],null]}}',
        '{"$":{"$value":["builtins.int","1"]}}',
        '{"$":{"$value":[[],1]}}',
        '{"$":{"$value":1}}',
        '{"$":{"$complex":[1,2]}}',
        '{"$":{"$datetime":"2020-01-01T00:00:00+00:00"}}',
        '{"$":{"$datetime":"20200101"}}',
        '{"$":{"$datetime":["2020-01-01T00:00:00",2,null]}}',
        '{"$":{"$datetime":["2020-01-01T00:00:00",0,"UTC"]}}',
        '{"$":{"$date":1}}',
        '{"$":{"$time":"25:00:00"}}',
        '{"$":{"$timedelta":[1e999,0,0]}}',
        '{"$":{"$timedelta":[999999999999,0,0]}}',
        '{"$":{"$timezone":[{"$timedelta":[2,0,0]},null]}}',
        '{"$":{"$zone":"../../../etc/passwd"}}',
        '{"$":{"$zone":"a.b.c"}}',
        '{"$":{"$zone":"No/Where"}}',
        '{"$":{"$decimal":"one"}}',
        '{"$":{"$decimal":1}}',
        '{"$":{"$uuid":"5"}}',
        '{"$":{"$uuid":["00000000000000000000000000000005",7]}}',
        '{"$":{"$path":["Path","/"]}}',
        '{"$":{"$path":["system","ls"]}}',
        '{"$":{"$range":[0,1,0]}}',
        '{"$":{"$attempt":[1,2,3,4,5]}}',
        '{"$":{"$record":[]}}',
        '{"$":{"$outcomes":[1,[]]}}',
        '{"$":{"$item_results":[1,[]]}}',
        '{"$":1,"$errors":1}',
        '{"$":1,"$errors":[1]}',
        '{"$":1,"$errors":[{}]}',
    ],
)
def test_a_text_that_nothing_has_written_is_refused(text):
    with pytest.raises(TranscriptError):
        read(text)


def test_a_text_that_is_nested_without_end_is_refused():
    text = '{"$tuple":[' * 400 + "]}" * 400
    sys.setrecursionlimit(1_000)
    with pytest.raises(TranscriptError, match="nested too deep"):
        read('{"$":%s}' % text)


def test_what_stands_apart_refers_to_nothing_more():
    fragments = Fragments()
    text = fragments.value("x" * 70_000)
    inner = fragments.take_apart()
    name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    with pytest.raises(TranscriptError):
        read('{"$":{"$apart":"%s"}}' % name, **inner, **{name: text.encode()})


# --- any value ----------------------------------------------------------------------

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=4)
    | st.binary(max_size=4)
    | st.complex_numbers()
    | st.datetimes(timezones=st.none() | st.just(timezone.utc) | st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.sampled_from(["$", "$dict", "$errors", Outcome.FAILED, BERLIN, Path("a")]),
    lambda inner: st.lists(inner, max_size=3).map(tuple)
    | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
anything = st.recursive(
    hashable,
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(hashable, inner, max_size=3)
    | st.dictionaries(st.sampled_from(["$", "a", "$tuple"]), inner)
    | st.sets(hashable, max_size=3),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(anything)
def test_any_value_comes_back_exactly(value):
    copy = stored(value)
    assert repr_of(copy) == repr_of(value)
    assert digest_of(copy) == digest_of(value)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.text(max_size=2)
        | st.sampled_from(
            ["$", "$errors", "$tuple", "$dict", "$set", "$value", "$error", "$items"]
            + ["$datetime", "$path", "$record", "$results", "$str", "$int", "$bytes"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=10,
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(json_data, json_data)
def test_any_data_is_read_or_refused(data, errors):
    reader = FragmentReader({}.__getitem__)
    for whole in (data, {"$": data}, {"$": data, "$errors": errors}):
        try:
            reader.value(whole)
        except (TranscriptError, KeyError) as error:
            assert type(error) is TranscriptError or "$apart" in repr(whole)
