"""Executions that are kept: the same line begins them, goes on, gives them back."""

import asyncio
import gc
import threading
import time

import pytest
import time_machine
from shared import stores
from shared.stores import DyingStore, MemoryStore

from stepfunction import (
    DefinitionError,
    ExecutionCancelledError,
    ExecutionClaimedError,
    ExecutionNotFoundError,
    ExecutionTimeoutError,
    Omitted,
    ResumeError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StoreError,
    UnstorableValueError,
)
from stepfunction.core.engine.start import _leave
from stepfunction.stores import SQLiteStore


class Death(BaseException):
    """Ends an execution as Ctrl-C does."""


@pytest.fixture
def store():
    with SQLiteStore(":memory:") as made:
        yield made


class Steps:
    """Functions of steps that say when they are called, and may fail or die once."""

    def __init__(self):
        self.calls = []
        self.trouble = {}

    def step(self, name, result=None):
        def call(value):
            self.calls.append(name)
            error = self.trouble.pop(name, None)
            if error is not None:
                raise error
            return value if result is None else result

        return call


@pytest.fixture
def steps():
    return Steps()


def chain(steps, *names, name="Chain"):
    workflow = StepFunction(name)
    for at, step in enumerate(names):
        follower = names[at + 1] if at + 1 < len(names) else None
        workflow.add_step(step, steps.step(step), follower)
    return workflow.set_start_step(names[0])


def test_the_same_line_goes_on_after_a_death(store, steps):
    workflow = chain(steps, "A", "B", "C")
    steps.trouble["B"] = Death()
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="one")
    execution = workflow.execute(1, store=store, execution_id="one")
    assert steps.calls == ["A", "B", "B", "C"]
    assert execution.status is Status.COMPLETED
    assert [record.step for record in execution.history] == ["A", "B", "C"]


def test_a_completed_one_is_given_back_and_nothing_runs(store, steps):
    workflow = chain(steps, "A", "B")
    first = workflow.execute(1, store=store, execution_id="one")
    again = workflow.execute(1, store=store, execution_id="one")
    assert steps.calls == ["A", "B"]
    assert (again.id, again.output, again.status) == ("one", 1, first.status)
    assert again.started == pytest.approx(first.started)
    assert again.duration == pytest.approx(first.duration, abs=0.05)


def test_a_failed_one_raises_again_what_it_raised(store, steps):
    workflow = chain(steps, "A", "B")
    steps.trouble["B"] = ValueError("no")
    for _ in range(2):
        with pytest.raises(StepExecutionError, match="step 'B' of 'Chain'") as caught:
            workflow.execute(1, store=store, execution_id="one")
        assert repr(caught.value.__cause__) == "ValueError('no')"
        assert caught.value.execution.status is Status.FAILED
    assert steps.calls == ["A", "B"]


def test_one_that_is_given_back_failed_says_that_nothing_is_called(
    store, steps, caplog
):
    workflow = chain(steps, "A", "B")
    steps.trouble["B"] = ValueError("no")
    for _ in range(2):
        with pytest.raises(StepExecutionError) as caught:
            workflow.execute(1, store=store, execution_id="one")
    [note] = caught.value.__notes__
    assert "nothing is called again; resume it" in note
    [warning] = (it for it in caplog.records if it.levelname == "WARNING")
    text = "execution 'one' of 'Chain' had ended FAILED and is given back; "
    assert warning.getMessage() == text + note
    caplog.clear()
    workflow.resume("one", store=store)
    workflow.execute(1, store=store, execution_id="one")
    assert not [it for it in caplog.records if it.levelname == "WARNING"]


def test_one_without_an_id_has_its_own(store, steps):
    execution = chain(steps, "A").execute(1, store=store)
    assert store.load(execution.id).output == 1


def test_a_store_of_the_workflow_keeps_each_execution(store, steps):
    workflow = StepFunction("W", store=store).add_step("A", steps.step("A"))
    workflow.set_start_step("A").execute(1, execution_id="one")
    assert [it.id for it in store.list()] == ["one"]


def test_another_input_is_refused(store, steps):
    workflow = chain(steps, "A")
    workflow.execute({"order": 17}, store=store, execution_id="one")
    with pytest.raises(ResumeError, match="another input"):
        workflow.execute({"order": 18}, store=store, execution_id="one")
    assert steps.calls == ["A"]


def test_another_workflow_is_refused(store, steps):
    chain(steps, "A").execute(1, store=store, execution_id="one")
    with pytest.raises(ResumeError, match="is of workflow 'Chain', not of 'Other'"):
        chain(steps, "A", name="Other").execute(1, store=store, execution_id="one")


def test_one_that_runs_is_claimed(store, steps):
    workflow = StepFunction("W")
    seen = []

    def again(value):
        with pytest.raises(ExecutionClaimedError) as caught:
            workflow.execute(1, store=store, execution_id="one")
        seen.append(caught.value.id)

    workflow.add_step("A", again).set_start_step("A")
    workflow.execute(1, store=store, execution_id="one")
    assert seen == ["one"]


def test_another_thread_is_refused_too(store):
    begun, go_on = threading.Event(), threading.Event()

    def wait(value):
        begun.set()
        go_on.wait(10)

    workflow = StepFunction("W").add_step("A", wait).set_start_step("A")
    execution = workflow.start(1, store=store, execution_id="one")
    assert begun.wait(10)
    with pytest.raises(ExecutionClaimedError, match="one"):
        workflow.resume("one", store=store)
    go_on.set()
    assert execution.wait(10)
    assert workflow.resume("one", store=store).status is Status.COMPLETED


def test_an_input_that_cannot_be_stored_is_refused_before_anything_runs(store, steps):
    with pytest.raises(UnstorableValueError, match="the input of 'Chain'.*object"):
        chain(steps, "A").execute(object(), store=store)
    assert steps.calls == [] and store.list() == []


def test_an_output_that_cannot_be_stored_fails_its_step(store, steps):
    workflow = StepFunction("W")
    workflow.add_step("A", lambda it: object(), on_failure="B")
    workflow.add_step("B", lambda error: type(error).__name__).set_start_step("A")
    execution = workflow.execute(1, store=store)
    assert execution.output == "UnstorableValueError"
    assert "step 'A'" in str(execution.context["A"])


@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_an_output_of_a_task_that_cannot_be_stored_fails_it_once(store, executor):
    workflow = StepFunction("W")
    tasks = {"good": str, "bad": complex_object}
    retry = RetryPolicy(3, interval=0)
    options = {"parallel": True, "executor": executor, "retry": retry}
    workflow.add_step("A", tasks, **options).set_start_step("A")
    execution = workflow.execute(1, store=store)
    assert execution.output["good"] == "1"
    assert type(execution.output["bad"]) is UnstorableValueError
    (bad,) = (it for it in execution.history if it.task == "bad")
    assert len(bad.attempts) == 1


class Thing:
    """What no store can keep."""


def complex_object(value):
    return Thing()


def once_in_two(value):
    return Thing() if value % 2 else value


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("executor", ["inline", "thread", "process"])
def test_a_result_of_an_item_that_cannot_be_stored_fails_it(
    store, executor, batch_size
):
    workflow = StepFunction("W")
    options = {"tolerated_failures": "100%", "batch_size": batch_size}
    workflow.add_map_step("A", once_in_two, executor=executor, **options)
    execution = workflow.set_start_step("A").execute([0, 1, 2, 3], store=store)
    assert [execution.output[0], execution.output[2]] == [0, 2]
    assert {*execution.output.failed} == {1, 3}
    loaded = store.load(execution.id)
    assert [loaded.output[0], loaded.output[2]] == [0, 2]
    assert {*loaded.output.failed} == {1, 3}


def test_what_gave_an_output_that_cannot_be_stored_is_undone_given_that(store, steps):
    given = []
    workflow = StepFunction("W")
    workflow.add_step("A", lambda it: Thing(), compensate=given.append)
    with pytest.raises(StepExecutionError):
        workflow.set_start_step("A").execute(1, store=store)
    assert [type(it) for it in given] == [Thing]


def test_an_execution_id_needs_a_store(steps):
    with pytest.raises(DefinitionError, match="give store= too"):
        chain(steps, "A").execute(1, execution_id="one")


@pytest.mark.parametrize("id", ["", 17, "x" * 201])
def test_an_id_is_a_text_of_some_length(store, steps, id):
    with pytest.raises(DefinitionError, match="execution_id"):
        chain(steps, "A").execute(1, store=store, execution_id=id)


def test_what_is_no_store_is_refused(steps):
    with pytest.raises(DefinitionError, match="store is a store"):
        chain(steps, "A").execute(1, store="runs.db")


def test_cancel_is_for_good(store, steps):
    workflow = StepFunction("W")

    def cancel(value):
        workflow._latest.cancel()

    workflow.add_step("A", cancel, "B").add_step("B", steps.step("B"))
    workflow.set_start_step("A")
    for _ in range(2):
        with pytest.raises(ExecutionCancelledError):
            workflow.execute(1, store=store, execution_id="one")
    assert store.load("one").status is Status.CANCELLED
    assert steps.calls == []


def test_a_cancelled_one_can_be_resumed(store, steps):
    workflow = StepFunction("W")
    workflow.add_step("A", lambda it: workflow._latest.cancel(), "B")
    workflow.add_step("B", steps.step("B", 5)).set_start_step("A")
    with pytest.raises(ExecutionCancelledError):
        workflow.execute(1, store=store, execution_id="one")
    execution = workflow.resume("one", store=store)
    assert (execution.output, steps.calls) == (5, ["B"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_it_to_be_resumed(store, steps, error):
    undone = []
    workflow = StepFunction("W")
    workflow.add_step("A", steps.step("A"), "B", compensate=undone.append)
    workflow.add_step("B", steps.step("B")).set_start_step("A")
    steps.trouble["B"] = error()
    with pytest.raises(error):
        workflow.execute(1, store=store, execution_id="one")
    assert workflow.status is Status.CANCELLED
    (stored,) = store.list()
    assert (stored.status, stored.claimed) == ("RUNNING", False)
    assert undone == []
    assert workflow.resume("one", store=store).status is Status.COMPLETED


def dies_with_a_minute_left(store, steps):
    workflow = chain(steps, "A", "B")
    steps.trouble["B"] = Death()
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="one", timeout=60)
    return workflow


def tomorrow():
    return time_machine.travel(time.time() + 86_400)


def test_the_deadline_stays(store, steps):
    workflow = dies_with_a_minute_left(store, steps)
    with tomorrow(), pytest.raises(ExecutionTimeoutError, match="longer than 60 s"):
        workflow.execute(1, store=store, execution_id="one", timeout=600)
    assert steps.calls == ["A", "B"]


def test_a_timed_out_one_goes_on_with_a_fresh_limit(store, steps):
    workflow = dies_with_a_minute_left(store, steps)
    with tomorrow():
        with pytest.raises(ExecutionTimeoutError):
            workflow.execute(1, store=store, execution_id="one")
        execution = workflow.resume("one", store=store)
    assert execution.status is Status.COMPLETED


def test_resume_of_what_is_not_there_says_so(store, steps):
    with pytest.raises(ExecutionNotFoundError, match="'one'"):
        chain(steps, "A").resume("one", store=store)


def test_resume_needs_a_store(steps):
    with pytest.raises(DefinitionError, match="there is no store"):
        chain(steps, "A").resume("one")


def test_aexecute_keeps_too(store, steps):
    workflow = chain(steps, "A", "B")

    async def run():
        return await workflow.aexecute(1, store=store, execution_id="one")

    first, again = asyncio.run(run()), asyncio.run(run())
    assert (first.output, again.output, steps.calls) == (1, 1, ["A", "B"])


def test_an_awaiting_task_that_is_cancelled_leaves_it_to_be_resumed(store, steps):
    begun = threading.Event()

    def wait(value, context):
        begun.set()
        context.sleep(30)

    workflow = StepFunction("W").add_step("A", wait, "B")
    workflow.add_step("B", steps.step("B", 7)).set_start_step("A")

    async def run():
        running = asyncio.ensure_future(
            workflow.aexecute(1, store=store, execution_id="one")
        )
        await asyncio.to_thread(begun.wait)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())
    assert [it.status for it in store.list()] == ["RUNNING"]


def test_a_wait_keeps_its_end(store, steps):
    workflow = StepFunction("W").add_wait_step("Wait", seconds=3600, next_step="B")
    workflow.add_step("B", steps.step("B")).set_start_step("Wait")
    execution = workflow.start(1, store=store, execution_id="one")
    while not any(text.startswith('["w"') for _, text in store.rows(1)):
        threading.Event().wait(0.001)
    _leave(execution)
    assert execution.wait(10)
    with tomorrow():
        assert workflow.resume("one", store=store).output == 1


def test_an_idempotency_key_stays_over_attempts_and_resumes(store, steps):
    keys = []

    def pay(value, context):
        keys.append(context.idempotency_key)
        if len(keys) < 3:
            raise (ValueError() if len(keys) == 1 else Death())
        return value

    workflow = StepFunction("W", max_steps=10)
    workflow.add_step("A", pay, retry=RetryPolicy(3, interval=0)).set_start_step("A")
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="order/17")
    workflow.resume("order/17", store=store)
    assert len(keys) == 3 and len({*keys}) == 1


def test_idempotency_keys_differ_by_visit_task_item_and_nesting(store):
    keys = []

    def note(value, context):
        keys.append(context.idempotency_key)
        return (value if isinstance(value, int) else 0) + 1

    inner = StepFunction("Inner").add_step("I", note).set_start_step("I")
    workflow = StepFunction("W", max_steps=10)
    workflow.add_step("A", note, branch={2: "A", 3: "P"})
    tasks = {"a": note, "b": note, "a/1": inner, "c": inner}
    workflow.add_step("P", tasks, parallel=True, executor="inline", next_step="L")
    workflow.add_step("L", lambda it: [1, 2, 3], "M")
    workflow.add_map_step("M", note, executor="inline", next_step="N")
    workflow.add_map_step("N", inner, executor="thread")
    workflow.set_start_step("A").execute(1, store=store, execution_id="x" * 200)
    assert len(keys) == len({*keys}) == 12
    assert max(map(len, keys)) <= 255


def test_an_idempotency_key_is_there_without_a_store():
    keys = []

    def note(value, context):
        keys.append(context.idempotency_key)

    workflow = StepFunction("W").add_step("A", note).set_start_step("A")
    execution = workflow.execute(1)
    assert keys[0].startswith(execution.id)


def test_a_loaded_one_is_drawn_and_reported(store, steps, tmp_path):
    workflow = chain(steps, "A", "B")
    steps.trouble["B"] = ValueError("no")
    with pytest.raises(StepExecutionError):
        workflow.execute(1, store=store, execution_id="one")
    loaded = store.load("one")
    assert "B" in loaded.to_mermaid()
    loaded.report(tmp_path / "report.html")
    assert "ValueError" in (tmp_path / "report.html").read_text()
    assert loaded.from_json(loaded.to_json()).status is Status.FAILED


def test_one_that_died_is_loaded_as_it_stands(store, steps):
    workflow = chain(steps, "A", "B")
    steps.trouble["B"] = Death()
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="one")
    loaded = store.load("one")
    assert loaded.status is Status.RUNNING
    assert [(it.step, it.outcome) for it in loaded.history][1:] == [("B", None)]


def test_items_that_are_not_stored_are_said_to_be(store):
    workflow = StepFunction("W").add_map_step("A", str, items=lambda it: iter([1]))
    workflow.set_start_step("A").execute(1, store=store, execution_id="one")
    (_, item) = store.load("one").history
    assert isinstance(item.input, Omitted) and item.output == "1"


def test_another_item_at_the_place_of_one_that_is_done_is_refused(store, steps):
    items = [1, 2, 3]
    die = [True]

    def work(item):
        if item == 3 and die.pop():
            raise Death()
        return item

    workflow = StepFunction("W")
    workflow.add_map_step("A", work, items=lambda it: list(items), executor="inline")
    workflow.set_start_step("A")
    with pytest.raises(Death):
        workflow.execute(0, store=store, execution_id="one")
    items[0] = 9
    die.append(False)
    with pytest.raises(ResumeError, match="item 0 of step 'A' is another"):
        workflow.resume("one", store=store)
    again = workflow.resume("one", store=store, allow_changed=True)
    assert again.output == [9, 2, 3]


def test_keep_history_bounds_what_is_stored(store):
    workflow = StepFunction("Loop", max_steps=1000, keep_history=3)
    counting = [(lambda n: n < 100, "Count"), (lambda n: True, "End")]
    workflow.add_step("Count", lambda n: n + 1, branch=counting)
    die = [True]

    def end(n):
        if die and die.pop():
            raise Death()
        return n

    workflow.add_step("End", end).set_start_step("Count")
    with pytest.raises(Death):
        workflow.execute(0, store=store, execution_id="one")
    assert len([*store.rows(1)]) < 20
    execution = workflow.resume("one", store=store)
    assert (execution.output, execution.forgotten) == (100, 98)
    assert [it.step for it in execution.history] == ["Count", "Count", "End"]
    assert store.load("one").context == execution.context


def test_recover_goes_on_with_all_that_died_and_says_what_became_of_each(store, steps):
    workflow, other = chain(steps, "A", "B"), chain(steps, "A", name="Other")
    gone = chain(steps, "A", name="Gone")
    for id, which in (("one", workflow), ("two", other), ("three", gone)):
        steps.trouble["A"] = Death()
        with pytest.raises(Death):
            which.execute(1, store=store, execution_id=id)
    steps.trouble["B"] = ValueError("no")
    one, two, three = store.recover([workflow, other])
    assert (one.id, two.id, three.id) == ("one", "two", "three")
    assert isinstance(one.error, StepExecutionError)
    assert one.execution.status is Status.FAILED
    assert two.execution.status is Status.COMPLETED and two.error is None
    assert isinstance(three.error, ResumeError) and three.execution is None
    assert [it.id for it in store.recover([gone])] == ["three"]
    assert store.recover([workflow, other, gone]) == []


def key_of_call(value, context):
    return context.idempotency_key


def test_a_key_inside_a_nested_workflow_in_a_process_stays_over_attempts():
    inner = StepFunction("Inner").add_step("I", key_of_call).set_start_step("I")
    middle = StepFunction("Middle").add_step("N", inner, "F")
    middle.add_step("F", fail_if_new).set_start_step("N")
    workflow = StepFunction("W")
    retry = RetryPolicy(2, interval=0)
    workflow.add_step("P", middle, executor="process", retry=retry)
    execution = workflow.set_start_step("P").execute(1)
    (record,) = execution.history
    first, second = record.attempts
    assert str(first.error.__cause__) == execution.output


_seen = "stepfunction-seen"


def fail_if_new(value, context):
    """Fail in the first process that gets here, by a mark in the environment."""
    import pathlib
    import tempfile

    mark = pathlib.Path(tempfile.gettempdir(), f"{_seen}-{value.replace('/', '-')}")
    if mark.exists():
        mark.unlink()
        return value
    mark.write_text("")
    raise ValueError(value)


def test_listeners_hear_that_it_goes_on_and_nothing_of_before(store, steps):
    workflow = chain(steps, "A", "B")
    steps.trouble["B"] = Death()
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="one")
    heard = []
    workflow.resume("one", store=store, listeners=[heard.append])
    assert [(it.kind, it.step) for it in heard] == [
        ("execution_resumed", None),
        ("step_started", "B"),
        ("step_succeeded", "B"),
        ("execution_ended", None),
    ]


def test_events_of_tasks_are_told_when_they_are_kept(store):
    told = []

    def listen(event):
        if event.kind == "task_succeeded":
            told.append(sum(text.count('["t"') for _, text in store.rows(1)))

    workflow = StepFunction("W").add_parallel_step("P", {"a": str, "b": str})
    workflow.set_start_step("P").execute(1, store=store, listeners=[listen])
    assert len(told) == 2 and told[0] >= 1 and told[1] == 2


class Row:
    """An item that no store could keep, as one of an ORM."""

    def __init__(self, key):
        self.key = key


def test_items_need_not_be_such_as_can_be_stored(store):
    workflow = StepFunction("W")
    rows = [Row(1), Row(2)]
    workflow.add_map_step("M", lambda row: row.key, items=lambda it: rows)
    execution = workflow.set_start_step("M").execute(0, store=store)
    assert execution.output == [1, 2]


def test_results_that_nobody_keeps_need_not_be_such_as_can_be_stored(store):
    workflow = StepFunction("W")
    workflow.add_map_step("M", lambda it: Thing(), keep_results=False)
    execution = workflow.set_start_step("M").execute([1, 2], store=store)
    assert execution.status is Status.COMPLETED


def test_a_dry_run_keeps_nothing(store, steps):
    from stepfunction.testing import dry_run

    workflow = StepFunction("W", store=store).add_step("A", steps.step("A"))
    dry_run(workflow.set_start_step("A"), {})
    assert store.list() == []


_undone = []


def undo_here(output):
    _undone.append(output)


def ten_times(value):
    return value * 10


@pytest.mark.parametrize("how", ["step", "task", "item"])
def test_what_was_nested_in_a_process_is_undone_after_a_death_too(store, how):
    inner = StepFunction("Inner").add_step("I", ten_times, "P", compensate=undo_here)
    tasks = {"a": ten_times, "b": ten_times}
    inner.add_parallel_step("P", tasks, next_step="M", compensate={"b": undo_here})
    inner.add_step("M", to_list, "N")
    inner.add_map_step("N", ten_times, compensate=undo_here).set_start_step("I")
    workflow = StepFunction("W")
    options = {"executor": "process", "next_step": "B"}
    if how == "step":
        workflow.add_step("A", inner, **options)
    elif how == "task":
        workflow.add_parallel_step("A", {"n": inner}, **options)
    else:
        workflow.add_map_step("A", inner, items=lambda it: [it], **options)
    trouble = [Death(), ValueError("no")]

    def fail(value):
        raise trouble.pop(0)

    workflow.add_step("B", fail).set_start_step("A")
    with pytest.raises(Death):
        workflow.execute(1, store=store, execution_id="one")
    _undone.clear()
    with pytest.raises(StepExecutionError):
        workflow.execute(1, store=store, execution_id="one")
    assert _undone == [2000, 1000, 100, 10]
    (child,) = store.load("one").children.values()
    assert len(child.compensations) == 4


def to_list(results):
    return [100, 200]


def test_one_that_was_never_run_is_let_go_of(store, steps):
    workflow = chain(steps, "A")
    execution, *_ = workflow._made(1, None, None, (), (), store, "one")
    assert [it.claimed for it in store.list()] == [True]
    workflow._latest = None
    del execution
    gc.collect()
    assert [it.claimed for it in store.list()] == [False]


@pytest.mark.parametrize("name", ["ä/ö %2F", "a'b\"c", "\x00", "😀"])
def test_names_may_be_any_text(store, name):
    workflow = StepFunction(name).add_step(name, {name: str, "b": str}, parallel=True)
    workflow.set_start_step(name).execute(1, store=store, execution_id=name)
    assert workflow.execute(1, store=store, execution_id=name).output[name] == "1"
    assert [it.id for it in store.list(workflow=name)] == [name]


def test_an_id_that_is_no_text_of_unicode_is_refused(store, steps):
    with pytest.raises(StoreError, match="cannot be written as UTF-8"):
        chain(steps, "A").execute(1, store=store, execution_id="\ud800")
    assert steps.calls == []


def test_a_deadline_that_passes_once_all_steps_have_ended_changes_nothing(steps):
    store = stores.MemoryStore()
    workflow = chain(steps, "A", "B")
    with pytest.raises(stores.Death):  # its end would be the fourth that is kept
        dying = stores.DyingStore(store, 3)
        workflow.execute(1, store=dying, execution_id="one", timeout=0.2)
    threading.Event().wait(0.2)
    assert workflow.resume("one", store=store).status is Status.COMPLETED
    assert steps.calls == ["A", "B"]


def test_what_died_before_it_was_undone_is_undone_after_its_deadline(steps):
    store = stores.MemoryStore()
    workflow = StepFunction("W")
    workflow.add_step("A", steps.step("A"), "B", compensate=steps.step("undo"))
    workflow.add_step("B", steps.step("B")).set_start_step("A")
    steps.trouble["B"] = ValueError("no")
    with pytest.raises(stores.Death):
        dying = stores.DyingStore(store, 3)
        workflow.execute(1, store=dying, execution_id="one", timeout=0.2)
    threading.Event().wait(0.2)
    with pytest.raises(StepExecutionError, match="ValueError: no") as caught:
        workflow.resume("one", store=store)
    assert steps.calls == ["A", "B", "undo"]
    assert len(caught.value.execution.compensations) == 1


def test_a_failure_that_was_forgotten_is_the_same_after_a_death(store):
    die, seen = [False, True], []

    def fail(value):
        raise ValueError(value)

    def clean(value, context):
        if len(seen) == 6 and die.pop():
            raise Death
        failure = context.failure
        assert failure.error is context["A"]
        seen.append((str(failure.error), failure.outcome, len(failure.attempts)))
        return len(seen)

    workflow = StepFunction("W", keep_history=2, max_steps=50)
    retry = RetryPolicy(2, interval=0)
    workflow.add_step("A", fail, retry=retry, on_failure="B").set_start_step("A")
    again = [(lambda count: count < 9, "B"), (lambda count: True, "C")]
    workflow.add_step("B", clean, branch=again).add_step("C", str)
    with pytest.raises(Death):
        workflow.execute("no", store=store, execution_id="one")
    execution = workflow.resume("one", store=store)
    assert seen == [("no", "FAILED", 2)] * 9
    assert execution.error is execution.context["A"]


def stopping(how):
    """Give a workflow that stops a nested one, which then undoes two steps."""
    undone, reached = [], threading.Event()

    def hang(value, context):
        reached.set()
        while not context.cancelled:
            context.sleep(10)

    def fail(value):
        reached.wait(10)
        raise ValueError("no")

    inner = StepFunction("Inner")
    inner.add_step("I", lambda it: 1, "J", compensate=undone.append)
    inner.add_step("J", lambda it: 2, "K", compensate=undone.append)
    inner.add_step("K", hang).set_start_step("I")
    bad = StepFunction("Bad").add_step("F", fail).set_start_step("F")
    workflow = StepFunction("W")
    options = {"executor": "thread", "stop_on_failure": True}
    if how == "task":
        workflow.add_parallel_step("P", {"n": inner, "b": bad}, **options)
    else:
        either = StepFunction("Either").add_step("N", inner).add_step("B", bad)
        chosen = [(lambda it: it == 0, "N"), (lambda it: True, "B")]
        either.add_step("C", lambda it: it, branch=chosen).set_start_step("C")
        workflow.add_map_step("P", either, items=lambda it: [0, 1], **options)
    return workflow.set_start_step("P"), undone


@pytest.mark.parametrize("how", ["task", "item"])
@pytest.mark.parametrize("commits", range(1, 30))
def test_what_was_being_undone_in_a_stopped_task_is_undone_to_its_end(how, commits):
    memory = MemoryStore()
    dying = DyingStore(memory, commits)
    workflow, undone = stopping(how)
    with pytest.raises(BaseException):
        workflow.execute(0, store=dying, execution_id="one")
    for thread in threading.enumerate():
        if thread.name.startswith("P"):
            thread.join(10)
    if not dying.is_dead:
        assert undone == [2, 1]
        return
    with pytest.raises(StepExecutionError):
        workflow.execute(0, store=memory, execution_id="one")
    inner = [it for it in memory.executions.values() if it.head.workflow == "Inner"]
    if any('["s","J"' in text for it in inner for text in it.rows.values()):
        assert sorted({*undone}) == [1, 2]


class SlowlyBegun(MemoryStore):
    def begin(self, *told):
        time.sleep(0.2)
        return super().begin(*told)


def test_to_store_an_execution_is_no_part_of_its_first_step(steps):
    store = SlowlyBegun()
    execution = chain(steps, "A").execute(1, store=store, execution_id="one")
    assert execution.history[0].duration < 0.2
    again = chain(steps, "A").execute(1, store=store, execution_id="one")
    assert again.started == pytest.approx(execution.started, abs=1e-5)
    (here,), (there,) = execution.history, again.history
    assert here.duration == pytest.approx(there.duration, abs=1e-5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_compensation_keeps_no_other_from_being_tried(store, steps, error):
    undone = []

    def undo_b(output, context):
        undone.append(("B", context.idempotency_key))
        if len(undone) == 2:
            raise error

    def undo(output, context):
        undone.append((output, context.idempotency_key))

    workflow = StepFunction("W").set_start_step("A")
    workflow.add_step("A", lambda it: "A", "B", compensate=undo)
    workflow.add_step("B", lambda it: "B", "C", compensate=undo_b)
    workflow.add_step("C", lambda it: "C", "D", compensate=undo)
    workflow.add_step("D", steps.step("D"))
    steps.trouble["D"] = ValueError("no")
    with pytest.raises(error):
        workflow.execute(1, store=store, execution_id="one")
    assert [name for name, _ in undone] == ["C", "B", "A"]
    with pytest.raises(StepExecutionError) as failed:
        workflow.execute(1, store=store, execution_id="one")
    assert [name for name, _ in undone] == ["C", "B", "A", "B"]
    assert undone[1] == undone[3]  # the same key: it is the same call
    assert len({key for _, key in undone}) == 3
    records = failed.value.execution.compensations
    assert [(it.step, str(it.outcome)) for it in records] == [
        ("C", "SUCCEEDED"),
        ("B", "SUCCEEDED"),
        ("A", "SUCCEEDED"),
    ]
    loaded = [it.step for it in store.load("one").compensations]
    assert loaded == ["C", "B", "A"]
