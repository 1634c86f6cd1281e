from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

from stepfunction import Execution, StepFunction
from stepfunction.testing import SharedMutationError, detect_shared_mutation


class Basket:
    def __init__(self) -> None:
        self.items = ["apple"]
        self.nan = float("nan")

    @cached_property
    def size(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        raise AssertionError("nobody is to ask")


@dataclass(slots=True)
class Slotted:
    total: int = 0


def shared(task: Callable[[Any], object], value: Any, **settings: Any) -> Execution:
    workflow = StepFunction("Shop")
    tasks = {"before": look_at, "task": task, "after": look_at}
    workflow.add_step("Price", tasks, parallel=True, **settings)
    return workflow.set_start_step("Price").execute(value)


def look_at(value: Any) -> str:
    return type(value).__name__


def set_item(value: Any) -> None:
    value["rates"]["EUR"] = 2


def add_item(value: Any) -> None:
    value["new"] = 3


def pop_item(value: Any) -> None:
    del value["same"]


def extend(value: Any) -> None:
    value["basket"].items += ["pear"]


def change_type(value: Any) -> None:
    value["same"] = None


def set_slot(value: Any) -> None:
    value["slotted"].total += 1


def add_to_set(value: Any) -> None:
    value["set"].add(3)


def append(value: Any) -> None:
    value["deque"].append(9)


def set_flat(value: Any) -> None:
    value["flat"][0] = True


def close_circle(value: Any) -> None:
    value["basket"].itself = value


def values() -> dict[str, Any]:
    value: dict[str, Any] = {
        "rates": {"EUR": 1},
        "basket": Basket(),
        "slotted": Slotted(),
        "set": {1, 2},
        "deque": deque([1]),
        "flat": [1, "two", float("nan")],
    }
    value["same"] = value["rates"]
    value["itself"] = value
    return value


@pytest.mark.parametrize("executor", ["thread", "inline"])
@pytest.mark.parametrize(
    ("task", "change"),
    [
        (set_item, "input['rates']['EUR'] was 1 and is 2"),
        (add_item, "input['new'] was added: 3"),
        (pop_item, "input['same'] was removed: the same as input['rates']"),
        (extend, "input['basket'].items[1] was added: 'pear'"),
        (change_type, "input['same'] was the same as input['rates'] and is None"),
        (set_slot, "input['slotted'].total was 0 and is 1"),
        (add_to_set, "input['set']{…} was added: 3"),
        (append, "input['deque'][1] was added: 9"),
        (set_flat, "input['flat'][0] was 1 and is True"),
        (close_circle, "input['basket'].itself was added: the same as input"),
    ],
)
def test_the_task_that_changed_the_input_is_named_with_what_it_changed(
    task: Any, change: str, executor: Any
) -> None:
    with pytest.raises(SharedMutationError) as caught:
        with detect_shared_mutation():
            shared(task, values(), executor=executor)
    assert str(caught.value).splitlines() == [
        "an input was changed in place, which others have too: other tasks, the next "
        "attempt, the history",
        f"  task 'task' of step 'Price' of 'Shop': {change}",
        "let a call change a copy, or return what is new",
    ]
    (mutation,) = caught.value.mutations
    assert mutation[:3] == ("Shop", "Price", "task")
    assert isinstance(caught.value, AssertionError)


def change_and_fail(value: Any) -> None:
    value["new"] = 3
    raise ValueError("failed")


def test_a_task_that_fails_after_a_change_is_found_too() -> None:
    with pytest.raises(SharedMutationError, match=r"input\['new'\] was added"):
        with detect_shared_mutation():
            shared(change_and_fail, {})


def read_all(value: Any) -> Any:
    basket = value["basket"]
    return basket.size, list(basket.items), value["slotted"].total, sorted(value["set"])


def reorder(value: Any) -> None:
    value["rates"] = value.pop("rates")
    value["same"] = value.pop("same")


def replace_by_equal(value: Any) -> None:
    value["rates"]["EUR"] = int("1")
    value["set"].discard(1)
    value["set"].add(1)


@pytest.mark.parametrize("task", [read_all, replace_by_equal, reorder])
def test_tasks_that_only_read_are_no_alarm(task: Any) -> None:
    with detect_shared_mutation() as watch:
        assert shared(task, values()).output.failed == {}
    assert watch.mutations == [] and watch.unwatched == []


def test_a_task_of_a_nested_workflow_is_found_where_it_is() -> None:
    inner = StepFunction("Inner")
    inner.add_step("Both", {"a": add_item, "b": look_at}, parallel=True)
    inner.set_start_step("Both")
    with pytest.raises(SharedMutationError) as caught:
        with detect_shared_mutation():
            shared(inner.execute, {})  # in a task's thread
    where = [mutation[:3] for mutation in caught.value.mutations]
    assert where == [("Inner", "Both", "a"), ("Shop", "Price", "task")]
    assert str(caught.value).startswith("2 inputs were changed in place, ")


def test_processes_copy_their_input_and_are_not_watched() -> None:
    with detect_shared_mutation() as watch:
        output = shared(add_item, {"a": 1}, executor="process").output
    assert output == {"before": "dict", "task": None, "after": "dict"}
    assert watch.mutations == []


def test_one_task_alone_is_as_a_step() -> None:
    workflow = StepFunction("W").add_step("One", {"a": add_item}, parallel=True)
    workflow.set_start_step("One")
    with detect_shared_mutation(steps=False) as watch:
        workflow.execute({})
    assert watch.mutations == []
    with pytest.raises(SharedMutationError, match="task 'a' of step 'One' of 'W': "):
        with detect_shared_mutation():
            workflow.execute({})


def test_an_input_is_taken_apart_as_pickle_was_told_to() -> None:
    with detect_shared_mutation() as watch:
        shared(look_at, {"pattern": re.compile("a+")})
    assert watch.unwatched == []


def test_what_cannot_be_looked_into_is_told(caplog: Any) -> None:
    lock = threading.Lock()
    with detect_shared_mutation() as watch:
        shared(look_at, {"lock": lock, "rest": [1]})
        shared(look_at, {"lock": lock, "rest": [1]})
    (unwatched,) = watch.unwatched
    assert unwatched[:3] == ("Shop", "Price", "input['lock']")
    assert "input['lock'] of step 'Price' of 'Shop' was not watched: TypeError: " in (
        caplog.text
    )


def put_lock(value: Any) -> None:
    value["rest"] = threading.Lock()


def test_what_can_no_longer_be_looked_into_has_changed() -> None:
    with pytest.raises(SharedMutationError, match="was 3 and is what cannot be looked"):
        with detect_shared_mutation():
            shared(put_lock, {"rest": 3})
    with pytest.raises(SharedMutationError, match=r"input\['rest'\]"):
        with detect_shared_mutation():
            shared(put_lock, {"rest": threading.Lock()})


def test_a_thread_pool_of_the_user_is_watched() -> None:
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(SharedMutationError, match=r"input\['new'\] was added"):
            with detect_shared_mutation():
                shared(add_item, {}, executor=pool)


def test_what_is_beside_it_is_watched_all_the_same() -> None:
    with pytest.raises(SharedMutationError, match=r"input\['new'\] was added"):
        with detect_shared_mutation():
            shared(add_item, {"lock": threading.Lock()})


def test_an_error_of_the_block_is_left_and_has_the_mutation_as_a_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        with detect_shared_mutation():
            shared(add_item, {})
            1 / 0
    assert "input['new'] was added: 3" in caught.value.__notes__[0]


def test_after_the_block_nobody_looks_on() -> None:
    with detect_shared_mutation() as watch:
        pass
    shared(add_item, {})
    assert watch.mutations == []


def test_tasks_run_one_at_a_time_while_they_are_watched() -> None:
    at_once = Busy()
    workflow = StepFunction("W")
    tasks = {str(number): at_once for number in range(6)}
    workflow.add_step("All", tasks, parallel=True).set_start_step("All")
    with detect_shared_mutation():
        workflow.execute()
    assert at_once.most == 1


class Busy:
    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        threading.Event().wait(0.002)
        self.now -= 1


def test_both_of_two_nested_watches_see_a_change() -> None:
    with pytest.raises(SharedMutationError):
        with detect_shared_mutation() as outer:
            with pytest.raises(SharedMutationError):
                with detect_shared_mutation():
                    shared(add_item, {})
    assert len(outer.mutations) == 1


def test_many_changes_are_counted() -> None:
    with pytest.raises(SharedMutationError, match="and 5 more changes"):
        with detect_shared_mutation():
            shared(lambda value: value.update(dict.fromkeys(range(10))), {})
