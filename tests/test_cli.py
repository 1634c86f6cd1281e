from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import stepfunction
from stepfunction import Execution
from stepfunction.cli import main

DATA = Path(__file__).parent / "data"
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])
COMMAND = [sys.executable, "-W", "error", "-m", "stepfunction"]
SECONDS = 20  # no test waits for that


def environment(**variables):
    path = os.pathsep.join(filter(None, (PACKAGE_HOME, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **variables}


def command(*arguments, folder=DATA, **options):
    """Run the command as a shell does, and give its exit code and what it wrote."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(**options.pop("variables", {})),
        capture_output=True,
        timeout=50,
        **options,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(autouse=True)
def path_and_folder(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(DATA)
    for name in ("NO_COLOR", "FORCE_COLOR", "ORDERS_STARTED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def misuse(capsys):
    """Give what argparse says of arguments that it cannot read."""

    def misuse(*arguments):
        with pytest.raises(SystemExit) as raised:
            main([str(argument) for argument in arguments])
        assert raised.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return misuse


@pytest.fixture
def script(tmp_path, monkeypatch):
    def script(source, name=None):
        # Each test imports a module of another name.
        path = tmp_path / (name or f"{tmp_path.name.replace('-', '_')}.py")
        path.write_text("from stepfunction import StepFunction\n" + source)
        monkeypatch.chdir(tmp_path)
        return path.name

    yield script
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


# --- run ----------------------------------------------------------------------------


def test_run_prints_the_output_as_json_and_nothing_else_on_stdout():
    given = ("run", "orders.py:checkout", "--input", '{"total": 1}')
    code, out, err = command(*given)
    assert (code, out) == (0, '"SHIPPED"\n')
    assert re.fullmatch(
        r"validating\n'Checkout' COMPLETED after 3 steps in \S+ m?s\n", err
    )


def test_without_input_the_first_step_is_given_none(run):
    assert run("run", "orders.py:echo")[:2] == (0, "null\n")


@pytest.mark.parametrize(
    "text", ['{"a": [1, 2.5, null]}', '"text"', "-5", "true", '"é 中 😀"', '"\\ud800"']
)
def test_any_json_is_an_input_and_an_output(run, text):
    code, out, _ = run("run", "orders.py:echo", "--input", text)
    assert (code, json.loads(out)) == (0, json.loads(text))


def test_the_input_may_stand_in_a_file(run, tmp_path):
    path = tmp_path / "order.json"
    path.write_text('\ufeff{"id": "é"}', encoding="utf-8")
    assert run("run", "orders.py:echo", "--input", f"@{path}")[:2] == (
        0,
        '{"id": "é"}\n',
    )


def test_the_input_may_come_from_standard_input():
    code, out, _ = command("run", "orders.py:echo", "--input", "-", input=b"[17]")
    assert (code, out) == (0, "[17]\n")


def test_output_is_json_where_the_encoding_lacks_its_letters():
    code, out, _ = command(
        "run",
        "orders.py:echo",
        "--input",
        '"é"',
        variables={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    )
    assert (code, out) == (0, '"\\u00e9"\n')


def test_what_json_cannot_hold_is_marked(run):
    code, out, _ = run("run", "orders.py:odd", "--input", "1")
    assert code == 0
    assert json.loads(out) == {
        "tuple": [1, 2],
        "set": {"$repr": "{3}"},
        "nan": {"$float": "nan"},
        "deep": [1],
    }


def test_an_output_that_holds_itself_is_cut(run, script):
    name = script(
        "def circle(_):\n"
        "    found = []\n"
        "    found.append(found)\n"
        "    return found\n"
        "w = StepFunction('W').add_step('A', circle).set_start_step('A')\n"
    )
    code, out, _ = run("run", name)
    assert (code, out.count("$repr")) == (0, 1)


def test_counts_of_outcomes_are_printed_by_their_names(run, script):
    name = script(
        "from stepfunction import Outcome\n"
        "def count(value):\n"
        "    return {Outcome.SUCCEEDED: 998, Outcome.FAILED: 2}\n"
        "w = StepFunction('W').add_step('A', count).set_start_step('A')\n"
    )
    code, out, _ = run("run", name)
    assert (code, json.loads(out)) == (0, {"SUCCEEDED": 998, "FAILED": 2})


def test_a_value_whose_repr_fails_does_not_fail_the_command(run, script):
    name = script(
        "class Shy:\n"
        "    def __repr__(self):\n"
        "        raise ValueError('no')\n"
        "w = StepFunction('W').add_step('A', Shy).set_start_step('A')\n"
    )
    code, out, _ = run("run", name)
    assert code == 0
    assert json.loads(out) == {"$repr": "<Shy, whose repr failed: ValueError: no>"}


def test_a_script_runs_in_worker_processes_and_its_main_part_does_not():
    code, out, err = command("run", "orders.py:squares", "--input", "4")
    assert (code, out) == (0, '{"a": 16, "b": 16}\n')
    # What workers print is not the output either.
    assert err.count("from the worker\n") == 2
    assert "must not run" not in err


def test_a_script_elsewhere_runs_in_worker_processes_beside_its_own_modules(tmp_path):
    folder = tmp_path / "my scripts"
    folder.mkdir()
    (folder / "sums.py").write_text("def add_one(n):\n    return n + 1\n")
    (folder / "my-flow.py").write_text(
        "import sums\n"
        "from stepfunction import ProcessLanes, StepFunction\n"
        "def twice(n):\n"
        "    return 2 * sums.add_one(n)\n"
        "w = StepFunction('W').add_step('A', twice, 'B', executor='process')\n"
        "w.add_step('B', twice, executor=ProcessLanes(1, start_method='spawn'))\n"
        "w.set_start_step('A')\n"
    )
    target = "my scripts/my-flow.py:w"
    code, out, err = command("run", target, "--input", "1", folder=tmp_path)
    assert (code, out) == (0, "10\n"), err


def test_executor_overrides_where_tasks_run(run):
    target = ("run", "orders.py:squares", "--input", "3")
    code, out, _ = run(*target, "--executor", "inline")
    assert (code, json.loads(out)) == (0, {"a": 9, "b": 9})


def test_a_function_that_returns_a_workflow_is_a_target(run):
    assert run("run", "orders.py:build")[:2] == (0, '"shipped"\n')


def test_a_module_is_found_from_the_current_folder():
    assert command("run", "orders:build")[:2] == (0, '"shipped"\n')


def test_an_attribute_of_something_in_a_module_is_a_target(run, script):
    name = script(
        "class Flows:\n"
        "    w = StepFunction('W').add_step('A', lambda: 1).set_start_step('A')\n"
    )
    assert run("run", f"{name}:Flows.w")[:2] == (0, "1\n")


def test_the_only_workflow_of_a_module_needs_no_name(run, script):
    name = script(
        "w = again = StepFunction('W').add_step('A', lambda: 1).set_start_step('A')\n"
        "_hidden = StepFunction('H')\n"
    )
    assert run("run", name)[:2] == (0, "1\n")


def test_progress_tells_what_ran_on_stderr(run):
    pytest.importorskip("rich")
    given = ("run", "orders.py:checkout", "--input", '{"total": 1}', "--progress")
    code, out, err = command(*given)
    assert (code, out) == (0, '"SHIPPED"\n')
    assert [name in err for name in ("Validate", "Ship", "Tell")] == [True] * 3
    assert err.count("COMPLETED") == 1


def test_progress_without_rich_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "stepfunction.progress", raising=False)
    code, out, err = run("run", "orders.py:echo", "--progress")
    assert (code, out) == (2, "")
    assert "needs rich: install stepfunction with its extra 'rich'" in err


# --- a workflow that fails ----------------------------------------------------------


def test_a_failure_is_shown_with_the_traceback_of_the_user_alone():
    code, out, err = command("run", "orders.py:declined")
    assert (code, out) == (1, "")
    first, *rest = err.splitlines()
    assert re.fullmatch(r"'Declined' FAILED after 1 step in \S+ m?s", first)
    assert rest[:2] == [
        "step 'Pay' of 'Declined' failed: ValueError: card declined",
        "Traceback (most recent call last):",
    ]
    assert re.fullmatch(r'  File ".*orders.py", line \d+, in pay', rest[2])
    assert rest[3:] == [
        '    raise ValueError("card declined")',
        "ValueError: card declined",
    ]


def test_a_handled_failure_exits_with_1_and_gives_the_output_of_the_failure_step(run):
    code, out, err = run("run", "orders.py:handled")
    assert (code, out) == (1, '"sorry: card declined"\n')
    assert "step 'Pay' of 'Handled' failed: ValueError: card declined\n" in err


def test_tolerated_failures_are_named_though_the_workflow_is_done(run):
    code, out, err = run("run", "orders.py:tolerant")
    assert code == 0
    assert json.loads(out) == {
        "pay": {"$repr": "ValueError('card declined')"},
        "ship": "shipped",
    }
    assert "task 'pay' of step 'Update' failed: ValueError: card declined\n" in err


def test_many_tolerated_failures_are_counted(run, script):
    name = script(
        "tasks = {f't{n}': lambda: 1 / 0 for n in range(23)}\n"
        "w = StepFunction('W').add_step('A', tasks, parallel=True)\n"
        "w.set_start_step('A')\n"
    )
    code, _, err = run("run", name)
    assert (code, err.count("ZeroDivisionError")) == (0, 20)
    assert err.endswith("  and 3 more\n")


def test_a_failure_in_a_process_of_a_nested_workflow_is_shown_once():
    code, out, err = command("run", "orders.py:outer")
    assert (code, out) == (1, "")
    assert "nested workflow 'Strict' failed at its step 'Update'" in err
    assert "\ntask 'pay':\nTraceback (most recent call last):\n" in err
    assert err.count("in pay\n") == 1
    assert "RemoteTraceback" not in err


def test_a_step_that_ends_the_program_has_failed_the_workflow(run):
    code, out, err = run("run", "orders.py:leaving")
    assert (code, out) == (1, "")
    assert err.startswith("stepfunction: a step ended the program: SystemExit: 7\n")


def test_a_workflow_that_takes_too_long_has_failed(tmp_path):
    code, out, err = command(
        "run",
        "orders.py:hanging",
        "--timeout",
        "0.3",
        variables={"ORDERS_STARTED": str(tmp_path / "started")},
    )
    assert (code, out) == (1, "")
    assert "'Hanging' TIMED_OUT after " in err
    assert err.endswith("execution of 'Hanging' took longer than 0.3 s\n")


def test_an_error_of_the_library_itself_comes_without_a_traceback(run, script):
    name = script(
        "w = StepFunction('W').add_step('A', lambda: 2, branch={1: 'B'})\n"
        "w.add_step('B', str).set_start_step('A')\n"
    )
    code, _, err = run("run", name)
    assert code == 1
    assert "NoBranchMatchedError: step 'A' returned 2" in err
    assert "Traceback" not in err


def test_a_failed_compensation_is_shown_behind_what_it_followed(run, script):
    name = script(
        "def pay(order): raise ValueError('no money')\n"
        "def cancel(order): raise LookupError('no such order')\n"
        "w = StepFunction('W').set_start_step('Order')\n"
        "w.add_step('Order', str, 'Pay', compensate=cancel).add_step('Pay', pay)\n"
    )
    code, _, err = run("run", name)
    assert code == 1
    assert err.index("1 compensation of 'W' failed: step 'Order'") < (
        err.index("ValueError: no money\n")
    )
    assert err.endswith(
        "LookupError: no such order\nraised while step 'Order' was undone\n"
    )


# --- --json, --report, report -------------------------------------------------------


@pytest.mark.parametrize(
    "name, code, status", [("checkout", 0, "COMPLETED"), ("declined", 1, "FAILED")]
)
def test_json_gives_the_whole_execution(run, name, code, status):
    given = ("run", f"orders.py:{name}", "--input", '{"total": 1}', "--json")
    found, out, _ = run(*given)
    execution = Execution.from_json(out)
    assert (found, execution.status) == (code, status)


@pytest.mark.parametrize("name, code", [("echo", 0), ("declined", 1)])
def test_run_writes_a_report_whatever_came_of_it(run, tmp_path, name, code):
    path = tmp_path / "run.html"
    found, _, err = run("run", f"orders.py:{name}", "--report", path)
    assert found == code
    assert f"report: {path}\n" in err
    assert "<html" in path.read_text(encoding="utf-8")


def test_a_report_can_be_made_later(run, tmp_path):
    source, path = tmp_path / "run.json", tmp_path / "run.html"
    source.write_text(run("run", "orders.py:declined", "--json")[1])
    code, out, err = run("report", source, "-o", path)
    assert (code, out, err.splitlines()[-1]) == (0, "", f"report: {path}")
    assert "card declined" in path.read_text(encoding="utf-8")


def test_a_report_is_made_of_standard_input(tmp_path):
    document = command("run", "orders.py:echo", "--json")[1]
    path = tmp_path / "run.html"
    code, _, err = command("report", "-", "-o", path, input=document.encode())
    assert (code, err.splitlines()[-1]) == (0, f"report: {path}")
    assert path.exists()


def test_a_report_of_something_else_is_refused(run, tmp_path):
    path = tmp_path / "other.json"
    path.write_text("[1]")
    code, out, err = run("report", path, "-o", tmp_path / "run.html")
    assert (code, out) == (2, "")
    assert err.startswith(f"stepfunction: {path}: this is no transcript")


def test_a_report_that_can_no_longer_be_written_spares_the_output(run, script):
    name = script(
        "import os\n"
        "w = StepFunction('W').add_step('A', lambda: os.mkdir('run.html'))\n"
        "w.set_start_step('A')\n"
    )
    code, out, err = run("run", name, "--report", "run.html")
    assert (code, out) == (2, "null\n")
    assert "stepfunction: the report cannot be written: " in err


def test_a_report_that_cannot_be_written_is_refused_before_the_run(run, tmp_path):
    path = tmp_path / "none" / "run.html"
    code, _, err = run("run", "orders.py:checkout", "--report", path)
    assert code == 2
    assert err == (
        f"stepfunction: '{path}' cannot be written; name a file in a folder that can\n"
    )


# --- wrong use ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "required: COMMAND"),
        (["rnu"], "there is no command 'rnu' (did you mean 'run'?); the commands are"),
        (["run"], "required: TARGET"),
        (["run", "x", "--inptu", "1"], "no option '--inptu' (did you mean '--input'?)"),
        (["run", "x", "y"], "'y' is one argument too many"),
        (["run", "x", "--executor", "proces"], "did you mean 'process'?"),
        (["run", "x", "--timeout", "soon"], "'soon' is no number of seconds above 0"),
        (["run", "x", "--timeout", "nan"], "'nan' is no number of seconds above 0"),
        (["graph", "x", "--format", "sgv"], "'sgv' is no format (did you mean 'svg'?)"),
        (["report", "run.json"], "required: -o"),
    ],
)
def test_wrong_arguments_are_explained(misuse, arguments, text):
    assert text in misuse(*arguments)


@pytest.mark.parametrize(
    "target, text",
    [
        ("ordres.py:checkout", "no file 'ordres.py' (did you mean 'orders.py'?)"),
        ("ordres:checkout", "no module 'ordres' (did you mean 'orders'?)"),
        ("orders.checkout", "no module 'orders.checkout' (did you mean 'orders:check"),
        ("stepfunction.cor:x", "(did you mean 'stepfunction.core'?)"),
        ("orders.py:chekout", "no 'chekout' (did you mean 'checkout'?); its workflows"),
        ("orders.py", "orders.py has 15 workflows; name one: orders.py:checkout, "),
        ("stepfunction.core", "has no workflow at its top level"),
        ("orders.py:RATE", "is no workflow but a value of type 'float'"),
        ("orders.py:build_for", "without arguments, but it requires some: customer"),
        ("orders.py:build_nothing", "returned a value of type 'int', not a StepFu"),
        ("orders.py:fail_to_build", "fail_to_build() failed: KeyError: 'no settings'"),
        ("orders.py:broken", "workflow 'Broken': 2 problems\n  - step 'Start'"),
        (f"{DATA}/", "there is no file"),
        ("../test_cli.py:dict.x", "has no 'dict.x'"),
        ("./car_purchase_verbatim.txt", "there is no file"),
        (".", "there is no file '.'"),
        ("order.json", "there is no file 'order.json'"),
        ("orders.py:os.environ", "is no workflow but a value of type '_Environ'"),
    ],
)
def test_a_target_that_leads_nowhere_is_refused_with_what_was_meant(run, target, text):
    code, out, err = run("run", target)
    assert (code, out) == (2, "")
    assert err.startswith("stepfunction: ")
    assert text in err


@pytest.mark.parametrize(
    "source, text",
    [
        ("def f(x:", "SyntaxError: "),
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind'"),
        ("from . import flows", "name it as package.module:workflow"),
        ("raise SystemExit(3)", 'put what the script does under: if __name__ == "__m'),
        ("StepFunction('W').add_step('A', 5)", "func is 5, which cannot be called"),
    ],
)
def test_a_script_that_cannot_be_imported_is_refused(run, script, source, text):
    code, out, err = run("run", script(source))
    assert (code, out) == (2, "")
    assert text in err
    assert "importlib" not in err and "stepfunction/" not in err


def test_a_document_is_refused_with_what_reads_it(run, tmp_path):
    document = tmp_path / "shop.json"
    document.write_text("{}")
    code, out, err = run("check", document)
    assert (code, out) == (2, "")
    assert "is no Python; name a module that reads it" in err


def test_a_file_whose_name_is_no_module_is_refused(run, script):
    name = script("", "flow.v2.py")
    code, _, err = run("run", name)
    assert code == 2
    assert "a file of Python code is called name.py, without another dot" in err


def test_a_builtin_whose_signature_nobody_knows_is_no_target(run, script):
    name = script("from builtins import iter as build\n")
    code, _, err = run("run", f"{name}:build")
    assert code == 2
    assert err.endswith("build is called for its workflow, but nobody knows how\n")


def test_an_annotation_may_be_text_and_lead_into_the_package(run, script):
    name = script(
        "import stepfunction\n"
        "def flow() -> 'stepfunction.StepFunction':\n"
        "    return StepFunction('W')\n"
        "def other() -> int:\n"
        "    return 1\n"
    )
    assert run("list", name)[1] == f"{name}:flow  W  0 steps\n"


def test_a_script_with_the_name_of_a_module_in_use_is_refused(run, script):
    code, _, err = run("run", script("", "argparse.py"))
    assert code == 2
    assert "another module of that name is here already" in err


@pytest.mark.parametrize(
    "given, text",
    [
        ("text", "--input is no JSON: Expecting value: line 1 column 1 (char 0); a "),
        ("@nowhere.json", "stepfunction: nowhere.json: No such file or directory"),
        ("@orders.py", "--input is no JSON: Extra data"),
        ("[" * 100_000, "--input is no JSON: "),
    ],
)
def test_an_input_that_is_no_json_is_refused(run, given, text):
    code, out, err = run("run", "orders.py:echo", "--input", given)
    assert (code, out) == (2, "")
    assert text in err


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
    )


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


# --- the terminal -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "run", "check", "graph", "report", "list"])
def test_help_has_examples(capsys, name):
    with pytest.raises(SystemExit) as raised:
        main([*filter(None, [name]), "--help"])
    out = capsys.readouterr().out
    assert raised.value.code == 0
    assert re.search(rf"examples?:\n.*  stepfunction {name}", out, re.DOTALL)
    assert max(map(len, out.splitlines())) <= 88


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"stepfunction {stepfunction.__version__}\n"


def on_a_terminal(*arguments, interrupt_at=None, **variables):
    """Run the command with a terminal for its output, and give all that it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=DATA,
        env=environment(**{"TERM": "xterm", **variables}),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    if interrupt_at is not None:
        while not interrupt_at.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    shown = b""
    with suppress(OSError), open(ours, "rb", 0) as terminal:  # EIO at its end
        while part := terminal.read(4096):
            shown += part
    return process.wait(SECONDS), shown.decode()


def test_a_terminal_shows_colors():
    code, shown = on_a_terminal("check", "orders.py:checkout")
    assert (code, shown) == (0, "orders.py:checkout: \033[32mok\033[0m\r\n")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colors_can_be_declined(variables):
    code, shown = on_a_terminal("run", "orders.py:declined", **variables)
    assert code == 1
    assert "\033" not in shown


def test_an_interrupt_gives_the_cursor_back_that_progress_hides(tmp_path):
    pytest.importorskip("rich")
    started = tmp_path / "started"
    arguments = ["run", "orders.py:hanging_thread", "--progress"]
    code, shown = on_a_terminal(
        *arguments, interrupt_at=started, ORDERS_STARTED=str(started)
    )
    assert code == 130
    hidden, _, after = shown.partition("\033[?25l")
    assert hidden != shown and "\033[?25h" in after


def test_a_terminal_is_not_given_the_bytes_of_a_picture():
    pytest.importorskip("pygraphviz")
    code, shown = on_a_terminal("graph", "orders.py:echo", "--format", "png")
    assert code == 2
    assert shown.endswith(
        "stepfunction: a terminal cannot show png; name a file with -o FILE\r\n"
    )


def test_a_reader_that_has_read_enough_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "list", "orders.py"],
        cwd=DATA,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=50,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nobody_reading_the_messages_does_not_fail_the_workflow():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, "run", "orders.py:build"],
        cwd=DATA,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=writer,
        timeout=50,
    )
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, b'"shipped"\n')


# --- interrupts ---------------------------------------------------------------------


class Command:
    """The command in a session of its own, so that all its processes can be found."""

    def __init__(self, path, *arguments):
        self.started = path / "started"
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=DATA,
            env=environment(ORDERS_STARTED=str(self.started)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process_id in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        self.process.communicate()

    def wait_until_it_runs(self):
        end = time.monotonic() + SECONDS
        while not self.started.exists():
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(0.01)

    def interrupt(self, send):
        send(self.process.pid, signal.SIGINT)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def processes(self):
        """Give the processes of its session that are alive."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):
                stat = path.read_text().rpartition(")")[2].split()
                if stat[0] != "Z" and stat[3] == str(self.process.pid):
                    yield int(path.parent.name)

    def leaves_nobody(self):
        end = time.monotonic() + SECONDS
        while any(self.processes()):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "terminal"])
@pytest.mark.parametrize("name", ["hanging", "hanging_thread", "_holding"])
def test_an_interrupt_ends_it_with_one_line_and_leaves_nobody(tmp_path, name, send):
    with Command(tmp_path, "run", f"orders.py:{name}") as running:
        running.wait_until_it_runs()
        ended = running.interrupt(send)
        assert ended == (130, "", "stepfunction: interrupted\n")
        assert running.leaves_nobody()


def test_an_interrupt_lets_the_program_end_in_order(tmp_path):
    with Command(tmp_path, "run", "orders.py:_holding") as running:
        running.wait_until_it_runs()
        running.interrupt(os.kill)
    assert (tmp_path / "started.over").exists()


def test_an_interrupted_run_has_its_report_too(tmp_path):
    path = tmp_path / "run.html"
    with Command(tmp_path, "run", "orders.py:hanging", "--report", path) as running:
        running.wait_until_it_runs()
        code, _, err = running.interrupt(os.kill)
    assert code == 130
    assert err.endswith(f"report: {path}\nstepfunction: interrupted\n")
    assert "CANCELLED" in path.read_text(encoding="utf-8")


def test_an_interrupt_while_a_script_is_imported_is_one_line_too(tmp_path):
    path = tmp_path / "slow_import.py"
    path.write_text(
        "import os, pathlib, time\n"
        "pathlib.Path(os.environ['ORDERS_STARTED']).touch()\n"
        "time.sleep(600)\n"
    )
    with Command(tmp_path, "list", str(path)) as running:
        running.wait_until_it_runs()
        assert running.interrupt(os.kill) == (130, "", "stepfunction: interrupted\n")


FACTORIES = """\
import sys
from stepfunction import StepFunction
def fine() -> StepFunction:
    return StepFunction("Fine").add_step("A", lambda: 10**5000).set_start_step("A")
def leave() -> StepFunction:
    sys.exit(0)
"""


@pytest.fixture
def factories(tmp_path):
    script = tmp_path / f"factories_{tmp_path.name}.py"
    script.write_text(FACTORIES)
    return script


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


def test_a_number_that_is_too_long_for_json_is_its_repr(run, factories):
    code, out, err = run("run", f"{factories}:fine")
    assert code == 0
    assert list(json.loads(out)) == ["$repr"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full")
def test_an_answer_that_cannot_be_written_is_said():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "list", "orders.py"],
            cwd=DATA,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=50,
        )
    assert done.returncode == 2
    assert b"the answer cannot be written: No space left" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_open_to_nobody(closed):
    shell = f"exec {shlex.join([*COMMAND, 'list', 'orders.py'])} {closed}"
    done = subprocess.run(
        ["sh", "-c", shell],
        cwd=DATA,
        env=environment(),
        capture_output=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_dash_as_the_file_of_a_drawing_is_standard_output(run):
    code, out, err = run("graph", "orders.py:checkout", "-o", "-", "--format", "dot")
    assert code == 0
    assert out.startswith("digraph")
    assert not Path("-").exists()


def test_a_report_is_not_written_to_standard_output(run, tmp_path):
    record = tmp_path / "run.json"
    record.write_text(command("run", "orders.py:echo", "--json")[1])
    code, out, err = run("report", record, "-o", "-")
    assert code == 2
    assert "name one with -o FILE" in err


def test_an_error_text_sends_a_terminal_no_orders(run, tmp_path):
    script = tmp_path / f"escaping_{tmp_path.name}.py"
    script.write_text(
        "from stepfunction import StepFunction\n"
        "def bad(_): raise ValueError('\\x1b[31mred')\n"
        "workflow = StepFunction('W').add_step('A', bad).set_start_step('A')\n"
    )
    code, out, err = run("run", script)
    assert code == 1
    assert "ValueError: ␛[31mred" in err.splitlines()[1] + err.splitlines()[0]


def test_a_script_that_fails_is_refused_with_its_line(run, tmp_path):
    script = tmp_path / f"broken_{tmp_path.name}.py"
    script.write_text("a = 1\nundefined\n")
    code, out, err = run("check", script)
    assert code == 2
    assert f"NameError: name 'undefined' is not defined ({script}, line 2)" in err
