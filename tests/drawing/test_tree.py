from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest
from shared.calls import same
from shared.pictures import drawn

from stepfunction import RetryPolicy, StepFunction


def one(name="A", func=same, **arguments):
    return StepFunction("W").add_step(name, func, **arguments).set_start_step(name)


def test_branches_failures_and_tasks_stand_below_their_step():
    workflow = StepFunction("Checkout")
    branch = {"valid": "Update", "invalid": "Notify"}
    workflow.add_step("Sorry", same)
    workflow.add_step("Validate", same, branch=branch, on_failure={OSError: "Sorry"})
    workflow.add_step("Notify", same)
    tasks = {"ship": same, "pay": same}
    workflow.add_step("Update", tasks, "Notify", "Sorry", parallel=True)
    workflow.set_start_step("Validate")
    assert drawn(workflow) == dedent("""\
        Checkout
        ├─ Validate
        │  ├─ if valid → Update
        │  ├─ if invalid → Notify
        │  └─ on OSError → Sorry
        ├─ Update  (parallel)
        │  ├─ task ship
        │  ├─ task pay
        │  └─ on failure → Sorry
        ├─ Notify  (end)
        └─ Sorry  (failure step, end)
    """)


def test_nested_workflows_are_drawn_inside_their_step_and_task():
    inner = StepFunction("Inner").add_step("Deep", same).set_start_step("Deep")
    workflow = StepFunction("Outer").add_step("Sub", inner, "Both")
    workflow.add_step("Both", {"a": inner.copy(), "b": same}, parallel=True)
    workflow.set_start_step("Sub")
    assert drawn(workflow) == dedent("""\
        Outer
        ├─ Sub  (workflow Inner)
        │  └─ Deep  (end)
        └─ Both  (parallel, end)
           ├─ task a  (workflow Inner)
           │  └─ Deep  (end)
           └─ task b
    """)


def test_an_arrow_that_leads_elsewhere_than_to_the_next_line_is_written_out():
    workflow = StepFunction("Loop", max_steps=9)
    workflow.add_step("Ask", same, branch={1: "Again"}, next_step="Stop")
    workflow.add_step("Again", same, "Ask").add_step("Stop", same)
    assert drawn(workflow.set_start_step("Ask")) == dedent("""\
        Loop
        ├─ Ask
        │  ├─ if 1 → Again
        │  └─ otherwise → Stop
        ├─ Again
        │  └─ next → Ask
        └─ Stop  (end)
    """)


def test_a_step_that_others_lead_to_comes_after_all_of_them():
    workflow = StepFunction("Diamond").add_step("End", same)
    workflow.add_step("Start", same, branch={1: "Left", 2: "Right"})
    workflow.add_step("Right", same, "End").add_step("Left", same, "End")
    lines = drawn(workflow.set_start_step("Start")).splitlines()
    steps = [line[3:].split()[0] for line in lines[1:] if line[0] in "├└"]
    assert steps == ["Start", "Left", "Right", "End"]


def test_a_branch_of_a_callable_shows_where_it_may_lead():
    workflow = StepFunction("Choice")
    workflow.add_step("A", same, branch=lambda _: "B", branch_targets=["B"])
    workflow.add_step("B", same).set_start_step("A")
    assert "│  └─ maybe → B\n" in drawn(workflow)


@pytest.mark.parametrize(
    "arguments, facts",
    [
        ({"executor": "process"}, "in a process, end"),
        ({"executor": "thread", "timeout": 1.5}, "in a thread, at most 1.5 s, end"),
        ({"retry": RetryPolicy(2)}, "with retries, end"),
        ({"executor": ThreadPoolExecutor(1)}, "on ThreadPoolExecutor, end"),
        (
            {"func": {"a": same}, "parallel": True, "executor": "process"},
            "parallel, in processes, end",
        ),
    ],
)
def test_what_is_special_about_a_step_stands_behind_its_name(arguments, facts):
    assert f"└─ A  ({facts})\n" in drawn(one(**arguments))


@pytest.mark.parametrize("name", ["two\nlines", "\033[31mred", "\ud800"])
def test_a_name_never_breaks_its_line(name):
    assert drawn(one(name)) == f"W\n└─ {name!r}  (end)\n"


def test_a_chain_of_any_length_is_drawn():
    workflow = StepFunction("Chain").set_start_step("S0")
    for number in range(5000):
        workflow.add_step(f"S{number}", same, f"S{number + 1}")
    workflow.add_step("S5000", same)
    lines = drawn(workflow).splitlines()
    assert lines[1:4] == ["├─ S0", "├─ S1", "├─ S2"]
    assert len(lines) == 5002
