from __future__ import annotations

import copy
from datetime import datetime, timezone

import pytest

from stepfunction import RetryPolicy, StepFunction


def echo(value):
    return value


def other(value):
    return value


def built(**changes):
    options = {
        "max_steps": 5,
        "keep_history": None,
        "on_failure": None,
        "step": {},
        "task": echo,
        "nested": echo,
        "items": "orders",
        "seconds": 3,
        "result": 3,
    }
    options |= changes
    limits = {key: options[key] for key in ("max_steps", "keep_history", "on_failure")}
    nested = StepFunction("Nested").add_step("A", options["nested"]).set_start_step("A")
    builder = StepFunction("W", **limits).set_start_step("A")
    builder.add_step("A", echo, **{"next_step": "B", **options["step"]})
    tasks = {"x": options["task"], "y": nested}
    builder.add_step("B", tasks, "C", parallel=True)
    builder.add_map_step("C", nested, options["items"], next_step="D")
    builder.add_wait_step("D", seconds=options["seconds"], next_step="E")
    builder.add_pass_step("E", options["result"], next_step="F")
    builder.add_sub_step_function("F", nested, branch={1: "G"}, next_step="G")
    builder.add_fail_step("G", "Error")
    return builder


def test_graphs_of_one_definition_are_equal():
    one, same = built().compile(), built().compile()
    assert one == same
    assert not one != same


CHANGES = [
    {"max_steps": 6},
    {"keep_history": 3},
    {"on_failure": "G"},
    {"step": {"retry": RetryPolicy()}},
    {"step": {"executor": "thread", "timeout": 3}},
    {"step": {"branch": {1: "B"}}},
    {"step": {"compensate": other}},
    {"task": other},
    {"nested": other},
    {"items": "others"},
    {"seconds": 4},
    {"result": [3]},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_graphs_that_differ_anywhere_are_not_equal(changes):
    one, changed = built().compile(), built(**changes).compile()
    assert one != changed
    assert not one == changed


@pytest.mark.parametrize("keys", [(1, True), (0, False)])
def test_branches_by_a_number_and_by_a_bool_differ(keys):
    one, two = (built(step={"branch": {key: "B"}}).compile() for key in keys)
    assert one != two


def test_steps_are_equal_that_are_defined_alike():
    one, same, changed = built(), built(), built(seconds=4)
    assert one.steps["D"] == same.steps["D"]
    assert one.steps["D"] != changed.steps["D"]
    assert one.steps["D"] != one.steps["E"]
    assert one.steps["E"] == built().steps["E"]


def test_builders_are_equal_to_themselves_alone():
    one = built()
    assert one == one
    assert one != built()
    assert len({one, built()}) == 2


def test_graphs_and_steps_are_not_hashable():
    graph = built().compile()
    for value in (graph, graph.steps["A"]):
        with pytest.raises(TypeError, match="cannot be hashed"):
            hash(value)


def test_a_graph_equals_nothing_else():
    graph = built().compile()
    assert graph != graph.name
    assert graph.steps["A"] != "A"


def test_graphs_that_nest_one_workflow_over_and_over_are_soon_compared():
    def tower():
        builder = StepFunction("0").add_step("A", echo).set_start_step("A")
        for floor in range(1, 60):
            above = StepFunction(str(floor)).set_start_step("A")
            above.add_step("A", {"x": builder, "y": builder}, parallel=True)
            builder = above
        return builder.compile()

    assert tower() == tower()


def test_moments_of_different_offsets_may_be_the_same():
    moment = datetime(2030, 1, 1, tzinfo=timezone.utc)
    one = StepFunction("W").add_wait_step("A", until=moment).set_start_step("A")
    two = StepFunction("W").set_start_step("A")
    two.add_wait_step("A", until=moment.astimezone())
    assert one.compile() == two.compile()


# --- copies -----------------------------------------------------------------------


def test_a_copy_has_the_same_definition():
    builder = built()
    made = builder.copy()
    assert made is not builder
    assert made.name == "W"
    assert made.compile() == builder.compile()


def test_a_copy_and_its_original_are_edited_apart():
    builder = StepFunction("W").add_step("A", echo).set_start_step("A")
    builder.compile()
    made = builder.copy()
    builder.add_step("B", echo)
    made.add_step("C", echo).set_start_step("C")
    assert (list(builder.steps), list(made.steps)) == (["A", "B"], ["A", "C"])
    assert made.steps["A"] is builder.steps["A"]
    assert builder.to_dict({"echo": echo})["start"] == "A"


def test_a_copy_shares_nested_workflows():
    nested = StepFunction("Nested").add_step("A", echo).set_start_step("A")
    builder = StepFunction("W").add_sub_step_function("A", nested).set_start_step("A")
    made = builder.copy()
    assert made.steps["A"].action.nested is nested


def test_a_deep_copy_has_nested_workflows_of_its_own():
    nested = StepFunction("Nested").add_step("A", echo).set_start_step("A")
    builder = StepFunction("W").add_sub_step_function("A", nested).set_start_step("A")
    made = copy.deepcopy(builder)
    nested.add_step("B", echo)
    assert list(made.steps["A"].action.nested.steps) == ["A"]
    assert made.execute(3).output == 3


def test_a_copy_keeps_listeners_and_forgets_what_ran():
    heard = []
    builder = StepFunction("W", listeners=[heard.append])
    builder.add_step("A", echo).set_start_step("A").execute(3)
    heard.clear()
    made = builder.copy()
    assert made.last_result is None
    made.execute(4)
    assert heard
    assert builder.last_result == 3


def test_a_copy_of_a_subclass_is_one():
    class Mine(StepFunction):
        pass

    assert type(Mine("W").copy()) is Mine


@pytest.mark.parametrize(
    "one, other",
    [(1, True), ([0], [False]), ({"a": 1}, {"a": True}), ({1: "a"}, {True: "a"})],
)
def test_constants_that_only_python_takes_for_equal_are_told_apart(one, other):
    graphs = []
    for result in (one, other):
        workflow = StepFunction("W").add_pass_step("P", result).set_start_step("P")
        graphs.append(workflow.compile())
    assert graphs[0] != graphs[1]


def test_the_order_of_tasks_counts():
    graphs = []
    for names in ("ab", "ba"):
        tasks = dict.fromkeys(names, str)
        workflow = StepFunction("W").add_step("All", tasks, parallel=True)
        graphs.append(workflow.set_start_step("All").compile())
    assert graphs[0] != graphs[1]


class PartByPart:
    def __eq__(self, other):
        raise ValueError("which part?")


def test_a_value_that_cannot_be_compared_is_like_itself_alone():
    values = [PartByPart(), PartByPart()]
    graphs = []
    for value in (*values, values[0]):
        workflow = StepFunction("W").add_step("A", print, params={"end": value})
        graphs.append(workflow.set_start_step("A").compile())
    assert graphs[0] != graphs[1]
    assert graphs[0] == graphs[2]
