from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stepfunction import Context, ParallelStepExecutionError, RetryPolicy, StepFunction
from stepfunction.stores import SQLiteStore
from stepfunction.testing import (
    Mutation,
    SharedMutationError,
    detect_shared_mutation,
    mock_steps,
)

AGAIN = RetryPolicy(3, interval=0)


def load(value: Any) -> Any:
    return {"prices": [3, 1, 2]}


def cheapest(order: Any) -> Any:
    order["prices"].sort()
    return order["prices"][0]


def best(order: Any) -> Any:
    return min(order["prices"])


def tidy(order: Any) -> Any:
    order["tidy"] = True
    return order


def take_one(order: Any, context: Context) -> Any:
    taken = order["prices"].pop()
    if context.attempt < 3:
        raise OSError("away")
    return taken


def add_tax(row: Any) -> Any:
    row["total"] = row["net"] * 1.2
    return row["total"]


def double(row: Any) -> Any:
    return {"net": 2 * row["net"]}


def chain(*functions: Any, **settings: Any) -> StepFunction:
    workflow = StepFunction("Shop")
    names = [function.__name__ for function in functions]
    for name, function, follower in zip(names, functions, [*names[1:], None]):
        workflow.add_step(name, function, follower, **settings)
    return workflow.set_start_step(names[0])


def each(call: Any, **settings: Any) -> StepFunction:
    workflow = StepFunction("Shop").add_map_step("Each", call, **settings)
    return workflow.set_start_step("Each")


def found(workflow: StepFunction, value: Any = None, **settings: Any) -> list[Mutation]:
    with detect_shared_mutation() as watch:
        try:
            workflow.execute(value, **settings)
        finally:
            mutations, watch.mutations = watch.mutations, []
    return mutations


# --- steps --------------------------------------------------------------------------


def test_a_step_that_changes_what_the_history_has_is_found() -> None:
    with pytest.raises(SharedMutationError) as caught:
        with detect_shared_mutation():
            execution = chain(load, cheapest).execute()
    assert execution.output == 1
    assert execution.context["load"] == {"prices": [1, 2, 3]}  # which is why
    assert str(caught.value).splitlines()[1:-1] == [
        "  step 'cheapest' of 'Shop': input['prices'][0] was 3 and is 1; "
        "input['prices'][1] was 1 and is 2; input['prices'][2] was 2 and is 3"
    ]


def test_one_that_gives_its_input_on_is_found_too() -> None:
    (mutation,) = found(chain(load, tidy, best))
    assert mutation[:3] == ("Shop", "tidy", None)
    assert str(mutation).endswith("input['tidy'] was added: True")


def test_steps_that_change_nothing_are_no_alarm() -> None:
    assert found(chain(load, best)) == []


def test_steps_may_be_left_out() -> None:
    with detect_shared_mutation(steps=False) as watch:
        assert chain(load, tidy, best).execute().output == 1
    assert watch.mutations == []


def test_the_input_of_the_execution_is_watched() -> None:
    (mutation,) = found(chain(tidy), {})
    assert mutation.step == "tidy"


def test_named_inputs_are_watched() -> None:
    workflow = StepFunction("Shop").add_step("Load", load, "Price")
    workflow.add_step("Price", cheapest, inputs={"order": "Load"})
    (mutation,) = found(workflow.set_start_step("Load"))
    assert mutation.changes[0].way == "input['order']['prices'][0]"


def test_a_failure_step_is_watched() -> None:
    error = ValueError([3, 1])

    def fail(value: Any) -> None:
        raise error

    def handle(error: Any) -> None:
        error.args[0].sort()

    workflow = StepFunction("Shop").add_step("Fail", fail, on_failure="Handle")
    workflow.add_step("Handle", handle).set_start_step("Fail")
    (mutation,) = found(workflow)
    assert mutation.step == "Handle"


def test_a_failure_that_is_only_looked_at_is_no_alarm() -> None:
    def fail(value: Any) -> None:
        raise ValueError("no")

    def handle(error: Any) -> str:
        try:
            raise RuntimeError("again") from error
        except RuntimeError as raised:
            return f"{raised.__cause__} {error.__traceback__}"

    workflow = StepFunction("Shop").add_step("Fail", fail, on_failure="Handle")
    assert found(workflow.add_step("Handle", handle).set_start_step("Fail")) == []


@pytest.mark.parametrize("executor", [None, "thread", "inline"])
def test_steps_are_watched_wherever_they_share_their_input(executor: Any) -> None:
    workflow = chain(load, cheapest, executor=executor)
    assert [mutation.step for mutation in found(workflow)] == ["cheapest"]


def test_a_step_in_a_process_changes_a_copy() -> None:
    assert found(chain(load, cheapest, executor="process")) == []


def test_coroutines_are_watched() -> None:
    async def change(order: Any) -> Any:
        order["new"] = 1

    assert [mutation.step for mutation in found(chain(load, change))] == ["change"]


def test_nested_workflows_are_watched_at_their_own_steps() -> None:
    inner = chain(cheapest)
    for settings in ({}, {"executor": "thread"}, {"retry": AGAIN}):
        workflow = StepFunction("Outer").add_step("Load", load, "Price")
        workflow.add_sub_step_function("Price", inner, **settings)
        (mutation,) = found(workflow.set_start_step("Load"))
        assert mutation[:3] == ("Shop", "cheapest", None)


def test_a_nested_task_is_not_taken_for_its_sibling() -> None:
    tasks = {"nested": chain(cheapest), "other": best, "last": chain(best)}
    workflow = StepFunction("Outer").add_parallel_step("All", tasks)
    (mutation,) = found(workflow.set_start_step("All"), load(None))
    assert mutation[:3] == ("Shop", "cheapest", None)


def test_what_has_no_input_is_watched_too() -> None:
    assert found(chain(load)) == []
    workflow = StepFunction("Shop").add_step("Load", lambda: [1]).set_start_step("Load")
    with detect_shared_mutation():
        assert workflow.execute().output == [1]


def test_mocks_are_watched() -> None:
    workflow = chain(load, best)
    with mock_steps(workflow, {"best": cheapest}):
        assert [mutation.step for mutation in found(workflow)] == ["best"]


def test_stored_executions_are_watched_and_kept_as_ever(tmp_path: Any) -> None:
    workflow = chain(load, cheapest)
    with SQLiteStore(tmp_path / "runs.db") as store:
        assert len(found(workflow, store=store, execution_id="one")) == 1
        stored = store.load("one")
        assert [record.step for record in stored.history] == ["load", "cheapest"]
        assert stored.output == 1


def test_a_history_says_the_same_while_it_is_watched() -> None:
    workflow = StepFunction("W", max_steps=20)
    workflow.add_step("A", double, "B", retry=AGAIN).add_step("B", double, "Fail")
    workflow.add_step("Fail", best, on_failure="C").add_step("C", str)
    workflow.set_start_step("A")
    plain = workflow.execute({"net": 1})
    with detect_shared_mutation():
        watched = workflow.execute({"net": 1})
    assert [(it.step, it.outcome, len(it.attempts)) for it in watched.history] == [
        (it.step, it.outcome, len(it.attempts)) for it in plain.history
    ]
    assert (watched.status, watched.output) == (plain.status, plain.output)


# --- retries ------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "thread"])
@pytest.mark.parametrize("steps", [True, False])
def test_an_attempt_that_changes_what_the_next_is_given_is_named(
    executor: Any, steps: bool
) -> None:
    workflow = StepFunction("Shop").add_step("Load", load, "Take")
    workflow.add_step("Take", take_one, retry=AGAIN, executor=executor)
    workflow.set_start_step("Load")
    with pytest.raises(SharedMutationError) as caught:
        with detect_shared_mutation(steps=steps):
            assert workflow.execute().output == 3  # and not 2
    mutations = caught.value.mutations
    assert [it.attempt for it in mutations] == ([1, 2, 3] if steps else [1, 2])
    assert str(mutations[1]) == (
        "step 'Take' of 'Shop', attempt 2: input['prices'][1] was removed: 1"
    )


def test_an_attempt_of_a_task_is_named() -> None:
    tasks = {"take": take_one, "other": best}
    workflow = StepFunction("Shop").add_parallel_step("All", tasks, retry=AGAIN)
    with detect_shared_mutation() as watch:
        with pytest.raises(ParallelStepExecutionError):
            workflow.set_start_step("All").execute({"prices": []})
    workflow = StepFunction("Shop").add_parallel_step("All", tasks, retry=AGAIN)
    mutations = found(workflow.set_start_step("All"), {"prices": [1, 2, 3, 4]})
    assert watch.mutations == []
    assert [(it.task, it.attempt) for it in mutations] == [
        ("take", 1),
        ("take", 2),
        ("take", 3),
    ]


# --- items --------------------------------------------------------------------------


def rows() -> list[dict[str, float]]:
    return [{"net": number} for number in range(3)]


@pytest.mark.parametrize("executor", ["thread", "inline"])
def test_an_item_that_is_changed_in_place_is_found(executor: Any) -> None:
    mutations = found(each(add_tax, executor=executor), rows())
    assert [mutation.task for mutation in mutations] == [0, 1, 2]
    assert str(mutations[2]) == (
        "item 2 of step 'Each' of 'Shop': item['total'] was added: 2.4"
    )


def test_items_that_share_an_object_name_who_changed_it() -> None:
    shared: dict[str, Any] = {"seen": []}

    def look(item: Any) -> None:
        number, common = item
        if number == 1:
            common["seen"].append(number)

    (mutation,) = found(each(look), [(number, shared) for number in range(3)])
    assert mutation.task == 1
    assert str(mutation).endswith("item[1]['seen'][0] was added: 1")


def test_items_in_processes_are_copies() -> None:
    assert found(each(add_tax, executor="process"), rows()) == []


def test_items_in_a_pool_of_the_user_are_watched() -> None:
    with ThreadPoolExecutor(2) as pool:
        mutations = found(each(add_tax, executor=pool), rows())
    assert [mutation.task for mutation in mutations] == [0, 1, 2]


def test_items_are_called_one_at_a_time_while_they_are_watched() -> None:
    now: list[int] = []
    most = []

    def call(item: int) -> None:
        now.append(item)
        most.append(len(now))
        threading.Event().wait(0.001)
        now.remove(item)

    assert found(each(call), range(20)) == []
    assert max(most) == 1


def test_items_that_nobody_changes_come_to_the_same() -> None:
    with detect_shared_mutation() as watch:
        execution = each(double).execute(rows())
    assert watch.mutations == []
    assert execution.output == [{"net": 0}, {"net": 2}, {"net": 4}]


def test_attempts_at_an_item_are_named() -> None:
    workflow = each(take_one, retry=AGAIN)
    mutations = found(workflow, [{"prices": [1, 2, 3, 4]}])
    assert [(it.task, it.attempt) for it in mutations] == [(0, 1), (0, 2), (0, 3)]


# --- what is no change --------------------------------------------------------------


class Unequal:
    """Has no truth, equality or hash."""

    def __init__(self) -> None:
        self.parts = [1]

    def __bool__(self) -> bool:
        raise AssertionError("asked for its truth")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("asked for its equality")

    def __hash__(self) -> int:
        raise AssertionError("asked for its hash")

    def __len__(self) -> int:
        raise AssertionError("asked for its length")

    def __repr__(self) -> str:
        raise AssertionError("asked for its text")


def change_parts(value: Any) -> None:
    value.parts.append(2)


def test_values_are_not_asked_for_truth_equality_or_hash() -> None:
    assert found(chain(type), Unequal()) == []
    (mutation,) = found(chain(change_parts), Unequal())
    assert str(mutation).endswith("input.parts[1] was added: 2")


@pytest.mark.parametrize("value", [iter([1, 2]), io.StringIO("text"), map(str, [1])])
def test_to_read_what_is_used_up_by_it_is_no_change(value: Any) -> None:
    with detect_shared_mutation() as watch:
        chain(list).execute(value)
    assert watch.mutations == watch.unwatched == []


def test_what_an_attempt_has_used_up_is_missing_in_the_next() -> None:
    def read(lines: Any, context: Context) -> Any:
        if context.attempt == 1:
            next(lines)
            raise OSError("away")
        return list(lines)

    first, _ = found(chain(read, retry=AGAIN), iter([1, 2]))
    assert first.attempt == 1


def test_what_cannot_be_looked_into_is_told_once_for_each_step() -> None:
    with detect_shared_mutation() as watch:
        chain(dict, dict.copy).execute({"lock": threading.Lock()})
        chain(dict, dict.copy).execute({"lock": threading.Lock()})
    assert [(it.step, it.way) for it in watch.unwatched] == [
        ("dict", "input['lock']"),
        ("copy", "input['lock']"),
    ]


def test_after_the_block_and_in_other_threads_nobody_looks_on() -> None:
    done = []
    with detect_shared_mutation() as watch:
        other = threading.Thread(target=lambda: done.append(chain(tidy).execute({})))
        other.start()
        other.join(30)
    chain(tidy).execute({})
    assert len(done) == 1 and watch.mutations == []


class MadeAnew:
    """Is taken apart into what is made for that, as numpy's and pandas' values are."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def __reduce__(self) -> Any:
        axes = [len(self.numbers)]
        return MadeAnew, ([],), ("state", axes, bytes(self.numbers), {"axes": axes})

    def __setstate__(self, state: Any) -> None:
        self.numbers = list(state[2])


def test_what_is_taken_apart_anew_each_time_is_no_change() -> None:
    assert found(chain(type), MadeAnew([1, 2])) == []


def test_of_what_no_expression_leads_to_it_is_said_what_has_changed() -> None:
    (mutation,) = found(chain(lambda value: value.numbers.append(3)), MadeAnew([1]))
    assert str(mutation) == (
        "step '<lambda>' of 'Shop': input is a MadeAnew that was changed"
    )


class Deferred:
    """Loads a field when it is first read, as Django's does."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, row: Any, kind: Any) -> Any:
        vars(row)[self.name] = {"loaded": True}
        return vars(row)[self.name]


class Row:
    data = Deferred("data")

    def __init__(self) -> None:
        self.fields_cache: dict[str, Any] = {}


def test_a_field_that_is_loaded_when_it_is_read_is_no_change() -> None:
    assert found(chain(lambda row: row.data), Row()) == []


def test_a_field_that_was_loaded_and_is_set_is_a_change() -> None:
    row = Row()
    assert row.data == {"loaded": True}
    (mutation,) = found(chain(lambda row: row.data.clear()), row)
    assert str(mutation).endswith("input.data['loaded'] was removed: True")


def test_what_a_row_notes_of_what_was_read_is_no_change() -> None:
    assert found(chain(lambda row: row.fields_cache.update(order=1)), Row()) == []


class LoadedAttribute(Deferred):
    def __set__(self, row: Any, value: Any) -> None:
        vars(row)[self.name] = value


class MappedRow:
    _sa_class_manager = None
    data = LoadedAttribute("data")


def test_a_relation_that_is_loaded_when_it_is_read_is_no_change() -> None:
    assert found(chain(lambda row: row.data), MappedRow()) == []


def test_what_a_step_changes_by_way_of_its_context_is_found() -> None:
    def price(value: Any, context: Context) -> Any:
        context["load"]["prices"].sort()

    workflow = chain(load, best, price)
    (mutation,) = found(workflow)
    ways = [change.way for change in mutation.changes]
    assert ways[0] == "context['load']['prices'][0]" and len(ways) == 3


def test_an_input_that_the_context_has_too_is_told_of_once() -> None:
    def price(value: Any, context: Context) -> Any:
        context["load"]["new"] = 1
        return context["load"]

    (mutation,) = found(chain(load, price))
    assert str(mutation).endswith("input['new'] was added: 1")
