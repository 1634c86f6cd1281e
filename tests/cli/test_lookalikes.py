from __future__ import annotations

import pytest
from shared.calls import same

from stepfunction import StepFunction
from stepfunction.cli.lookalikes import lookalikes


def contact(value):
    return value


def contract(value):
    return value


def chain(*steps):
    """Give a workflow of steps, each a name or a name and its function."""
    named = [(step, same) if isinstance(step, str) else step for step in steps]
    workflow = StepFunction("W").set_start_step(named[0][0])
    for number, (name, function) in enumerate(named):
        # Something between any two, for an arrow from one to the other is intended.
        workflow.add_step(name, function, f"{number}")
        workflow.add_step(f"{number}", same, next(iter(named[number + 1 :]), [None])[0])
    return workflow


def choice(**branch):
    workflow = StepFunction("W").add_step("Ask", same, branch=branch)
    for target in {*branch.values()}:
        workflow.add_step(target, same)
    return workflow.set_start_step("Ask")


def found(workflow):
    return list(lookalikes(workflow.compile()))


@pytest.mark.parametrize(
    "first, second",
    [
        ("Update_Records", "UpdateRecords"),
        ("notify", "Notify"),
        ("Ship order", "ship-order"),
    ],
)
def test_names_that_differ_in_capitals_or_separators_are_reported(first, second):
    assert found(chain((first, contact), "Between", (second, contract))) == [
        f"steps {first!r} and {second!r} differ only in capitals or separators; "
        "rename one, or leave it out if it is a typing mistake"
    ]


@pytest.mark.parametrize(
    "first, second",
    [
        ("Notify", "Nottify"),
        ("Send_Notification", "Send_Notifcation"),
        ("Validate", "Valdiate"),
        ("CONFIRM", "CONFERM"),
        ("sendConfirmation", "sendConfirmaton"),
    ],
)
def test_names_that_differ_in_a_letter_and_do_the_same_are_reported(first, second):
    assert found(chain(first, second)) == [
        f"steps {first!r} and {second!r} differ in a letter and call the same; "
        "rename one, or leave it out if it is a typing mistake"
    ]


@pytest.mark.parametrize(
    "first, second",
    [
        ("step1", "step2"),
        ("Step_10", "Step_11"),
        ("Fetch_Item", "Fetch_Items"),
        ("Fetch_Item_Now", "Fetch_Items_Now"),
        ("Part_A", "Part_B"),
        ("PartAList", "PartBList"),
        ("FetchItemNow", "FetchItemsNow"),
        ("Bind", "Find"),
        ("Accept", "Except"),
        ("Load", "Lead"),
        ("Import", "Export"),
        ("Validate", "Validated"),
        ("Lock", "Unlock"),
        ("注文", "注意"),
        ("!", "?"),
    ],
)
def test_names_that_are_alike_on_purpose_are_left_alone(first, second):
    assert found(chain(first, second)) == []


def test_steps_that_call_different_functions_are_left_alone():
    steps = [("Send_Contact", contact), ("Send_Contract", contract)]
    assert found(chain(*steps)) == []


def test_steps_that_one_step_leads_to_are_left_alone():
    assert found(choice(a="Send_Contact", b="Send_Contract")) == []


def test_steps_of_which_one_leads_to_the_other_are_left_alone():
    workflow = StepFunction("W").add_step("Contact", same, "Contract")
    assert found(workflow.add_step("Contract", same).set_start_step("Contact")) == []


@pytest.mark.parametrize("other", ["acceptd", "Accepted", "acecpted"])
def test_keys_of_a_branch_that_look_like_typos_are_reported(other):
    assert found(choice(**{"accepted": "Ship", other: "Tell"})) == [
        f"step 'Ask': branch leads from 'accepted' to 'Ship' but from {other!r} to "
        "'Tell'; change one, or leave it out if it is a typing mistake"
    ]


def test_a_text_and_a_number_that_look_the_same_are_reported():
    workflow = StepFunction("W").add_step("Ask", same, branch={1: "Ship", "1": "Tell"})
    workflow.add_step("Ship", same).add_step("Tell", same).set_start_step("Ask")
    (problem,) = found(workflow)
    assert "branch leads from 1 to 'Ship' but from '1' to 'Tell'" in problem


@pytest.mark.parametrize(
    "branch",
    [
        {"yes": "Ship", "Yes": "Ship"},
        {"canceled": "Tell", "cancelled": "Tell"},
        {"valid": "Ship", "invalid": "Tell"},
        {"contact": "Send_Contact", "contract": "Send_Contract"},
        {"order1": "Ship", "order2": "Tell"},
    ],
)
def test_keys_that_are_alike_on_purpose_are_left_alone(branch):
    assert found(choice(**branch)) == []


def test_nested_workflows_are_looked_at_too():
    inner = chain("Notify", "Nottify")
    workflow = StepFunction("Outer").add_step("Sub", inner, "Both")
    workflow.add_step("Both", {"task": inner}, parallel=True).set_start_step("Sub")
    first, second = found(workflow)
    assert first.startswith("step 'Sub': nested workflow 'W': steps 'Notify' and")
    assert second.startswith("step 'Both', task 'task': nested workflow 'W': steps ")


def test_many_steps_are_compared():
    names = [f"Import_{number}_of_the_records" for number in range(2_000)]
    (problem,) = found(chain(*names, "Import_5_of_the_recrods"))
    assert "'Import_5_of_the_records' and 'Import_5_of_the_recrods'" in problem


def waits(first, second):
    workflow = StepFunction("W").set_start_step("Breather")
    workflow.add_wait_step("Breather", seconds=first, next_step="Between")
    workflow.add_step("Between", same, "Breether")
    return workflow.add_wait_step("Breether", seconds=second)


def test_waits_of_the_same_time_may_be_one_step():
    assert len(found(waits(1, 1))) == 1


def test_waits_of_other_times_are_two_steps():
    assert found(waits(1, 2)) == []


@pytest.mark.parametrize(("key", "count"), [("rows", 1), ("columns", 0)])
def test_map_steps_of_other_items_are_two_steps(key, count):
    workflow = StepFunction("W").set_start_step("Resize_All")
    workflow.add_map_step("Resize_All", contact, "rows", next_step="Between")
    workflow.add_step("Between", same, "Resise_All")
    workflow.add_map_step("Resise_All", contact, key)
    assert len([it for it in found(workflow) if "differ in a letter" in it]) == count
