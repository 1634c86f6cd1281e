from __future__ import annotations

import json
import math
import pickle
import re
import sys
from collections import OrderedDict, defaultdict, namedtuple
from datetime import date
from enum import Enum
from threading import Event
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared.pictures import giving, read_back

from stepfunction import (
    Execution,
    ExecutionTimeoutError,
    Omitted,
    Outcome,
    ParallelStepExecutionError,
    ProcessLanes,
    RemoteError,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
    StepFunctionError,
    StepLimitError,
    TaskResults,
    TranscriptError,
)

Point = namedtuple("Point", "x y")
Colour = Enum("Colour", "RED BLUE")
EMPTY, UNKNOWN = "the shelf is empty", "no such order"


class Cards(list):
    pass


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")


def refuse(_):
    raise LookupError(EMPTY)  # its line in a traceback does not have the text


def refuse_after_another(_):
    try:
        refuse(None)
    except LookupError as error:
        raise ValueError(UNKNOWN) from error


class NeitherTrueNorFalse(Exception):
    def __bool__(self):
        raise RuntimeError("the truth value is ambiguous")


def refuse_ambiguously(_):
    raise NeitherTrueNorFalse("the shelf is empty")


def ended(workflow, value=None, **options):
    try:
        return workflow.execute(value, **options)
    except StepFunctionError as error:
        return error.execution


def shop():
    inner = StepFunction("Inner").add_step("Look", refuse).set_start_step("Look")
    workflow = StepFunction("Shop", max_steps=20)
    workflow.add_step("Parse", json.loads, "Update")
    tasks = {"count": len, "ask": refuse_after_another, "nested": inner}
    retry = RetryPolicy(2, interval=0)
    workflow.add_step("Update", tasks, "Decide", parallel=True, retry=retry)
    workflow.add_step("Decide", lambda _: (1, {2}), branch={3: "Parse"}, next_step="In")
    workflow.add_sub_step_function("In", inner, on_failure={LookupError: "Sorry"})
    workflow.add_step("Sorry", lambda _: "sorry", timeout=5, executor="thread")
    return workflow.set_start_step("Parse")


@pytest.fixture(scope="module")
def execution():
    return ended(shop(), '["a", "b"]')


@pytest.fixture(scope="module")
def copy(execution):
    return read_back(execution)


def facts(record):
    return (
        record.step,
        record.task,
        record.outcome,
        record.next_step,
        record.error is None,
        [(it.number, it.outcome, it.error is None) for it in record.attempts],
        record.child is None,
    )


def test_what_was_read_is_written_the_same(execution, copy):
    assert copy.to_dict() == execution.to_dict()


def test_a_transcript_is_data_that_json_can_hold(execution):
    assert json.loads(execution.to_json()) == execution.to_dict()


def test_a_transcript_is_read_from_data_as_from_text(execution, copy):
    again = Execution.from_dict(execution.to_dict())
    assert again.to_dict() == copy.to_dict()


@pytest.mark.parametrize("document", [None, [], "{}", {"format": "other"}])
def test_data_that_is_no_transcript_is_refused(document):
    with pytest.raises(TranscriptError, match="no transcript"):
        Execution.from_dict(document)


def test_a_text_for_data_and_the_reverse_are_told_what_takes_them(execution):
    with pytest.raises(TranscriptError, match=r"from_json\(\) takes"):
        Execution.from_dict(execution.to_json())
    with pytest.raises(TranscriptError, match=r"from_dict\(\) takes"):
        Execution.from_json(execution.to_dict())


@pytest.mark.parametrize("value", [{1, 2}, {1: 2}, object(), (1,)])
def test_data_that_json_cannot_hold_is_refused_by_place(execution, value):
    document = execution.to_dict()
    document["execution"]["input"] = {"deep": [value]}
    with pytest.raises(TranscriptError, match=r"execution.input.deep\[0\]"):
        Execution.from_dict(document)


def test_data_that_is_nested_too_deeply_is_refused(execution):
    value = []
    for _ in range(100_000):
        value = [value]
    document = {**execution.to_dict()}
    document["execution"]["input"] = value
    with pytest.raises(TranscriptError, match=r"too deep in .* sys.setrecursionlimit"):
        Execution.from_dict(document)


def test_a_transcript_can_be_indented(execution):
    assert execution.to_json(indent=2).startswith('{\n  "format"')


@pytest.mark.parametrize("name", ["workflow", "id", "status", "started", "input"])
def test_the_facts_of_an_execution_come_back(execution, copy, name):
    assert getattr(copy, name) == getattr(execution, name)


def test_the_records_come_back(execution, copy):
    assert list(map(facts, copy.history)) == list(map(facts, execution.history))


def test_the_times_of_the_records_come_back(execution, copy):
    for record, original in zip(copy.history, execution.history):
        assert record.started == pytest.approx(original.started, abs=1e-6)
        assert record.duration == pytest.approx(original.duration, abs=1e-6)


def test_the_children_come_back(copy):
    assert list(copy.children) == [("Update", "nested"), "In"]
    assert copy.children["In"].history[0].step == "Look"
    assert copy.children["In"].status == "FAILED"


def test_the_context_comes_back(execution, copy):
    results = copy.context["Update"]
    assert isinstance(results, TaskResults)
    assert results["count"] == 2
    assert {*results.failed} == {"ask", "nested"}
    # In the order in which they failed.
    assert [*results.failed] == [*execution.context["Update"].failed]
    with pytest.raises(ParallelStepExecutionError, match="no such order") as caught:
        results.raise_if_failed()
    assert caught.value.outcomes["count"] is Outcome.SUCCEEDED
    assert caught.value.results == {"count": 2}


def test_the_failures_come_back(execution, copy):
    where = [(record.step, record.task) for record in copy.failures]
    assert where == [(record.step, record.task) for record in execution.failures]


def test_one_exception_comes_back_as_one_object(copy):
    failed = copy.history[-2]
    assert copy.history[-1].input is failed.error is copy.context["In"] is copy.error


def test_a_failed_execution_that_was_read_raises_what_the_step_failed_with(copy):
    with pytest.raises(StepExecutionError, match="'Inner' failed") as caught:
        copy.raise_if_failed()
    assert caught.value.step == "In"
    assert caught.value.execution is copy
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.type_name, cause.text) == (
        "builtins.LookupError",
        "the shelf is empty",
    )


def test_an_exception_comes_back_with_its_traceback_and_its_cause(copy):
    error = copy.context["Update"]["ask"]
    traceback = error.__cause__
    assert "in refuse_after_another" in str(traceback)
    assert traceback.__cause__.text == "the shelf is empty"


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_an_exception_that_has_no_truth_value_has_its_traceback(executor):
    workflow = StepFunction("W").add_step("A", refuse_ambiguously, executor=executor)
    execution = ended(workflow.set_start_step("A"))
    error = Execution.from_json(execution.to_json()).context["A"]
    assert error.text == "the shelf is empty"
    assert "in refuse_ambiguously" in str(error.__cause__)


@pytest.mark.parametrize(
    ("workflow", "error"),
    [
        (StepFunction("Ends").add_step("A", int, ends="failed"), StepExecutionError),
        (
            StepFunction("Loop", max_steps=2).add_step("A", int, branch={0: "A"}),
            StepLimitError,
        ),
    ],
)
def test_errors_of_ours_come_back_as_what_they_were(workflow, error):
    copy = read_back(ended(workflow.set_start_step("A"), 0))
    with pytest.raises(error) as caught:
        copy.raise_if_failed()
    assert type(caught.value) is error


def test_an_execution_that_timed_out_says_so_when_it_was_read():
    workflow = StepFunction("Slow")
    workflow.add_step("Sleep", lambda _, context: context.sleep(60), executor="thread")
    execution = ended(workflow.set_start_step("Sleep"), timeout=0.05)
    with pytest.raises(ExecutionTimeoutError, match="longer than 0.05 s"):
        read_back(execution).raise_if_failed()


def test_an_execution_that_runs_can_be_written_and_then_stands_still():
    written, seen = [], []

    def listen(event):
        seen.append([(it.step, it.outcome) for it in event.execution.history])
        written.append(event.execution.to_json())

    workflow = StepFunction("Runs").add_step("A", int, "B").add_step("B", int)
    workflow.set_start_step("A").execute(1, listeners=[listen])
    copies = list(map(Execution.from_json, written))
    assert [[(it.step, it.outcome) for it in copy.history] for copy in copies] == seen
    assert copies[2].status == "RUNNING"
    assert copies[2].duration == copies[2].duration


def test_what_is_under_way_is_read_as_under_way():
    begun, may_end = Event(), Event()

    def work(value):
        begun.set()
        may_end.wait(30)
        return value

    inner = StepFunction("Inner").add_step("Work", work).set_start_step("Work")
    workflow = StepFunction("Outer").add_step("First", str, "In").add_step("In", inner)
    execution = workflow.set_start_step("First").start(1)
    try:
        assert begun.wait(30)
        copy = read_back(execution)
    finally:
        may_end.set()
        assert execution.wait(30)
    first, nested = copy.history
    assert (first.outcome, first.next_step) == (Outcome.SUCCEEDED, "In")
    assert (nested.step, nested.outcome, nested.child.status) == ("In", None, "RUNNING")
    assert [(it.step, it.outcome) for it in nested.child.history] == [("Work", None)]
    assert nested.duration == copy.history[1].duration
    assert "Work" in copy.to_mermaid()


def fail():
    raise ValueError("no")


@pytest.mark.parametrize(
    "options",
    [
        {"func": {"t": fail}, "parallel": True, "tolerated_failures": 0},
        {"func": StepFunction("I").add_step("A", fail).set_start_step("A")},
        {"func": fail},
        {"func": lambda: 1, "ends": "failed"},
    ],
)
def test_what_was_read_is_drawn_as_the_execution_was(options):
    execution = ended(StepFunction("W").add_step("A", **options).set_start_step("A"))
    copy = read_back(execution)
    assert copy.ended_at == execution.ended_at
    assert _untimed(copy.to_mermaid()) == _untimed(execution.to_mermaid())
    assert _untimed(copy.to_dot()) == _untimed(execution.to_dot())


def _untimed(chart):
    return re.sub(r"[\d.e-]+ [mµ]?s\b", "", chart)  # of which the last digit is rounded


def test_an_execution_without_a_graph_can_be_written(execution):
    copy = pickle.loads(pickle.dumps(ended(giving(1))))
    assert read_back(copy).history[0].output == 1


def test_a_workflow_that_ran_in_a_process_is_written_with_the_graph_it_ran():
    inner = StepFunction("Inner").add_step("Count", len).set_start_step("Count")
    workflow = StepFunction("Outer")
    with ProcessLanes(max_workers=1) as lanes:
        workflow.add_step("Work", {"task": inner}, parallel=True, executor=lanes)
        execution = workflow.set_start_step("Work").execute([1, 2])
    child = execution.to_dict()["execution"]["steps"][0]["tasks"][0]["child"]
    assert child["workflow"] == "Inner"
    assert child["graph"] == 0


def test_the_graph_comes_back(execution, copy):
    graph, original = copy.graph, execution.graph
    assert list(graph.steps) == list(original.steps)
    assert graph.failure_steps == original.failure_steps
    for name, step in original.steps.items():
        assert graph.steps[name].arrows() == step.arrows()
        callees = graph.steps[name].action.callees()
        assert list(dict(callees)) == list(dict(step.action.callees()))


def test_what_was_read_is_drawn_with_the_same_steps_and_arrows(execution, copy):
    assert copy.to_dot().count("->") == execution.to_dot().count("->")


def test_a_function_that_was_read_refuses_to_be_called(copy):
    call = copy.graph.steps["Parse"].action
    assert call.name == "loads"
    with pytest.raises(StepFunctionError, match="loads cannot be called"):
        call("{}")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        -(2**9000),
        1.5,
        math.inf,
        -math.inf,
        "",
        "\udc00 \x00 </script>",
        [],
        (1, [2, ()]),
        {"a": {"b": [None]}},
        {1: "one", (2, 3): "two", None: "none", 0.5: "half"},
        {"$repr": "mine"},
        {"$unknown": 1},
        {"$": 1},
        {"$a": 1, "b": 2},
        pytest.param(2**20_000, id="long"),
        "\ud83d\ude00",
        {"\ud83d\ude00": 1},
        b"bytes",
        bytearray(b"bytes"),
        {1, "a", (2, b"c")},
        frozenset({(1, 2)}),
        date(2026, 1, 2),
        1j,
    ],
)
def test_plain_values_come_back_as_they_were(value):
    output = read_back(giving(value).execute()).output
    assert output == value
    assert type(output) is type(value)


def test_not_a_number_comes_back():
    assert math.isnan(read_back(giving(math.nan).execute()).output)


@pytest.mark.parametrize(
    "value", [Point(1, 2), Colour.RED, OrderedDict(a=1), int, object()]
)
def test_other_values_come_back_as_their_repr(value):
    execution = giving([value]).execute()
    written = execution.to_dict()["execution"]["output"]
    assert written == [{"$repr": repr(value)}]
    assert read_back(execution).output == [Omitted(repr(value))]


def test_a_value_whose_repr_fails_is_written_all_the_same():
    text = read_back(giving(Unspeakable()).execute()).output.text
    assert text == "<Unspeakable, whose repr failed: RuntimeError: no words>"


@pytest.mark.parametrize("value", [b"x" * 1_000_000, Cards(["x" * 1_000_000])])
def test_a_long_repr_is_cut_and_says_so(value):
    text = read_back(giving(value).execute()).output.text
    assert len(text) < 11_000
    assert text.endswith("in all)")


def test_a_value_inside_itself_ends_with_an_ellipsis():
    value = {"again": []}
    value["again"].append(value)
    output = read_back(giving(value).execute()).output
    assert output == {"again": [Omitted("…")]}


def test_what_is_nested_too_deeply_ends_with_an_ellipsis():
    value = []
    for _ in range(5_000):
        value = [value]
    assert '{"$repr": "\\u2026"}' in giving(value).execute().to_json()


def test_an_exception_in_a_value_comes_back():
    output = read_back(giving({"why": KeyError("x")}).execute()).output
    assert output["why"].type_name == "builtins.KeyError"


def test_an_error_of_ours_that_had_lost_its_class_comes_back_like_any_other():
    name = "stepfunction.core.errors.StepExecutionError"
    execution = giving(RemoteError(f"{name}: lost", name, "lost")).execute()
    copy = read_back(execution)
    assert type(copy.output) is RemoteError
    assert copy.to_dict() == execution.to_dict()


def test_workflows_can_be_nested_deeply():
    workflow = giving(1)
    for depth in range(60):
        inner, workflow = workflow, StepFunction(f"Level {depth}")
        workflow.add_step("In", inner).set_start_step("In")
    copy = read_back(workflow.execute())
    for _ in range(60):
        copy = copy.children["In"]
    assert copy.context["Give"] == 1


def test_exceptions_that_cause_each_other_are_written():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    execution = giving(first).execute()
    assert read_back(execution).to_dict() == execution.to_dict()


def test_redact_is_told_where_each_value_stands():
    seen = []

    def redact(where, value):
        seen.append((where, value))
        return value

    workflow = StepFunction("Pay").add_step("Pay", lambda it: [it["card"]])
    workflow.set_start_step("Pay").execute({"card": 4711}).to_dict(redact=redact)
    assert seen == [
        (("Pay", "input"), {"card": 4711}),
        (("Pay", "input", "card"), 4711),
        (("Pay", "output"), [4711]),
        (("Pay", "output", 0), 4711),
        (("Pay", "output"), [4711]),
        (("Pay", "output", 0), 4711),
    ]


def test_what_redact_gives_is_written_in_the_place_of_a_value(execution):
    def redact(where, value):
        return "hidden" if where[:2] == ("Update.count", "output") else value

    written = Execution.from_json(execution.to_json(redact=redact))
    assert written.history[2].output == "hidden"
    assert written.context["Update"]["count"] == "hidden"
    with pytest.raises(ParallelStepExecutionError) as caught:
        written.context["Update"].raise_if_failed()
    assert caught.value.results == {"count": "hidden"}


def test_redact_is_given_the_texts_of_exceptions_wherever_they_stand(execution):
    def redact(where, value):
        return "hidden" if where[1] == "error" else value

    text = execution.to_json(redact=redact)
    assert EMPTY not in text
    assert UNKNOWN not in text


def test_what_redact_raises_goes_on_to_the_caller(execution):
    def redact(where, value):
        raise OSError("no key")

    with pytest.raises(OSError, match="no key"):
        execution.to_json(redact=redact)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        (b"\xff\xfe\xfa", "no JSON"),
        ("NaN", "bare NaN"),
        ("[" * 100_000, "nested too deeply"),
        ("null", "no transcript"),
        ("[]", "no transcript"),
        ('{"format": "other"}', "no transcript"),
        ('{"format": "stepfunction.execution"}', "version None"),
        ('{"format": "stepfunction.execution", "version": 3}', "version 3"),
        ('{"format": "stepfunction.execution", "version": true}', "version True"),
        ('{"format": "stepfunction.execution", "version": 2}', "lacks graphs"),
    ],
)
def test_what_is_no_transcript_is_refused_with_the_reason(text, message):
    with pytest.raises(TranscriptError, match=message):
        Execution.from_json(text)


@pytest.mark.parametrize(
    ("way", "value", "message"),
    [
        (["execution"], 7, "execution of the transcript is 7"),
        (["execution", "status"], "DONE", "execution.status .* is 'DONE'"),
        (["execution", "started"], "now", "execution.started"),
        (["execution", "graph"], 99, "there is no 99"),
        (["execution", "graph"], True, "execution.graph"),
        (["execution", "steps", 0, "outcome"], "?", r"steps\[0\].outcome"),
        (["execution", "steps", 1, "tasks", 0, "task"], None, r"tasks\[0\].task"),
        (["execution", "input"], {"$new": 1}, "not a value"),
        (["execution", "input"], {"$error": -1}, "there is no -1"),
        (["execution", "input"], {"$dict": [[[], 1]]}, "unhashable"),
        (["execution", "input"], {"$results": [1, 2]}, "not a value"),
        (["execution", "blame", "error"], None, "names no error"),
        (["execution", "present"], {}, "lacks execution.present"),
        (["execution", "ended_at"], 1, "ended_at .* cannot be 1"),
        (["errors", 0, "cause"], 0, "causes itself"),
        (["errors", 0, "text"], None, r"errors\[0\].text"),
        (["graphs", 0, "start"], "Nowhere", "start of the transcript is no step"),
        (["graphs", 1, "steps", 0, "action", "kind"], "exec", "none of call"),
        (["graphs", 1, "steps", 0, "arrows", 0, "target"], "X", "an arrow to 'X'"),
    ],
)
def test_a_transcript_that_was_tampered_with_is_refused_by_place(
    execution, way, value, message
):
    document = execution.to_dict()
    part = document
    for key in way[:-1]:
        part = part[key]
    part[way[-1]] = value
    with pytest.raises(TranscriptError, match=message):
        Execution.from_json(json.dumps(document))


def test_reading_imports_nothing_that_the_text_names(execution):
    text = execution.to_json().replace("builtins.LookupError", "antigravity.Error")
    error = Execution.from_json(text).context["In"].__cause__
    assert error.type_name == "antigravity.Error"
    assert "antigravity" not in sys.modules


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.sampled_from(["$repr", "$error", "$dict"])
    | st.builds(ValueError, st.text(max_size=5))
)
keys = st.text(max_size=3) | st.integers() | st.sampled_from(["$repr", "$tuple"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@st.composite
def workflows(draw, depth=2):
    count = draw(st.integers(1, 4))
    workflow = StepFunction(draw(st.text(max_size=4)) or "W")

    def action():
        value = draw(values)
        cause = draw(st.none() | st.builds(OSError, st.text(max_size=3)))
        kind = draw(st.sampled_from(["give", "fail", "nest"][: 2 + (depth > 0)]))
        if kind == "nest":
            return draw(workflows(depth - 1))

        def do(_):
            if kind == "fail":
                raise RuntimeError(value) from cause
            return value

        return do

    for index in range(count):
        following = f"s{index + 1}" if index + 1 < count else None
        options = {"next_step": following}
        if following and draw(st.booleans()):
            options["on_failure"] = following
        if draw(st.booleans()):
            options["retry"] = RetryPolicy(2, interval=0, retry_on=RuntimeError)
        if draw(st.booleans()):
            tasks = {name: action() for name in ("a", "b")[: draw(st.integers(1, 2))]}
            options.update(parallel=True, stop_on_failure=draw(st.booleans()))
            workflow.add_step(f"s{index}", tasks, executor="inline", **options)
        else:
            workflow.add_step(f"s{index}", action(), **options)
    return workflow.set_start_step("s0")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(workflows(), values)
def test_any_execution_is_read_as_it_was_written(workflow, value):
    execution = ended(workflow, value)
    copy = read_back(execution)
    assert copy.to_dict() == execution.to_dict()
    assert list(map(facts, copy.history)) == list(map(facts, execution.history))


class Card(NamedTuple):
    owner: str
    number: str


@pytest.mark.parametrize(
    "order",
    [
        OrderedDict(card="4111"),
        defaultdict(str, card="4111"),
        {"card": Card("me", "4111")},
        Cards(["4111"]),
    ],
)
def test_nothing_that_redact_takes_is_written_of_classes_of_containers(order):
    def redact(where, value):
        return "gone" if value == "4111" else value

    workflow = StepFunction("W").add_step("A", lambda value: value)
    text = workflow.set_start_step("A").execute(order).to_json(redact=redact)
    assert "4111" not in text
    assert "gone" in text


@pytest.mark.parametrize("started", [1e30, -1, True, "now"])
def test_a_beginning_that_is_no_date_is_refused(started):
    document = StepFunction("W").add_step("A", str).set_start_step("A").execute(1)
    document = document.to_dict()
    document["execution"]["started"] = started
    with pytest.raises(TranscriptError, match="started"):
        Execution.from_json(json.dumps(document))


@pytest.mark.parametrize("text", [None, {"format": 1}, 3])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(TranscriptError, match="is the text that to_json"):
        Execution.from_json(text)


def test_an_error_of_redact_says_where_it_was_asked():
    workflow = StepFunction("W").add_step("A", str).set_start_step("A")
    execution = workflow.execute(1)
    with pytest.raises(TypeError) as caught:
        execution.to_json(redact=lambda value: value)
    assert caught.value.__notes__[0].startswith("raised by redact(where, value), where")
