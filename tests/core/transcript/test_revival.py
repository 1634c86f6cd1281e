from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import os
import sys
import traceback
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfunction import (
    CompensationError,
    DefinitionError,
    FailStepError,
    HeartbeatTimeoutError,
    NoBranchMatchedError,
    Omitted,
    Outcome,
    ParallelStepExecutionError,
    RemoteError,
    RemoteTraceback,
    StepExecutionError,
    StepFunction,
    StepTimeoutError,
    TranscriptError,
    UnstorableValueError,
    WorkerCrashedError,
)
from stepfunction.core.errors import Problem
from stepfunction.core.transcript.storing import FragmentReader, Fragments

CALLED = []


@pytest.fixture(autouse=True)
def nothing_called():
    CALLED.clear()
    yield
    assert CALLED == []


def written(error):
    fragments = Fragments()
    return json.loads(fragments.error(error)), fragments.take_apart() or {}


def stored(error):
    data, apart = written(error)
    return FragmentReader(apart.__getitem__).error(data)


def raised(error, cause=None):
    try:
        if cause is None:
            raise error
        raise error from cause
    except BaseException as caught:
        return caught


class Declined(Exception):
    def __init__(self, order, reason):
        super().__init__(f"order {order}: {reason}")
        self.order = order
        self.reason = reason


class Slotted(Exception):
    __slots__ = ("card", "_unset")

    def __str__(self):
        return f"card {self.card}"


def made(kind, **attributes):
    """Make an exception without a call of its code."""
    error = Exception.__new__(kind)
    vars(BaseException)["args"].__set__(error, ("text",))
    vars(BaseException)["__dict__"].__get__(error).update(attributes)
    return error


class Meta(type):
    def __call__(cls, *args):
        CALLED.append("meta")

    def __getattribute__(cls, name):
        CALLED.append(name)
        raise RuntimeError

    def __eq__(cls, other):
        CALLED.append("eq")

    __hash__ = type.__hash__


class Hostile(Exception, metaclass=Meta):
    def _called(self, *args):
        CALLED.append(args)
        raise RuntimeError("no")

    __new__ = __init__ = __setattr__ = __getattribute__ = __eq__ = __reduce__ = _called
    __bool__ = __len__ = __hash__ = add_note = with_traceback = _called
    __class__ = __dict__ = __notes__ = args = property(_called)

    def __str__(self):
        return "hostile"

    __repr__ = __str__


class Interrupt(KeyboardInterrupt):
    pass


ERRORS = [
    *(ValueError(), ValueError("a", 1, (2, {3})), KeyError("k"), Declined(17, "no")),
    *(OSError(2, "no", "a", None, "b"), FileNotFoundError(2, "no"), OSError("x")),
    *(SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()),
    *(ImportError("no", name="n", path="p"), StopIteration(4), AssertionError()),
    UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad"),
    UnicodeEncodeError("ascii", "aé", 1, 2, "bad"),
    *(SyntaxError("bad", ("file", 1, 2, "text", 3, 4)), NameError("no", name="n")),
    json.JSONDecodeError("bad", "doc", 1),
    *(StepExecutionError("no", "A"), FailStepError("no", "E", "c")),
    *(StepTimeoutError("late", 1.5), HeartbeatTimeoutError("late", 2.5)),
    NoBranchMatchedError("no", "A", {"r": (1,)}, (1, "b")),
    WorkerCrashedError("dead", "task", 17, -9),
    UnstorableValueError("no", "A", (1,)),
    RemoteError("m.E: no", "m.E", "no"),
    DefinitionError("workflow 'W'", [Problem("func", "it is none", "; give one"), "x"]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda it: type(it).__name__)
def test_an_exception_comes_back_as_what_it_was(error):
    again = stored(error)
    assert type(again) is type(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert (str(again), repr(again)) == (str(error), repr(error))
    assert again.__cause__ is again.__context__ is None


def test_an_exception_whose_class_has_slots_comes_back_with_them():
    error = Slotted("x")
    error.card = (4711,)
    error.other = 1
    again = stored(error)
    assert (str(again), again.other, again.args) == ("card (4711,)", 1, ("x",))
    assert not hasattr(again, "_unset")


def test_no_code_of_a_class_is_called_to_make_its_exception():
    error = made(Hostile, found=(1, 2), __notes__=["a note"])
    again = stored(error)
    assert type.__repr__(type(again)) == type.__repr__(Hostile)
    facts = vars(BaseException)["__dict__"].__get__(again)
    assert facts == {"found": (1, 2), "__notes__": ["a note"]}
    assert vars(BaseException)["args"].__get__(again) == ("text",)


def test_what_is_said_of_an_exception_comes_back():
    error = ValueError("no")
    error.add_note("while paying")
    assert stored(error).__notes__ == ["while paying"]


def test_an_attribute_that_is_an_argument_is_that_argument():
    error = NoBranchMatchedError("no", "A", ["x"], ())
    again = stored(error)
    assert again.result is again.args[2]


def test_what_an_exception_holds_and_cannot_be_stored_is_its_repr():
    error = Declined(object, "no")
    error.args = ("no", [len])
    again = stored(error)
    assert again.order == Omitted(repr(object))
    assert again.args == ("no", [Omitted(repr(len))])
    error.args = (len,)
    assert str(stored(error)) == str(error)


def test_what_an_exception_holds_may_raise_whatever_is_asked():
    class Mute:
        def __repr__(self):
            raise RuntimeError("no words")

    again = stored(ValueError(Mute(), 1))
    assert "whose repr failed: RuntimeError: no words" in again.args[0].text
    assert again.args[1] == 1


def test_of_an_exception_longer_than_the_store_takes_there_is_what_it_said():
    error = raised(ValueError("short", ["x" * 5_000]))
    text = Fragments(largest=1_000).error(error)
    again = FragmentReader({}.__getitem__).error(json.loads(text))
    assert (type(again), again.type_name) == (RemoteError, "builtins.ValueError")
    assert again.text.startswith("('short', ['xxx")


def test_an_exception_that_holds_itself_comes_back_so():
    error = ValueError("a")
    error.me, error.args = [error], (error,)
    again = stored(error)
    assert again.me[0] is again.args[0] is again


def test_the_execution_of_an_error_stays_behind():
    workflow = StepFunction("W").add_step("A", lambda: 1 / 0).set_start_step("A")
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute()
    again = stored(caught.value)
    with pytest.raises(AttributeError, match="StepExecutionError has no execution"):
        again.execution
    assert type(again.__cause__) is ZeroDivisionError


# --- where it comes from ------------------------------------------------------------


def test_a_traceback_comes_back_as_text():
    again = stored(raised(ValueError("no")))
    assert type(again.__cause__) is RemoteTraceback
    assert "in raised\n" in str(again.__cause__)
    assert "in raised\n" in "".join(traceback.format_exception(again))


def test_a_cause_comes_back_as_the_cause():
    again = stored(raised(ValueError("no"), cause=raised(KeyError("k"))))
    assert type(again.__cause__) is KeyError
    assert again.__suppress_context__
    assert type(again.__cause__.__cause__) is RemoteTraceback


def test_a_context_comes_back_as_the_context():
    try:
        try:
            raise KeyError("k")
        except KeyError:
            raise ValueError("no")
    except ValueError as error:
        again = stored(error)
    assert type(again.__context__) is KeyError
    assert again.__cause__ is None
    assert not again.__suppress_context__


def test_a_context_that_is_hidden_stays_behind():
    try:
        try:
            raise KeyError("k")
        except KeyError:
            raise ValueError("no") from None
    except ValueError as error:
        again = stored(error)
    assert again.__context__ is None
    assert again.__suppress_context__


def test_what_came_back_is_stored_as_before():
    cause = raised(KeyError("k"), cause=raised(OSError(2, "no")))
    error = raised(Declined(1, "no"), cause=cause)
    data, _ = written(error)
    assert written(stored(error))[0] == data
    assert written(stored(stored(error)))[0] == data


def test_causes_that_go_round_end():
    first, second, third = ValueError(1), ValueError(2), ValueError(3)
    first.__cause__, second.__cause__ = second, first
    third.__cause__ = third
    again = stored(ExceptionGroup("all", [first, third]))
    found, _ = again.exceptions
    assert found.__cause__.args == (2,)
    assert found.__cause__.__cause__ is None


def test_a_chain_of_causes_is_bounded():
    error = ValueError(0)
    for number in range(5_000):
        later = ValueError(number)
        later.__cause__, error = error, later
    assert len(written(error)[0]) < 200
    assert stored(error).args == (4_999,)


# --- groups -------------------------------------------------------------------------


class Failures(ExceptionGroup):
    def __new__(cls, message, errors, code=None):
        CALLED.append("new")
        return super().__new__(cls, message, errors)


def test_a_group_comes_back_with_what_is_in_it():
    inner = BaseExceptionGroup("inner", [KeyboardInterrupt(), KeyError("k")])
    again = stored(BaseExceptionGroup("outer", [inner, ValueError(1)]))
    assert (type(again), again.message) == (BaseExceptionGroup, "outer")
    assert [type(it) for it in again.exceptions] == [BaseExceptionGroup, ValueError]
    assert type(again.exceptions[0].exceptions[0]) is KeyboardInterrupt
    assert again.args[1][1] is again.exceptions[1]


def test_a_group_of_ours_and_one_of_the_user_s_come_back():
    again = stored(CompensationError("not undone", [ValueError(1)]))
    assert (type(again), str(again)) == (CompensationError, "not undone")
    again = stored(Failures("some", [ValueError(1)]))
    CALLED.remove("new")
    assert (type(again), again.exceptions[0].args) == (Failures, (1,))


def test_the_failures_of_tasks_come_back():
    workflow = StepFunction("W")
    tasks = {"a": lambda _: 1 / 0, "b": lambda _: (1,)}
    workflow.add_parallel_step("P", tasks).set_start_step("P")
    with pytest.raises(ParallelStepExecutionError) as caught:
        workflow.execute(executor="inline")
    again = stored(caught.value)
    assert type(again) is ParallelStepExecutionError
    assert again.results == {"b": (1,)}
    assert again.outcomes == {"a": Outcome.FAILED, "b": Outcome.SUCCEEDED}
    assert type(again.errors["a"]) is ZeroDivisionError
    assert again.__cause__ is again.errors["a"]
    assert again.args[4] is again.errors


def test_results_with_tolerated_failures_come_back():
    def odd(number):
        if number % 2:
            raise ValueError(number)
        return number

    workflow = StepFunction("W").add_map_step("M", odd, tolerated_failures=9)
    output = workflow.set_start_step("M").execute(range(4), executor="inline").output
    fragments = Fragments()
    again = FragmentReader({}.__getitem__).value(json.loads(fragments.value(output)))
    assert [again[0], again[2]] == [0, 2]
    assert list(again.failed) == [1, 3]
    assert again[1] is again.failed[1]
    assert again.outcomes[3] is Outcome.FAILED
    with pytest.raises(ParallelStepExecutionError, match="2 of 4 items") as caught:
        again.raise_if_failed()
    assert dict(caught.value.results) == {0: 0, 2: 2}
    assert caught.value.__cause__ is again[1]


# --- what is not there, and what was tampered with ----------------------------------


def local():
    class Local(Exception):
        pass

    return Local("no")


@pytest.mark.parametrize("error", [local(), Interrupt("no")])
def test_an_exception_without_a_class_here_is_a_remote_error(error):
    error.add_note("a note")
    again = stored(raised(error))
    assert type(again) is RemoteError
    assert again.text == "no"
    assert again.type_name.endswith(type(error).__qualname__)
    assert again.__notes__ == ["a note"]
    assert "in raised\n" in str(again.__cause__)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "int"),
        ("builtins", "object"),
        ("builtins", "type"),
        ("subprocess", "Popen"),
        ("os.path", "os.system"),
        ("builtins", "ValueError.mro"),
        ("builtins", "BaseException.__subclasses__"),
        ("antigravity", "Error"),
        ("lazy_one", "Error"),
        ("no_module", "Error"),
        ("answering", "Error"),
        ("", ""),
        ("builtins", ""),
    ],
)
def test_a_text_that_names_anything_calls_and_imports_nothing(
    module, name, monkeypatch, tmp_path
):
    (tmp_path / "lazy_one.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec("lazy_one")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    monkeypatch.setitem(sys.modules, "lazy_one", lazy)
    answering = ModuleType("answering")
    answering.__getattr__ = CALLED.append
    monkeypatch.setitem(sys.modules, "answering", answering)
    monkeypatch.setitem(sys.modules, "no_module", CALLED)
    monkeypatch.setattr(os, "system", lambda *args: CALLED.append(args))
    data, _ = written(ValueError("echo hi"))
    data[0]["class"] = [module, name]
    again = FragmentReader({}.__getitem__).error(data)
    assert type(again) is RemoteError
    assert again.text == "echo hi"
    assert "antigravity" not in sys.modules


def group():
    inner = ExceptionGroup("inner", [UnicodeDecodeError("a", b"b", 0, 1, "c")])
    error = raised(ExceptionGroup("outer", [inner, OSError(2, "no")]), KeyError("k"))
    error.attribute = (1, error)
    return error


@pytest.mark.parametrize(
    ("way", "value"),
    [
        ([], {}),
        ([], []),
        ([0], None),
        ([0, "class"], "builtins.ValueError"),
        ([0, "class"], ["builtins"]),
        ([0, "class"], [[], {}]),
        ([0, "text"], None),
        ([0, "args"], {}),
        ([0, "args"], [{"$error": 99}]),
        ([0, "attributes"], []),
        ([0, "attributes", "attribute"], {"$arg": 7}),
        ([0, "fields"], 1),
        ([0, "cause"], 0),
        ([0, "cause"], 77),
        ([0, "cause"], True),
        ([0, "context"], -1),
        ([0, "hides"], 1),
        ([0, "traceback"], 1),
        ([0, "message"], None),
        ([0, "exceptions"], [0]),
        ([0, "exceptions"], [99]),
        ([0, "exceptions"], ["x"]),
        ([1, "exceptions"], [0]),
    ],
)
def test_a_table_that_was_tampered_with_is_refused(way, value):
    data, _ = written(group())
    part = whole = [data]
    for key in [0, *way][:-1]:
        part = part[key]
    part[[0, *way][-1]] = value
    with pytest.raises(TranscriptError):
        FragmentReader({}.__getitem__).error(whole[0])


@pytest.mark.parametrize(
    ("name", "value"), [("errors", None), ("results", [1]), ("step", ...)]
)
def test_an_error_of_ours_that_lacks_what_it_says_is_refused(name, value):
    error = ParallelStepExecutionError("no", "A", {}, {}, {})
    data, _ = written(error)
    if value is ...:
        del data[0]["attributes"][name]
    else:
        data[0]["attributes"][name] = value
    with pytest.raises(TranscriptError, match=name):
        FragmentReader({}.__getitem__).error(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [("start", -1), ("end", 99), ("object", 1), ("start", None), ("encoding", [])],
)
def test_a_span_that_is_in_no_text_is_refused(name, value):
    data, _ = written(UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad"))
    data[0]["fields"][name] = value
    with pytest.raises(TranscriptError):
        FragmentReader({}.__getitem__).error(data)


def paths(data, way=()):
    yield way
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, part in pairs:
        if isinstance(part, dict | list):
            yield from paths(part, (*way, key))
        else:
            yield *way, key


TABLE, _ = written(group())
JUNK = [None, True, -1, 2**70, 1.5, "", "x", [], {}, [0], [[]], {"$": 1}, {"$error": 0}]
JUNK += [{"$tuple": [1]}, {"$arg": 0}, {"$dict": [[1, 2]]}, {"$items": [[], 0]}]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from([*paths(TABLE)][1:]), st.sampled_from(JUNK))))
def test_whatever_is_changed_in_a_table_it_is_read_or_refused(changes):
    data = copy.deepcopy(TABLE)
    for way, value in changes:
        part = data
        try:
            for key in way[:-1]:
                part = part[key]
            part[way[-1]] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue
    try:
        error = FragmentReader({}.__getitem__).error(data)
    except TranscriptError:
        return
    assert isinstance(error, BaseException)
    assert Fragments().error(error)
