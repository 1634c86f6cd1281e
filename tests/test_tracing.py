from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from shared.events import Telling
from shared.stragglers import Straggler, alone, double, fan, interrupt, refuse

import stepfunction
from stepfunction import (
    Attempt,
    Outcome,
    RetryPolicy,
    StepExecutionError,
    StepFunction,
)
from stepfunction.tracing import Tracing

PATIENT = RetryPolicy(max_attempts=3, interval=0, jitter=None)
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])


def refuse_twice(value, context):
    if context.attempt < 3:
        raise OSError(f"attempt {context.attempt} came to nothing")
    return value


class Trace:
    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(self.provider)
        self.tracer = self.provider.get_tracer("test")

    def run(self, workflow, *args, **options):
        return workflow.execute(*args, listeners=[self.tracing], **options)

    @property
    def spans(self):
        return sorted(self.exporter.get_finished_spans(), key=lambda it: it.start_time)

    def one(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def parent(self, span):
        if span.parent is None:
            return None
        ids = {other.context.span_id: other for other in self.spans}
        return ids[span.parent.span_id]

    def tree(self):
        """Give each span as the names from the outermost to it."""
        found = []
        for span in self.spans:
            names = []
            while span is not None:
                names.insert(0, span.name)
                span = self.parent(span)
            found.append(" > ".join(names))
        return found


@pytest.fixture
def traced():
    return Trace()


@pytest.fixture
def chain():
    workflow = StepFunction("Chain")
    workflow.add_step("First", double, "Second").add_step("Second", double)
    return workflow.set_start_step("First")


@pytest.fixture
def inner():
    workflow = StepFunction("Inner").add_step("Only", double)
    return workflow.set_start_step("Only")


def is_error(span):
    return span.status.status_code is trace.StatusCode.ERROR


def exceptions(span):
    return [event.attributes["exception.message"] for event in span.events]


def test_a_sequence_is_an_execution_with_a_span_of_each_step(traced, chain):
    traced.run(chain, 1)
    assert traced.tree() == [
        "execution Chain",
        "execution Chain > step First",
        "execution Chain > step Second",
    ]


def test_a_span_says_what_it_is_of(traced, chain):
    execution = traced.run(chain, 1)
    assert dict(traced.one("step Second").attributes) == {
        "stepfunction.kind": "step",
        "stepfunction.root_id": execution.id,
        "stepfunction.execution_id": execution.id,
        "stepfunction.workflow": "Chain",
        "stepfunction.step": "Second",
        "stepfunction.outcome": "SUCCEEDED",
        "stepfunction.attempts": 1,
    }
    root = traced.one("execution Chain").attributes
    assert root["stepfunction.status"] == "COMPLETED"


def test_spans_carry_the_times_of_the_events(traced, chain):
    events = []
    chain.execute(1, listeners=[traced.tracing, events.append])
    times = {event.kind: round(event.time * 1e9) for event in events}
    root, second = traced.one("execution Chain"), traced.one("step Second")
    assert root.start_time == times["execution_started"]
    assert root.end_time == times["execution_ended"]
    assert second.start_time == times["step_started"]
    assert second.end_time == times["step_succeeded"]


def test_a_failure_is_an_error_with_its_exception(traced):
    with pytest.raises(StepExecutionError):
        traced.run(alone(refuse))
    for name in ("step Only", "execution Alone"):
        span = traced.one(name)
        assert is_error(span)
        assert span.status.description == "ValueError: no room left"
        (event,) = span.events
        assert event.name == "exception"
        assert event.attributes["exception.type"] == "ValueError"
        assert "in refuse" in event.attributes["exception.stacktrace"]


def test_a_handled_failure_is_an_error_of_its_step_alone(traced):
    workflow = StepFunction("Handled").set_start_step("Try")
    workflow.add_step("Try", refuse, on_failure="Mend")
    workflow.add_step("Mend", str, "End").add_step("End", str, ends="completed")
    traced.run(workflow)
    assert is_error(traced.one("step Try"))
    assert traced.one("step Try").attributes["stepfunction.next_step"] == "Mend"
    assert not is_error(traced.one("execution Handled"))


def test_an_exception_without_a_text_leaves_no_span_open(traced):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("mute")

    def fail(_):
        raise Mute

    with pytest.raises(StepExecutionError):
        traced.run(alone(fail))
    assert traced.tree() == ["execution Alone", "execution Alone > step Only"]


def test_an_execution_that_takes_too_long_is_an_error(traced):
    def wait(_, context):
        context.sleep(30)

    with pytest.raises(stepfunction.ExecutionTimeoutError):
        traced.run(alone(wait), timeout=0.01)
    root = traced.one("execution Alone")
    assert is_error(root) and root.attributes["stepfunction.status"] == "TIMED_OUT"


def test_a_cancelled_execution_is_no_error(traced):
    def cancel(event):
        if event.kind == "step_started":
            event.execution.cancel()

    with pytest.raises(stepfunction.ExecutionCancelledError):
        alone(double).execute(1, listeners=[traced.tracing, cancel])
    root = traced.one("execution Alone")
    assert not is_error(root)
    assert root.attributes["stepfunction.status"] == "CANCELLED"


@pytest.mark.parametrize("executor", [None, "thread"])
def test_each_of_several_attempts_is_a_span(traced, executor):
    traced.run(alone(refuse_twice, retry=PATIENT, executor=executor), 1)
    around = "execution Alone > step Only"
    assert traced.tree()[2:] == [
        f"{around} > attempt 1",
        f"{around} > attempt 2",
        f"{around} > attempt 3",
    ]
    attempts = [traced.one(f"attempt {number}") for number in (1, 2, 3)]
    assert [is_error(span) for span in attempts] == [True, True, False]
    assert exceptions(attempts[1]) == ["attempt 2 came to nothing"]
    assert attempts[2].attributes["stepfunction.attempt"] == 3
    step = traced.one("step Only")
    assert not is_error(step) and step.attributes["stepfunction.attempts"] == 3


def test_spans_of_attempts_have_the_times_of_the_attempts(traced):
    execution = traced.run(alone(refuse_twice, retry=PATIENT), 1)
    _, second, third = execution.history[0].attempts
    for attempt in (second, third):
        span = traced.one(f"attempt {attempt.number}")
        ended = attempt.started + attempt.duration
        assert span.start_time == pytest.approx(attempt.started * 1e9, abs=2000)
        assert span.end_time == pytest.approx(ended * 1e9, abs=2000)


def test_no_span_begins_before_or_ends_after_the_one_around_it(traced, inner):
    tasks = {"a": refuse_twice, "b": inner}
    traced.run(fan(tasks, retry=PATIENT), 1)
    for span in traced.spans[1:]:
        parent = traced.parent(span)
        # Times are floats of seconds, whose last digit is a quarter of a microsecond.
        assert parent.start_time - 1_000 <= span.start_time <= span.end_time
        assert span.end_time <= parent.end_time + 1_000


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_tasks_are_below_their_step(traced, executor):
    traced.run(fan({"good": double, "bad": refuse}, executor=executor), 1)
    assert sorted(traced.tree()) == [
        "execution Fan",
        "execution Fan > step All",
        "execution Fan > step All > task bad",
        "execution Fan > step All > task good",
    ]
    assert exceptions(traced.one("task bad")) == ["no room left"]
    assert is_error(traced.one("task bad"))
    assert not is_error(traced.one("step All"))
    assert traced.one("task good").attributes["stepfunction.task"] == "good"


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_attempts_of_tasks_are_below_their_task(traced, executor):
    tasks = {"steady": double, "flaky": refuse_twice}
    traced.run(fan(tasks, executor=executor, retry=PATIENT), 1)
    attempts = [span for span in traced.tree() if "attempt" in span]
    around = "execution Fan > step All > task flaky > attempt"
    assert attempts == [f"{around} {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("executor", [None, "thread", "process"])
def test_a_nested_execution_is_below_its_step(traced, inner, executor):
    execution = traced.run(alone(inner, "Nest", executor=executor), 1)
    assert traced.tree()[1:] == [
        "execution Alone > step Nest",
        "execution Alone > step Nest > execution Inner",
        "execution Alone > step Nest > execution Inner > step Only",
    ]
    facts = traced.one("step Only").attributes
    assert facts["stepfunction.path"] == "Nest"
    assert facts["stepfunction.root_id"] == execution.id
    assert facts["stepfunction.execution_id"] == execution.children["Nest"].id


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_a_nested_execution_is_below_its_task(traced, inner, executor):
    middle = fan({"deep": inner})
    traced.run(fan({"x": middle, "y": middle}, executor=executor), 1)
    for task in "xy":
        around = f"execution Fan > step All > task {task} > execution Fan"
        deep = f"{around} > step All > task deep > execution Inner > step Only"
        assert traced.tree().count(deep) == 1
    assert len(traced.spans) == 2 + 2 * 6


def test_each_attempt_at_a_nested_workflow_has_its_execution(traced):
    calls = []

    def fail_once(_):
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")

    traced.run(alone(alone(fail_once), "Nest", retry=PATIENT), 1)
    nested = "execution Alone > step Nest > execution Alone"
    assert traced.tree().count(nested) == 2
    assert traced.tree().count(f"{nested} > step Only") == 2


def test_what_a_killed_process_ran_ends_with_its_task(traced, tmp_path):
    workflow = fan(
        {"hung": alone(hang, "Hang"), "bad": fail_when_it_is_there},
        executor="process",
        stop_on_failure=True,
    )
    with pytest.raises(StepExecutionError):
        traced.run(workflow, str(tmp_path / "it"))
    around = "execution Fan > step All > task hung"
    assert f"{around} > execution Alone > step Hang" in traced.tree()
    hung = traced.one("task hung")
    assert hung.attributes["stepfunction.outcome"] == "KILLED"
    assert traced.one("step Hang").end_time == hung.end_time


def hang(path):
    Path(path).touch()
    threading.Event().wait()


def fail_when_it_is_there(path):
    while not Path(path).exists():
        threading.Event().wait(0.01)
    raise ValueError("enough")


def test_a_nested_execution_that_was_abandoned_ends_with_its_task(traced):
    may_end, began = threading.Event(), []

    def hang(_):
        began.append(1)
        may_end.wait(30)

    slow = StepFunction("Slow").add_step("Hang", hang, "More").add_step("More", double)
    workflow = StepFunction("Patient").set_start_step("Both")
    tasks = {"slow": slow.set_start_step("Hang"), "last": lambda _: may_end.wait(30)}
    workflow.add_step("Both", tasks, parallel=True, timeout=0.2, next_step="Then")
    workflow.add_step("Then", lambda _: may_end.set())
    traced.run(workflow)
    assert began
    hung = traced.one("task slow")
    assert hung.attributes["stepfunction.outcome"] == "ABANDONED"
    assert traced.one("step Hang").end_time == hung.end_time
    assert "step More" not in {span.name for span in traced.spans}


def test_an_abandoned_attempt_does_not_touch_the_spans_of_the_next(traced):
    straggler = Straggler()
    straggler.workflow.execute(1, listeners=[traced.tracing])
    nested = "execution Fan > step All > task slow > execution Slow"
    assert traced.tree().count(f"{nested} > step Hang") == 2
    assert traced.tree().count(f"{nested} > step More") == 1
    hung = [span for span in traced.spans if span.name == "step Hang"]
    outcomes = [span.attributes.get("stepfunction.outcome") for span in hung]
    assert outcomes == [None, "SUCCEEDED"]


def test_the_callers_span_is_the_parent(traced, chain):
    with traced.tracer.start_as_current_span("request"):
        traced.run(chain, 1)
    assert traced.tree()[1] == "request > execution Chain"


def test_the_callers_span_is_the_parent_from_start_too(traced, chain):
    with traced.tracer.start_as_current_span("request"):
        chain.start(1, listeners=[traced.tracing]).wait()
    assert traced.tree()[1] == "request > execution Chain"


@pytest.mark.parametrize("executor", [None, "thread"])
def test_what_a_step_traces_is_below_its_step(traced, executor):
    def work(_):
        with traced.tracer.start_as_current_span("query"):
            pass

    nested = alone(alone(work, executor=executor), "Nest")
    traced.run(nested)
    step = "execution Alone > step Nest > execution Alone > step Only"
    assert traced.tree()[-1] == f"{step} > query"


def test_what_a_task_in_a_thread_traces_is_below_the_step(traced, inner):
    def work(_):
        with traced.tracer.start_as_current_span("query"):
            pass

    # One at a time: the second begins after the first was told of.
    traced.run(fan({"a": inner, "b": work, "c": work}, max_workers=1), 1)
    assert traced.tree().count("execution Fan > step All > query") == 2


def test_a_task_that_begins_while_a_workflow_runs_in_another_is_below_the_step(traced):
    inside, has_traced = threading.Event(), threading.Event()

    def wait(_):
        inside.set()
        assert has_traced.wait(20)

    def give_way(_):
        assert inside.wait(20)

    def work(_):
        with traced.tracer.start_as_current_span("query"):
            has_traced.set()

    tasks = {"a": alone(wait), "b": give_way, "c": work}
    traced.run(fan(tasks, max_workers=2), 1)
    assert "execution Fan > step All > query" in traced.tree()


def test_what_runs_in_another_thread_is_not_current_in_the_callers(traced, inner):
    current = []

    def look(event):
        if event.kind == "step_started":
            current.append(trace.get_current_span().name)

    workflow = alone(inner, "Nest", executor="thread")
    workflow.execute(1, listeners=[traced.tracing, look])
    assert current == ["step Nest", "step Nest"]


@pytest.mark.parametrize("function", [double, refuse, interrupt])
def test_the_callers_span_is_current_again_afterwards(traced, function):
    workflow = alone(alone(function), "Nest", retry=PATIENT)
    with traced.tracer.start_as_current_span("request") as request:
        try:
            traced.run(workflow, 1)
        except (StepExecutionError, KeyboardInterrupt):
            pass
        assert trace.get_current_span() is request


def test_two_executions_at_once_have_traces_of_their_own(traced):
    both = threading.Barrier(2, timeout=30)
    workflow = StepFunction("Meet", listeners=[traced.tracing])
    workflow.add_step("Meet", {"a": lambda _: both.wait()}, parallel=True)
    workflow.set_start_step("Meet")
    executions = [workflow.start() for _ in range(2)]
    assert all(execution.wait(30) for execution in executions)
    assert len({span.context.trace_id for span in traced.spans}) == 2
    for execution in executions:
        own = [
            span
            for span in traced.spans
            if span.attributes["stepfunction.root_id"] == execution.id
        ]
        assert len(own) == 3 and len({span.context.trace_id for span in own}) == 1


def test_a_workflow_executed_in_a_step_is_below_that_step(traced, inner):
    def work(number):
        return traced.run(inner, number).output

    traced.run(alone(work, "Outer"), 1)
    around = "execution Alone > step Outer > execution Inner"
    assert traced.tree()[2:] == [around, f"{around} > step Only"]


def test_a_listener_given_twice_makes_each_span_once(traced, caplog):
    workflow = StepFunction("Twice", listeners=[traced.tracing])
    tasks = {"good": double, "flaky": refuse_twice}
    workflow.add_step("Both", tasks, parallel=True, retry=PATIENT)
    workflow.set_start_step("Both").execute(1, listeners=[traced.tracing])
    assert len(traced.spans) == len(set(traced.tree())) == 7
    assert not [it for it in caplog.records if it.name.startswith("opentelemetry")]


@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_an_interrupt_ends_all_spans(traced, executor):
    def interrupt_us(event):
        if event.kind == "task_started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fan({"a": double, "b": double}, executor=executor).execute(
            1, listeners=[traced.tracing, interrupt_us]
        )
    root = traced.one("execution Fan")
    assert root.attributes["stepfunction.status"] == "CANCELLED"
    assert exceptions(root) == [""] and not is_error(root)
    assert "execution Fan > step All > task a" in traced.tree()


def test_an_interrupted_task_of_the_calling_thread_has_its_span(traced):
    with pytest.raises(KeyboardInterrupt):
        traced.run(fan({"a": interrupt}, executor="inline"))
    assert traced.tree()[-1] == "execution Fan > step All > task a"


def test_nothing_is_kept_of_what_has_ended(traced, inner):
    workflow = fan({"a": inner, "b": refuse}, retry=PATIENT)
    traced.run(workflow, 1)
    with pytest.raises(KeyboardInterrupt):
        traced.run(alone(interrupt))
    assert traced.tracing._running == {}


def test_nothing_is_kept_of_an_execution_whose_end_was_not_told(traced):
    def interrupt_the_end(event):
        if event.kind == "execution_ended":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alone(double).execute(1, listeners=[interrupt_the_end, traced.tracing])
    gc.collect()
    assert traced.tracing._running == {}


def test_without_a_provider_the_global_one_is_asked(monkeypatch, traced, chain):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", traced.provider)
    chain.execute(1, listeners=[Tracing()])
    assert len(traced.spans) == 3


def test_without_any_provider_nothing_happens(chain):
    assert chain.execute(1, listeners=[Tracing()]).output == 4


def test_without_opentelemetry_the_error_says_what_to_install():
    code = "import sys; sys.modules['opentelemetry'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "import stepfunction.tracing"],
        env={**os.environ, "PYTHONPATH": PACKAGE_HOME},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: stepfunction.tracing needs OpenTelemetry: pip install "
        "opentelemetry-api"
    )


def test_the_span_of_a_map_step_says_how_many_items_have_ended(traced):
    progressed = {"subject": "step", "what": "progressed", "total": 9}
    told = [{**progressed, "done": number} for number in (4, 9)]
    listener = Telling(traced.tracing, "step_started", *told)
    alone(double).execute(1, listeners=[listener])
    step = traced.one("step Only")
    assert step.attributes["stepfunction.items_done"] == 9
    assert step.attributes["stepfunction.items_total"] == 9
    assert step.attributes["stepfunction.outcome"] == "SUCCEEDED"


def test_an_item_that_failed_has_a_span_though_its_start_was_not_told(traced):
    def tell(event):
        traced.tracing(event)
        if event.kind == "step_started":
            error = ValueError("no room left")
            attempt = Attempt(1, Outcome.FAILED, event.time, 0.001, error)
            facts = {"outcome": Outcome.FAILED, "attempts": (attempt,), "error": error}
            facts |= {"subject": "task", "what": "failed", "part": 17}
            traced.tracing(event.replace(**facts))

    alone(double).execute(1, listeners=[tell])
    task = traced.one("task 17")
    assert traced.parent(task).name == "step Only"
    assert is_error(task)


def test_an_item_that_never_began_has_no_span(traced):
    cancelled = {"subject": "task", "what": "cancelled", "part": 9}
    cancelled["outcome"] = Outcome.CANCELLED
    listener = Telling(traced.tracing, "step_started", cancelled)
    alone(double).execute(1, listeners=[listener])
    assert [span.name for span in traced.spans] == ["execution Alone", "step Only"]


def test_a_compensation_is_a_span_of_its_own(traced):
    error = OSError("closed")
    facts = {"subject": "compensation", "what": "failed", "error": error}
    facts |= {"duration": 0.5, "outcome": Outcome.FAILED, "step": "Pay", "part": "card"}
    listener = Telling(traced.tracing, "step_succeeded", facts)
    alone(double).execute(1, listeners=[listener])
    span = traced.one("compensation Pay.card")
    assert traced.parent(span).name == "execution Alone"
    assert span.attributes["stepfunction.kind"] == "compensation"
    assert is_error(span)
    assert traced.one("execution Alone").end_time is not None


def test_a_fail_step_is_an_error_of_its_own_name(traced):
    workflow = StepFunction("W").add_fail_step("Stop", "Refused", "too late")
    traced.run(workflow.set_start_step("Stop"))
    assert is_error(traced.one("step Stop"))
    assert "Refused: too late" in traced.one("step Stop").status.description
