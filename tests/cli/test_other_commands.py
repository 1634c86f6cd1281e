from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from shared.commands import COMMAND, DATA, environment

# --- check --------------------------------------------------------------------------


def test_check_names_all_problems_of_all_targets(run):
    targets = ("orders.py:checkout", "orders.py:broken", "nowhere:x")
    code, out, err = run("check", *targets, "orders.py:squares")
    assert (code, out) == (2, "orders.py:checkout: ok\norders.py:squares: ok\n")
    assert err == (
        "orders.py:broken: 2 problems\n"
        "  - step 'Start': next_step leads to 'Shipp', which is no step (did you mean "
        "'Ship'?)\n"
        "  - step 'Lost' cannot be reached from 'Start'; lead to it with next_step, "
        "branch or on_failure, or leave it out\n"
        "nowhere:x: 1 problem\n"
        "  - there is no module 'nowhere'\n"
        "orders.py:squares: note: step 'Both' goes on when tasks fail, even all of "
        "them, and no step is told; say on_failure=, stop_on_failure=True or how many "
        "may fail with tolerated_failures=\n"
    )


@pytest.mark.parametrize(
    "step, is_silent",
    [
        ("add_step('A', {'a': int, 'b': int}, parallel=True)", True),
        ("add_step('A', {'a': int, 'b': int}, parallel=True, on_failure='B')", False),
        ("add_step('A', {'a': int}, parallel=True, stop_on_failure=True)", False),
        ("add_parallel_step('A', {'a': int, 'b': int})", False),
        ("add_parallel_step('A', {'a': int, 'b': int}, tolerated_failures=1)", False),
        ("add_parallel_step('A', {'a': int, 'b': int}, tolerated_failures=2)", True),
        ("add_map_step('A', int)", False),
        ("add_map_step('A', int, tolerated_failures='100%')", True),
    ],
)
def test_check_names_steps_whose_failure_nobody_will_see(run, script, step, is_silent):
    handler = ".add_step('B', int)" if "'B'" in step else ""
    name = script(
        f"inner = StepFunction('I').{step}{handler}.set_start_step('A')\n"
        "outer = StepFunction('O').add_step('N', inner).set_start_step('N')\n"
    )
    code, out, err = run("check", f"{name}:outer")
    assert (code, out) == (0, f"{name}:outer: ok\n")
    assert ("nested workflow 'I': step 'A' goes on when" in err) is is_silent


def test_check_of_a_workflow_that_is_nested_very_often_ends(run, script):
    name = script(
        "w = StepFunction('L0')"
        ".add_step('Pay_all', int, 'pay all', executor='process')"
        ".add_step('pay all', int).set_start_step('Pay_all')\n"
        "for i in range(40):\n"
        "    o = StepFunction(f'L{i + 1}').add_step('Two', w).add_step('One', w, 'Two')"
        "\n"
        "    w = o.set_start_step('One')\n"
        "del o\n"
    )
    assert run("check", name)[0] == 2


def test_check_exits_with_0_where_all_is_well(run):
    assert run("check", "orders.py:checkout") == (0, "orders.py:checkout: ok\n", "")


def test_check_of_a_module_checks_all_its_workflows(run, script):
    name = script(
        "good = StepFunction('G').add_step('A', str).set_start_step('A')\n"
        "bad = StepFunction('B').add_step('A', str)\n"
    )
    code, out, err = run("check", name)
    assert (code, out) == (2, f"{name}:good: ok\n")
    assert err.startswith(f"{name}:bad: 1 problem\n  - no start step; ")


def test_check_names_every_problem_of_a_step_that_cannot_be_added(run, script):
    name = script("StepFunction('W').add_step('A', 5, retry=3)\n")
    code, _, err = run("check", name)
    assert code == 2
    assert f"{name}: 2 problems\n" in err
    assert "  - step 'A': func is 5, which cannot be called\n" in err


def test_check_finds_functions_that_cannot_be_pickled(run):
    code, _, err = run("check", "orders.py:unsendable")
    assert code == 2
    assert "cannot be sent to a process" in err


def test_check_finds_functions_that_do_not_arrive_in_a_process(run, script):
    name = script(
        "class Odd:\n"
        "    def __call__(self, value):\n"
        "        return value\n"
        "    def __reduce__(self):\n"
        "        return int, ('no number',)\n"
        "tasks = {'same': str, 'odd': Odd()}\n"
        "inner = StepFunction('I')\n"
        "inner.add_step('A', tasks, parallel=True, executor='process')\n"
        "inner.set_start_step('A')\n"
        "w = StepFunction('W').add_step('Sub', inner).set_start_step('Sub')\n"
    )
    code, _, err = run("check", f"{name}:w")
    assert code == 2
    assert (
        "step 'Sub': nested workflow 'I': step 'A', task 'odd': Odd does not arrive in "
        in err
    )


# --- graph and list -----------------------------------------------------------------


def test_graph_draws_a_tree(run):
    code, out, err = run("graph", "orders.py:handled")
    assert (code, err) == (0, "")
    assert out == (
        "Handled\n"
        "├─ Pay  (end)\n"
        "│  └─ on failure → Apologise\n"
        "└─ Apologise  (failure step, end)\n"
    )


@pytest.mark.parametrize(
    "kind, begin",
    [
        ("mermaid", "---\ntitle: "),
        ("dot", "digraph"),
        ("svg", "<?xml"),
        ("text", "Echo"),
    ],
)
def test_graph_writes_to_stdout_in_each_format(run, kind, begin):
    if kind == "svg":
        pytest.importorskip("pygraphviz")
    code, out, _ = run("graph", "orders.py:echo", "--format", kind)
    assert code == 0
    assert out.startswith(begin)
    assert out.endswith("\n") and not out.endswith("\n\n")


@pytest.mark.parametrize(
    "ending, begin",
    [
        ("svg", b"<?xml"),
        ("png", b"\x89PNG"),
        ("pdf", b"%PDF"),
        ("gv", b"digraph"),
        ("mmd", b"---\ntitle: "),
        ("TXT", b"Echo"),
    ],
)
def test_graph_goes_by_what_the_file_ends_in(run, tmp_path, ending, begin):
    pytest.importorskip("pygraphviz")
    path = tmp_path / f"flow.{ending}"
    code, out, err = run("graph", "orders.py:echo", "-o", path)
    assert (code, out) == (0, "")
    assert err.endswith(f"drawn: {path}\n")
    assert path.read_bytes().startswith(begin)


def test_graph_writes_pictures_to_a_pipe():
    pytest.importorskip("pygraphviz")
    done = subprocess.run(
        [*COMMAND, "graph", "orders.py:echo", "--format", "png"],
        cwd=DATA,
        env=environment(),
        stdout=subprocess.PIPE,
        timeout=50,
    )
    assert done.stdout.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["orders.py:echo", "-o", "flow.bmp"], "'flow.bmp' does not end in the name"),
        (["orders.py:echo", "-o", "nowhere/flow.dot"], "nowhere/flow.dot: No such"),
        (["orders.py:broken"], "workflow 'Broken': 2 problems"),
    ],
)
def test_graph_refuses_what_it_cannot_draw(run, arguments, text):
    code, out, err = run("graph", *arguments)
    assert (code, out) == (2, "")
    assert text in err


def test_list_gives_names_and_step_counts_as_targets(run):
    code, out, err = run("list", "orders.py")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 15)
    assert lines[0].split() == ["orders.py:checkout", "Checkout", "3", "steps"]
    assert lines[-1].split() == ["orders.py:build", "Built", "1", "step"]


def test_list_says_when_there_is_nothing(run, script):
    name = script("")
    assert run("list", name) == (0, "", f"{name} has no workflows\n")


# --- interrupts ---------------------------------------------------------------------


def test_a_factory_that_ends_the_program_does_not_end_the_command(run, factories):
    code, out, err = run("check", f"{factories}:leave", f"{factories}:fine")
    assert code == 2
    assert out == f"{factories}:fine: ok\n"
    assert "leave() failed: SystemExit: 0" in err


def test_the_list_goes_on_after_a_factory_that_fails(run, factories):
    code, out, err = run("list", factories)
    assert code == 2
    assert out == f"{factories}:fine  Fine  1 step\n"
    assert "leave() failed" in err


def test_a_dash_as_the_file_of_a_drawing_is_standard_output(run):
    code, out, err = run("graph", "orders.py:checkout", "-o", "-", "--format", "dot")
    assert code == 0
    assert out.startswith("digraph")
    assert not Path("-").exists()
