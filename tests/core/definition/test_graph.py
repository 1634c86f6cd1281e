from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
from shared.calls import double

from stepfunction import (
    DefinitionError,
    ProcessLanes,
    Status,
    StepFunction,
    StepFunctionError,
)

LEAVE_OUT = "leave out what cannot be pickled, or use executor='thread'"
WAY_OUT = (
    "a process imports functions by name: define it at the top level of a module, "
    "pip install cloudpickle, or use executor='thread'"
)

UNREACHED = (
    "; lead to it with next_step, branch or on_failure, or leave it out"
)


def work(value):
    return value


def choose(output):
    return "B"


def problems_of(workflow):
    with pytest.raises(DefinitionError) as raised:
        workflow.validate()
    return raised.value.problems


def workflow_of(arrows, start="A", **options):
    workflow = StepFunction("Orders", **options)
    for name, more in arrows.items():
        workflow.add_step(name, work, **more)
    return workflow if start is None else workflow.set_start_step(start)


def inner_of(name="Inner"):
    return StepFunction(name).add_step("In", double).set_start_step("In")


UNKNOWN_TARGETS = [
    ({"next_step": "Shipp"}, "next_step leads to 'Shipp'"),
    ({"on_failure": "Shipp"}, "on_failure leads to 'Shipp'"),
    ({"on_failure": {KeyError: "Shipp"}}, "on_failure leads to 'Shipp'"),
    ({"branch": {"yes": "Shipp"}}, "branch 'yes' leads to 'Shipp'"),
    ({"branch": {7: "Shipp"}}, "branch '7' leads to 'Shipp'"),
    ({"branch": choose, "branch_targets": ["Shipp"]}, "branch leads to 'Shipp'"),
]


@pytest.mark.parametrize("arrows, text", UNKNOWN_TARGETS)
def test_an_unknown_target_is_named_with_the_step_that_was_meant(arrows, text):
    workflow = workflow_of({"A": arrows, "Ship": {}})

    assert problems_of(workflow) == (
        f"step 'A': {text}, which is no step (did you mean 'Ship'?)",
    )


@pytest.mark.parametrize("arrows, text", UNKNOWN_TARGETS)
def test_an_unknown_target_that_resembles_no_step_is_named(arrows, text):
    assert problems_of(workflow_of({"A": arrows})) == (
        f"step 'A': {text}, which is no step",
    )


def test_a_workflow_without_a_start_step_is_refused():
    with pytest.raises(DefinitionError) as raised:
        workflow_of({"A": {}}, start=None).validate()

    assert str(raised.value) == (
        "workflow 'Orders': no start step; name the first step with set_start_step()"
    )


@pytest.mark.parametrize(
    "start, hint", [("Shipp", " (did you mean 'Ship'?)"), ("Zzz", "")]
)
def test_an_unknown_start_step_is_refused(start, hint):
    assert problems_of(workflow_of({"Ship": {}}, start=start)) == (
        f"start step {start!r} is no step{hint}",
    )


def test_a_start_step_may_be_named_before_it_is_added():
    workflow = StepFunction("Orders").set_start_step("A").add_step("A", work)

    assert workflow.execute(1).output == 1


def test_a_step_that_no_arrow_leads_to_is_refused():
    workflow = workflow_of({"A": {}, "B": {"next_step": "C"}, "C": {}})

    assert problems_of(workflow) == (
        f"step 'B' cannot be reached from 'A'{UNREACHED}",
        f"step 'C' cannot be reached from 'A'{UNREACHED}",
    )


@pytest.mark.parametrize(
    "arrows",
    [
        {"next_step": "B"},
        {"on_failure": "B"},
        {"on_failure": {KeyError: "B"}},
        {"branch": {"yes": "B"}},
        {"branch": choose, "branch_targets": ["B"]},
    ],
)
def test_every_kind_of_arrow_reaches_a_step(arrows):
    workflow_of({"A": arrows, "B": {}}).validate()


@pytest.mark.parametrize(
    "arrows, circle",
    [
        ({"A": {"next_step": "A"}}, "'A' → 'A'"),
        ({"A": {"on_failure": "A"}}, "'A' → 'A'"),
        ({"A": {"branch": {"again": "A", "done": "B"}}, "B": {}}, "'A' → 'A'"),
        (
            {"A": {"next_step": "B"}, "B": {"next_step": "A"}},
            "'A' → 'B' → 'A'",
        ),
        (
            {"A": {"next_step": "B"}, "B": {"on_failure": "A"}},
            "'A' → 'B' → 'A'",
        ),
        (
            {"A": {"next_step": "B"}, "B": {"on_failure": {KeyError: "A"}}},
            "'A' → 'B' → 'A'",
        ),
        (
            {"A": {"next_step": "B"}, "B": {"branch": choose, "branch_targets": ["A"]}},
            "'A' → 'B' → 'A'",
        ),
        (
            {
                "A": {"next_step": "B"},
                "B": {"on_failure": "C"},
                "C": {"next_step": "D"},
                "D": {"next_step": "B"},
            },
            "'B' → 'C' → 'D' → 'B'",
        ),
    ],
)
def test_a_cycle_is_refused_and_named(arrows, circle):
    assert problems_of(workflow_of(arrows)) == (
        f"steps run in a circle: {circle}; lead out of it, or allow loops with "
        "StepFunction(max_steps=…)",
    )


def test_every_cycle_is_named():
    workflow = workflow_of(
        {
            "A": {"next_step": "B", "on_failure": "A"},
            "B": {"branch": {"back": "A", "on": "C"}},
            "C": {"next_step": "D"},
            "D": {"on_failure": "C"},
        }
    )

    assert {problem.partition(";")[0] for problem in problems_of(workflow)} == {
        "steps run in a circle: 'A' → 'A'",
        "steps run in a circle: 'A' → 'B' → 'A'",
        "steps run in a circle: 'C' → 'D' → 'C'",
    }


def test_ways_that_meet_again_are_no_cycle():
    workflow_of(
        {
            "A": {"branch": {"left": "B", "right": "C"}, "on_failure": "D"},
            "B": {"next_step": "D"},
            "C": {"next_step": "D"},
            "D": {},
        }
    ).validate()


def test_a_cycle_is_allowed_under_max_steps():
    workflow_of({"A": {"on_failure": "A"}}, max_steps=10).validate()


def test_a_long_chain_is_checked():
    steps = 3_000
    arrows = {f"S{n}": {"next_step": f"S{n + 1}"} for n in range(steps)}

    workflow_of({**arrows, f"S{steps}": {}}, start="S0").validate()


def test_all_problems_are_named_at_once():
    workflow = StepFunction("Orders")
    workflow.add_step("Check", work, next_step="Pay", on_failure="Appologise")
    workflow.add_step("Pay", work, branch={"paid": "Ship", "late": "Check"})
    workflow.add_step("Shop", work)
    workflow.add_step("Apologise", lambda error: error, executor="process")
    workflow.add_step("Lost", work)

    with pytest.raises(DefinitionError) as raised:
        workflow.set_start_step("Check").compile()

    *first, last = raised.value.problems
    assert first == [
        "step 'Check': on_failure leads to 'Appologise', which is no step "
        "(did you mean 'Apologise'?)",
        "step 'Pay': branch 'paid' leads to 'Ship', which is no step "
        "(did you mean 'Shop'?)",
        f"step 'Lost' cannot be reached from 'Check'{UNREACHED}",
        "steps run in a circle: 'Check' → 'Pay' → 'Check'; lead out of it, or allow "
        "loops with StepFunction(max_steps=…)",
    ]
    assert last.startswith("step 'Apologise': test_all_problems_are_named_at_once.")
    listed = "".join(f"\n  - {problem}" for problem in raised.value.problems)
    assert str(raised.value) == f"workflow 'Orders': 5 problems{listed}"


def test_a_mistyped_target_is_reported_once_and_not_as_unreachable_steps_too():
    workflow = workflow_of(
        {"A": {"next_step": "Shipp"}, "Ship": {"next_step": "Z"}, "Z": {}}
    )

    assert problems_of(workflow) == (
        "step 'A': next_step leads to 'Shipp', which is no step (did you mean 'Ship'?)",
    )


@pytest.mark.parametrize("method", ["validate", "compile", "execute", "to_dot"])
def test_an_unsound_workflow_is_refused_wherever_it_is_used(method):
    workflow = workflow_of({"A": {"next_step": "Zzz"}})

    with pytest.raises(DefinitionError, match="^workflow 'Orders': step 'A': next_"):
        getattr(workflow, method)()


# --- nested workflows -----------------------------------------------------------


def test_the_problems_of_a_nested_workflow_are_named_with_the_others():
    inner = StepFunction("Inner").add_step("In", work, next_step="Out")
    workflow = StepFunction("Orders").add_step("A", work, next_step="Zzz")
    workflow.add_sub_step_function("B", inner).set_start_step("A")

    assert problems_of(workflow) == (
        "step 'B': nested workflow 'Inner': no start step; name the first step with "
        "set_start_step()",
        "step 'B': nested workflow 'Inner': step 'In': next_step leads to 'Out', which "
        "is no step",
        "step 'A': next_step leads to 'Zzz', which is no step",
        f"step 'B' cannot be reached from 'A'{UNREACHED}",
    )


def test_the_problems_of_a_task_that_is_a_workflow_are_named():
    inner = StepFunction("Inner").add_step("In", work)
    workflow = StepFunction("Orders").add_step("A", {"T": inner}, parallel=True)

    assert problems_of(workflow.set_start_step("A")) == (
        "step 'A': nested workflow 'Inner': no start step; name the first step with "
        "set_start_step()",
    )


@pytest.mark.parametrize("options", [{"keep_history": 2}, {}])
@pytest.mark.parametrize("executor", [None, "thread", "process"])
def test_a_nested_workflow_that_is_not_sound_has_its_own_problems_alone(
    options, executor
):
    inner = StepFunction("Inner").add_step("In", work, compensate=work)
    workflow = StepFunction("Orders", **options)
    workflow.add_step("A", inner, executor=executor).set_start_step("A")

    assert problems_of(workflow) == (
        "step 'A': nested workflow 'Inner': no start step; name the first step with "
        "set_start_step()",
    )


def test_problems_two_workflows_down_are_named_with_their_way():
    innermost = StepFunction("Innermost").add_step("X", work)
    inner = StepFunction("Inner").add_step("In", innermost).set_start_step("In")
    workflow = StepFunction("Orders").add_step("A", inner).set_start_step("A")

    assert problems_of(workflow) == (
        "step 'A': nested workflow 'Inner': step 'In': nested workflow 'Innermost': "
        "no start step; name the first step with set_start_step()",
    )


def test_a_workflow_as_its_own_step_is_refused():
    workflow = StepFunction("Orders")

    with pytest.raises(DefinitionError) as raised:
        workflow.add_step("A", workflow)

    assert str(raised.value) == ("step 'A': workflow 'Orders' would run inside itself")
    assert not workflow.steps


def test_a_workflow_as_its_own_nested_workflow_is_refused():
    workflow = StepFunction("Orders")

    with pytest.raises(DefinitionError, match="'Orders' would run inside itself$"):
        workflow.add_sub_step_function("A", workflow)


def test_a_workflow_as_a_task_of_its_own_is_refused():
    workflow = StepFunction("Orders")

    with pytest.raises(DefinitionError, match="'Orders' would run inside itself$"):
        workflow.add_step("A", {"One": work, "Two": workflow}, parallel=True)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_workflow_inside_itself_through_another_is_refused(is_parallel):
    innermost, inner, outer = map(StepFunction, ("Innermost", "Inner", "Outer"))
    outer.add_step("A", {"T": inner} if is_parallel else inner, parallel=is_parallel)
    inner.add_step("B", {"T": innermost}, parallel=True)

    with pytest.raises(DefinitionError) as raised:
        innermost.add_step("C", outer)

    assert str(raised.value) == (
        "step 'C': workflow 'Innermost' would run inside itself"
    )


def test_running_inside_itself_is_named_along_with_the_other_mistakes():
    workflow = StepFunction("Orders")

    with pytest.raises(DefinitionError) as raised:
        workflow.add_step("A", workflow, next_step=3)

    assert set(raised.value.problems) == {
        "next_step is the name of a step, not 3",
        "workflow 'Orders' would run inside itself",
    }


def test_one_workflow_may_be_nested_in_several_steps():
    inner = inner_of()
    workflow = StepFunction("Orders").add_step("A", inner, next_step="B")
    workflow.add_step("B", {"One": inner, "Two": inner}, parallel=True)

    assert workflow.set_start_step("A").execute(1).output == {"One": 4, "Two": 4}


# --- processes ------------------------------------------------------------------


def nested_function():
    def inside(value):
        return value

    return inside


class Unsendable:
    def __call__(self, value):
        return value

    def __reduce__(self):
        raise TypeError("it holds a socket")


@pytest.mark.parametrize(
    "function, name",
    [
        (lambda value: value, "<lambda>"),
        (nested_function(), "nested_function.inside"),
        (partial(nested_function()), "nested_function.inside"),
        (Unsendable(), "Unsendable"),
    ],
    ids=["lambda", "nested function", "partial", "object"],
)
def test_a_function_that_a_process_cannot_import_is_refused(function, name):
    workflow = StepFunction("Orders").add_step("A", function, executor="process")

    (problem,) = problems_of(workflow.set_start_step("A"))

    assert problem.startswith(f"step 'A': {name} cannot be sent to a process (")
    assert problem.endswith(f"); {LEAVE_OUT if name == 'Unsendable' else WAY_OUT}")


def test_the_refusal_says_why_the_function_cannot_be_sent():
    workflow = StepFunction("Orders").add_step("A", Unsendable(), executor="process")

    assert problems_of(workflow.set_start_step("A")) == (
        "step 'A': Unsendable cannot be sent to a process (it holds a socket); "
        f"{LEAVE_OUT}",
    )


def test_params_that_cannot_be_sent_are_refused():
    workflow = StepFunction("Orders").add_step(
        "A", pow, params={"exp": lambda: 2}, executor="process"
    )

    (problem,) = problems_of(workflow.set_start_step("A"))

    assert problem.startswith("step 'A': pow cannot be sent to a process (")


def test_every_task_that_cannot_be_sent_is_named():
    workflow = StepFunction("Orders").add_step(
        "A",
        {"One": Unsendable(), "Two": work, "Three": Unsendable()},
        parallel=True,
        executor="process",
    )

    reason = f"Unsendable cannot be sent to a process (it holds a socket); {LEAVE_OUT}"
    assert problems_of(workflow.set_start_step("A")) == (
        f"step 'A', task 'One': {reason}",
        f"step 'A', task 'Three': {reason}",
    )


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_function_inside_a_nested_workflow_must_be_sendable_too(is_parallel):
    inner = StepFunction("Inner").add_step("In", Unsendable()).set_start_step("In")
    workflow = StepFunction("Orders").add_step(
        "A",
        {"T": inner} if is_parallel else inner,
        parallel=is_parallel,
        executor="process",
    )

    where = "step 'A', task 'T'" if is_parallel else "step 'A'"
    assert problems_of(workflow.set_start_step("A")) == (
        f"{where}: Unsendable cannot be sent to a process (it holds a socket); "
        f"{LEAVE_OUT}",
    )


@pytest.mark.parametrize("make", [ProcessPoolExecutor, ProcessLanes])
def test_a_process_pool_of_the_callers_needs_sendable_functions_too(make):
    with make(max_workers=1) as pool:
        workflow = StepFunction("Orders").add_step("A", Unsendable(), executor=pool)

        assert problems_of(workflow.set_start_step("A")) == (
            "step 'A': Unsendable cannot be sent to a process (it holds a socket); "
            f"{LEAVE_OUT}",
        )


def test_a_run_in_processes_refuses_such_a_function_before_anything_starts():
    calls = []
    workflow = StepFunction("Orders").add_step("A", calls.append, next_step="B")
    workflow.add_step("B", {"T": lambda value: value}, parallel=True)

    with pytest.raises(StepFunctionError, match="use executor='thread'"):
        workflow.set_start_step("A").execute(1, executor="process")

    assert calls == []


@pytest.mark.parametrize("executor", ["thread", "inline"])
def test_a_lambda_may_run_in_this_process(executor):
    workflow = StepFunction("Orders").add_step("A", lambda x: x + 1, executor=executor)

    assert workflow.set_start_step("A").execute(1).output == 2


CONSOLE = textwrap.dedent("""
    from stepfunction import StepFunction

    def work(value):
        return value

    workflow = StepFunction("Orders").add_step("A", work, executor="process")
    try:
        workflow.set_start_step("A").validate()
    except ValueError as error:
        print(ascii(str(error)))
    """)


@pytest.mark.parametrize(
    "arguments, stdin", [(["-c", CONSOLE], ""), (["-"], CONSOLE)], ids=["-c", "stdin"]
)
def test_a_function_of_a_console_is_refused(arguments, stdin):
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == ascii(
        "workflow 'Orders': step 'A': work cannot be sent to a process (work was "
        "defined in a console, a notebook, by python -c, on standard input or in a "
        "package's __main__); "
        f"{WAY_OUT}"
    )


# --- the builder and its graphs -------------------------------------------------


def test_a_step_added_later_does_not_reach_a_compiled_graph():
    workflow = workflow_of({"A": {"on_failure": "B"}, "B": {}})
    graph = workflow.compile()

    workflow.add_step("C", work)

    assert list(graph.steps) == ["A", "B"]


def test_a_step_added_to_a_nested_builder_does_not_reach_a_compiled_graph():
    inner = inner_of()
    graph = StepFunction("Orders").add_step("A", inner).set_start_step("A").compile()

    inner.add_step("Later", work)

    assert list(graph.steps["A"].action.steps) == ["In"]


def test_the_start_step_of_a_compiled_graph_stays():
    workflow = workflow_of({"A": {"next_step": "B"}, "B": {}})
    graph = workflow.compile()

    workflow.set_start_step("B")

    assert graph.start == "A"


def test_mappings_given_to_add_step_may_be_changed_afterwards():
    tasks, rates = {"One": pow}, {"exp": 3}
    branch, on_failure = {8: "B"}, {KeyError: "B"}
    workflow = StepFunction("Orders")
    workflow.add_step("A", tasks, "C", on_failure, parallel=True, params=rates)
    workflow.add_step("C", lambda results: results["One"], branch=branch)
    workflow.add_step("B", work).set_start_step("A")

    for given in (tasks, rates, branch, on_failure):
        given.clear()

    assert workflow.execute(2).output == 8


def test_the_steps_of_a_graph_are_read_only():
    graph = workflow_of({"A": {}}).compile()

    with pytest.raises(TypeError):
        graph.steps["B"] = graph.steps["A"]


@pytest.mark.parametrize("attribute", ["name", "start", "steps", "max_steps"])
def test_a_graph_is_frozen(attribute):
    graph = workflow_of({"A": {}}).compile()

    with pytest.raises(AttributeError):
        setattr(graph, attribute, None)


@pytest.mark.parametrize("attribute", ["name", "action", "next_step", "branch"])
def test_a_step_of_a_graph_is_frozen(attribute):
    step = workflow_of({"A": {}}).compile().steps["A"]

    with pytest.raises(AttributeError):
        setattr(step, attribute, None)


def test_the_steps_of_a_builder_are_read_only():
    workflow = workflow_of({"A": {}})

    with pytest.raises(TypeError):
        workflow.steps["B"] = workflow.steps["A"]


def test_the_steps_of_a_builder_show_what_is_added_later():
    workflow = workflow_of({"A": {}})
    steps = workflow.steps

    workflow.add_step("B", work)

    assert list(steps) == ["A", "B"]


def test_compile_gives_the_same_graph_until_something_changes():
    workflow = StepFunction("Orders").add_step("A", inner_of()).set_start_step("A")

    assert workflow.compile() is workflow.compile()


def test_an_execution_does_not_compile_anew():
    workflow = workflow_of({"A": {}})
    graph = workflow.compile()

    workflow.execute(1)

    assert workflow.compile() is graph


def test_a_step_added_after_compiling_is_in_the_next_graph():
    workflow = workflow_of({"A": {}})
    workflow.compile()

    workflow.add_step("Before", double, next_step="A").set_start_step("Before")

    assert list(workflow.compile().steps) == ["A", "Before"]
    assert workflow.execute(1).output == 2


def test_another_start_step_after_compiling_is_that_of_the_next_graph():
    arrows = {"A": {"next_step": "B"}, "B": {"next_step": "A"}}
    workflow = workflow_of(arrows, max_steps=5)
    workflow.compile()

    workflow.set_start_step("B")

    assert workflow.compile().start == "B"


def test_a_refused_step_changes_no_compiled_graph():
    workflow = workflow_of({"A": {}})
    graph = workflow.compile()

    with pytest.raises(DefinitionError):
        workflow.add_step("A", work)

    assert workflow.compile() is graph


def nested_twice(is_parallel):
    innermost = inner_of("Innermost")
    inner = StepFunction("Inner").add_step("B", innermost).set_start_step("B")
    outer = StepFunction("Outer").set_start_step("A")
    outer.add_step("A", {"T": inner} if is_parallel else inner, parallel=is_parallel)
    return outer, innermost


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_step_added_to_a_nested_builder_is_seen_by_the_next_execution(is_parallel):
    outer, innermost = nested_twice(is_parallel)
    assert outer.execute(1).output == ({"T": 2} if is_parallel else 2)

    innermost.add_step("First", double, next_step="In").set_start_step("First")

    assert outer.execute(1).output == ({"T": 4} if is_parallel else 4)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_nested_builder_that_has_become_unsound_is_named_with_its_way(is_parallel):
    outer, innermost = nested_twice(is_parallel)
    outer.compile()

    innermost.add_step("Lost", work)

    assert problems_of(outer) == (
        "step 'A': nested workflow 'Inner': step 'B': nested workflow 'Innermost': "
        f"step 'Lost' cannot be reached from 'In'{UNREACHED}",
    )


def test_a_builder_that_was_unsound_can_be_completed():
    workflow = workflow_of({"A": {"next_step": "B"}})
    assert problems_of(workflow) == (
        "step 'A': next_step leads to 'B', which is no step",
    )

    workflow.add_step("B", double)

    assert workflow.execute(2).output == 4


def by_pickle(workflow):
    return pickle.loads(pickle.dumps(workflow))


COPIES = pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, by_pickle])


@COPIES
def test_a_copy_of_a_builder_is_the_same_workflow(copied):
    workflow = StepFunction("Orders", max_steps=7).set_start_step("A")
    workflow.add_step("A", inner_of(), branch={4: "B"}, on_failure={KeyError: "C"})
    workflow.add_step("B", double).add_step("C", work)

    twin = copied(workflow)

    assert twin.name == "Orders"
    assert twin.to_dot() == workflow.to_dot()
    assert twin.compile().max_steps == 7
    assert twin.execute(2).output == 8


@COPIES
def test_a_copy_of_a_builder_does_not_carry_its_last_execution(copied):
    workflow = workflow_of({"A": {}})
    workflow.execute(1)

    twin = copied(workflow)

    assert (twin.status, twin.context, twin.last_result) == (
        Status.INITIALIZED,
        {},
        None,
    )
    assert workflow.last_result == 1


@COPIES
def test_a_builder_is_copied_though_its_last_execution_could_not_be(copied):
    workflow = workflow_of({"A": {}})
    workflow.execute(Unsendable())

    assert copied(workflow).execute(1).output == 1


@COPIES
def test_a_step_added_to_a_copy_is_not_added_to_the_original(copied):
    workflow = workflow_of({"A": {}})

    copied(workflow).add_step("B", work)

    assert list(workflow.steps) == ["A"]


def test_what_a_step_holds_cannot_be_changed():
    workflow = StepFunction("Orders")
    workflow.add_step("A", {"one": str}, "B", parallel=True, params={"object": 1})
    workflow.add_step("B", str, branch={"1": "C"}).add_step("C", str)
    fan_out = workflow.steps["A"].action
    with pytest.raises(TypeError):
        fan_out.tasks["two"] = str
    with pytest.raises(TypeError):
        fan_out.tasks["one"].params["object"] = 2
    with pytest.raises(TypeError):
        workflow.steps["B"].branch.table["2"] = ("2", "C")
