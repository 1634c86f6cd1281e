from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from shared.definitions import everything, problems_of

from stepfunction import DefinitionError, StepFunction


def passes(value):
    return value


def take(it):
    return it


def taking(source, **steps):
    workflow = StepFunction("w").set_start_step("Start")
    for name, arrows in steps.items():
        workflow.add_step(name, passes, **arrows)
    return workflow.add_step("Take", take, inputs={"it": source})


def test_a_step_that_does_not_exist_is_told_with_the_one_that_was_meant():
    workflow = taking("Sart", Start={"next_step": "Take"})
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] names 'Sart', which is no step (did you mean "
        "'Start'?)"
    ]


def test_a_step_cannot_take_its_own_output():
    workflow = taking("Take", Start={"next_step": "Take"})
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] names the step itself; name an earlier one"
    ]


def test_the_first_step_cannot_take_an_output():
    workflow = StepFunction("w").set_start_step("Take")
    workflow.add_step("Take", take, next_step="Later", inputs={"it": "Later"})
    workflow.add_step("Later", passes)
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] takes the output of 'Later', but an execution "
        "begins here; let a step that gives it come first"
    ]


def test_a_path_around_a_source_is_shown():
    workflow = taking(
        "Fetch_Rate",
        Start={"branch": {1: "Fetch_Rate"}, "next_step": "Cache"},
        Fetch_Rate={"next_step": "Take"},
        Cache={"next_step": "Take"},
    )
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] takes the output of 'Fetch_Rate', but 'Start' → "
        "'Cache' → 'Take' leads here without it; lead every path through "
        "'Fetch_Rate', or name a step that is on all of them"
    ]


def test_a_path_on_which_the_source_failed_is_shown():
    workflow = taking(
        "Fetch_Rate",
        Start={"next_step": "Fetch_Rate"},
        Fetch_Rate={"next_step": "End", "on_failure": "Take"},
        End={},
    )
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] takes the output of 'Fetch_Rate', but 'Start' → "
        "'Fetch_Rate' (failed) → 'Take' leads here without it; a step that failed has "
        "no output"
    ]


def test_a_path_names_every_step_that_has_to_fail_for_it():
    workflow = taking(
        "Fetch_Rate",
        Start={"next_step": "Fetch_Rate", "on_failure": "Take"},
        Fetch_Rate={"next_step": "Take"},
    )
    (problem,) = problems_of(workflow)
    assert "but 'Start' (failed) → 'Take' leads here without it; lead" in problem


def test_a_source_whose_failure_leads_elsewhere_is_sound():
    workflow = taking(
        "Start",
        Start={"next_step": "Next", "on_failure": "Sorry"},
        Next={"next_step": "Take"},
        Sorry={},
    )
    assert workflow.execute(3).output == 3


def test_a_source_before_two_ways_that_meet_again_is_sound():
    workflow = taking(
        "Start",
        Start={"branch": {1: "Left"}, "next_step": "Right"},
        Left={"next_step": "Take"},
        Right={"next_step": "Take"},
    )
    assert workflow.execute(3).output == 3


def test_the_failure_step_of_the_workflow_counts_as_each_steps_own():
    workflow = StepFunction("w", on_failure="Sorry").set_start_step("Parse")
    workflow.add_step("Parse", passes, next_step="Price")
    workflow.add_step("Price", passes)
    workflow.add_step("Sorry", take, inputs={"it": "Parse"})
    assert problems_of(workflow) == [
        "step 'Sorry': inputs['it'] takes the output of 'Parse', but 'Parse' "
        "(failed) → 'Sorry' leads here without it; a step that failed has no output"
    ]


def test_of_a_long_path_the_ends_and_the_failure_are_shown():
    names = [f"s{number}" for number in range(40)]
    workflow = StepFunction("w").set_start_step("s0")
    for name, follower in zip(names, [*names[1:], "Take"]):
        on_failure = "a" if name == "s20" else None
        workflow.add_step(name, passes, follower, on_failure)
    sorry = [*"abcdefgh"]
    for name, follower in zip(sorry, [*sorry[1:], "Take"]):
        workflow.add_step(name, passes, follower)
    workflow.add_step("Take", take, inputs={"it": "s20"})
    (problem,) = problems_of(workflow)
    shown = "'s0' → 's1' → … → 's20' (failed) → 'a' → … → 'g' → 'h' → 'Take' leads"
    assert f"but {shown} here" in problem


def test_of_very_many_steps_without_their_inputs_the_first_have_a_path_shown():
    names = [f"s{number}" for number in range(150)]
    workflow = StepFunction("w").set_start_step("s0")
    for place, name in enumerate(names[:-1]):
        inputs = {"it": names[place + 1]} if place else None
        func = everything if place else passes
        workflow.add_step(name, func, names[place + 1], inputs=inputs)
    workflow.add_step(names[-1], passes)
    problems = problems_of(workflow)
    assert len(problems) == 148
    assert sum("leads here without it" in text for text in problems) == 100
    assert problems[-1].endswith("name a step that has succeeded on all of them")


def test_a_mistyped_arrow_is_no_second_problem():
    workflow = StepFunction("w").set_start_step("Parse")
    workflow.add_step("Parse", passes, next_step="Fecth")
    workflow.add_step("Fetch", passes, next_step="Take")
    workflow.add_step("Take", take, inputs={"it": "Fetch"})
    assert len(problems_of(workflow)) == 1


def test_paths_are_checked_behind_a_mistyped_arrow_too():
    workflow = taking(
        "Fetch_Rate",
        Start={"branch": {1: "Fetch_Rate"}, "next_step": "Cahce"},
        Fetch_Rate={"next_step": "Take"},
        Cache={"next_step": "Take"},
    )
    mistyped, without = problems_of(workflow)
    assert "leads to 'Cahce', which is no step (did you mean 'Cache'?)" in mistyped
    assert "but 'Start' → 'Cache' → 'Take' leads here without it" in without


def test_a_source_that_cannot_be_reached_is_no_second_problem():
    workflow = StepFunction("w").set_start_step("Parse")
    workflow.add_step("Parse", passes, next_step="Take")
    workflow.add_step("Alone", passes, next_step="Take")
    workflow.add_step("Take", take, inputs={"it": "Alone"})
    (problem,) = problems_of(workflow)
    assert problem.startswith("step 'Alone' cannot be reached")


def test_names_are_checked_without_a_start_step_too():
    workflow = StepFunction("w")
    workflow.add_step("Take", take, inputs={"it": "Prase"})
    workflow.add_step("Parse", passes, next_step="Take")
    assert [text.split(";")[0] for text in problems_of(workflow)] == [
        "no start step",
        "step 'Take': inputs['it'] names 'Prase', which is no step (did you mean "
        "'Parse'?)",
    ]


def test_a_source_that_is_only_passed_in_the_second_round_is_refused():
    workflow = StepFunction("w", max_steps=20).set_start_step("A")
    workflow.add_step("A", passes, next_step="Take")
    workflow.add_step("Take", take, inputs={"it": "Later"}, branch={1: "Later"})
    workflow.add_step("Later", passes, next_step="A")
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] takes the output of 'Later', but 'A' → 'Take' "
        "leads here without it; lead every path through 'Later', or name a step that "
        "is on all of them"
    ]


def test_a_source_that_may_fail_in_a_later_round_is_refused():
    workflow = StepFunction("w", max_steps=20).set_start_step("Fetch")
    workflow.add_step("Fetch", passes, next_step="Again", on_failure="Take")
    workflow.add_step("Again", passes, branch={1: "Fetch"}, next_step="Take")
    workflow.add_step("Take", take, inputs={"it": "Fetch"})
    assert problems_of(workflow) == [
        "step 'Take': inputs['it'] takes the output of 'Fetch', but 'Fetch' (failed) "
        "→ 'Take' leads here without it; a step that failed has no output"
    ]


# --- random graphs against an enumeration of their paths ----------------------------

NAMES = "abcdef"


@st.composite
def graphs(draw, loops=False):
    """Draw steps, and where each leads when it succeeds, and when it fails."""
    names = NAMES[: draw(st.integers(2, 6))]
    found = {}
    for place, name in enumerate(names):
        targets = names if loops else names[place + 1 :]
        some = st.lists(st.sampled_from(targets or " "), max_size=2, unique=True)
        found[name] = (draw(some), draw(some)) if targets else ([], [])
    return found


def has_path_without(graph, source, target):
    """Walk all paths, and note whether the output of the source is there."""
    seen, waiting = set(), [("a", False)]
    while waiting:
        name, has_output = state = waiting.pop()
        if state in seen:
            continue
        seen.add(state)
        succeeding, failing = graph[name]
        waiting += [(to, has_output or name == source) for to in succeeding]
        waiting += [(to, has_output and name != source) for to in failing]
    return (target, False) in seen


def reached(graph):
    found, waiting = set(), ["a"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [to for targets in graph[name] for to in targets]
    return found


def built(graph, max_steps):
    workflow = StepFunction("w", max_steps=max_steps).set_start_step("a")
    known = reached(graph)
    for name, (succeeding, failing) in graph.items():
        if name not in known:
            continue
        classes = (LookupError, ArithmeticError)
        inputs = {other: other for other in known if other != name}
        workflow.add_step(
            name,
            everything if inputs else passes,
            branch={index: to for index, to in enumerate(succeeding)} or None,
            on_failure=dict(zip(classes, failing)) or None,
            inputs=inputs or None,
        )
    return workflow


def told_paths(problems):
    """Give step and source to the path that a message shows; None without one."""
    found = {}
    for text in problems:
        words = text.split("'")
        step, source = words[1], words[3]
        path = text.partition(", but ")[2].partition(" leads here")[0]
        found[step, source] = path.split(" → ") if "→" in path else None
    return found


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.booleans().flatmap(graphs))
def test_a_named_input_is_refused_exactly_where_a_path_is_without_it(graph):
    known = reached(graph)
    expected = {
        (target, source)
        for target in known
        for source in known
        if target != source and has_path_without(graph, source, target)
    }
    try:
        built(graph, max_steps=9).validate()
    except DefinitionError as error:
        found = told_paths(error.problems)
    else:
        found = {}
    assert set(found) == expected
    for (target, source), path in found.items():
        if path is None:
            assert target == "a"
        else:
            assert is_path_without(graph, path, source, target)


def is_path_without(graph, path, source, target):
    """Tell whether a path that is shown is there, and the output is not."""
    names = [word.split("'")[1] for word in path]
    has_output = False
    for word, name, follower in zip(path, names, names[1:]):
        succeeding, failing = graph[name]
        has_failed = "(failed)" in word
        if follower not in (failing if has_failed else succeeding):
            return False
        if name == source:
            has_output = not has_failed
    return names[0] == "a" and names[-1] == target and not has_output


def test_the_check_of_a_long_workflow_does_not_recurse():
    workflow = StepFunction("w", on_failure="Sorry").set_start_step("s0")
    count = 3_000
    workflow.add_step("s0", passes, next_step="s1")
    for number in range(1, count):
        follower = f"s{number + 1}" if number + 1 < count else None
        inputs = {"near": f"s{number - 1}", "far": f"s{number // 2}"}
        workflow.add_step(f"s{number}", everything, follower, inputs=inputs)
    workflow.add_step("Sorry", passes)
    workflow.validate()
