from __future__ import annotations

import json
import re
import subprocess
import sys
import threading

import pytest
from shared.commands import COMMAND, DATA, environment

from stepfunction import Execution


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


# --- run ----------------------------------------------------------------------------


def test_run_prints_the_output_as_json_and_nothing_else_on_stdout():
    given = ("run", "orders.py:checkout", "--input", '{"total": 1}')
    code, out, err = command(*given)
    assert (code, out) == (0, '"SHIPPED"\n')
    assert re.fullmatch(
        r"validating\n'Checkout' COMPLETED after 3 steps in \S+ [mµ]?s\n", err
    )


AT_EXIT = (
    "import atexit; atexit.register(print, 'bye')",
    "import atexit, os; atexit.register(os.write, 1, b'bye')",
    "import atexit, sys; keep = sys.stdout; atexit.register(lambda: keep.write('bye'))",
    "import threading; gate = threading.Event()\n"
    "threading.Thread(target=lambda: (gate.wait(0.2), print('late'))).start()",
)


@pytest.mark.parametrize("prints", AT_EXIT)
def test_what_is_printed_at_exit_is_not_beside_the_answer(tmp_path, prints):
    (tmp_path / "flow.py").write_text(
        f"{prints}\nfrom stepfunction import StepFunction\n"
        "workflow = StepFunction('W').add_step('S', lambda x: x).set_start_step('S')\n"
    )
    code, out, err = command("run", "flow.py", "--input", "[1]", folder=tmp_path)
    assert (code, out) == (0, "[1]\n")
    assert "bye" in err or "late" in err


def test_without_an_input_a_default_of_the_first_step_stays(tmp_path):
    (tmp_path / "flow.py").write_text(
        "from stepfunction import StepFunction\n"
        "def load(path='data.csv'):\n    return path\n"
        "workflow = StepFunction('W').add_step('L', load).set_start_step('L')\n"
    )
    assert command("run", "flow.py", folder=tmp_path)[1] == '"data.csv"\n'
    given = ("run", "flow.py", "--input", "null")
    assert command(*given, folder=tmp_path)[1] == "null\n"


def test_a_device_is_no_input():
    with open("/dev/zero", "rb") as zero:
        code, out, err = command("run", "orders.py:echo", "--input", "-", stdin=zero)
    assert (code, out) == (2, "")
    assert err == "stepfunction: standard input is a device, which may have no end\n"


def test_items_that_failed_are_called_items(tmp_path):
    (tmp_path / "flow.py").write_text(
        "from stepfunction import StepFunction\n"
        "workflow = StepFunction('W').add_map_step('M', int).set_start_step('M')\n"
    )
    given = ("run", "flow.py", "--input", '["1", "x"]')
    _, _, err = command(*given, folder=tmp_path)
    assert "task" not in err
    assert "item 1 of step 'M' failed: ValueError" in err


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
        "set": {"$set": [3]},
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


def test_keys_that_are_no_texts_are_marked_as_in_a_transcript(run, script):
    name = script(
        "from types import MappingProxyType\n"
        "def prices():\n"
        "    return MappingProxyType({17: (1, {2}), 'note': None})\n"
        "w = StepFunction('W').add_step('A', prices).set_start_step('A')\n"
    )
    code, out, _ = run("run", name)
    assert code == 0
    assert json.loads(out) == {"$dict": [[17, [1, {"$set": [2]}]], ["note", None]]}


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
    assert "needs rich: pip install rich" in err


# --- a workflow that fails ----------------------------------------------------------


def test_a_failure_is_shown_with_the_traceback_of_the_user_alone():
    code, out, err = command("run", "orders.py:declined")
    assert (code, out) == (1, "")
    first, *rest = err.splitlines()
    assert re.fullmatch(r"'Declined' FAILED after 1 step in \S+ [mµ]?s", first)
    assert rest[:2] == [
        "step 'Pay' of 'Declined' failed: ValueError: card declined",
        "Traceback (most recent call last):",
    ]
    assert re.fullmatch(r'  File ".*orders.py", line \d+, in pay', rest[2])
    assert rest[3:] == [
        '    raise ValueError("card declined")',
        "ValueError: card declined",
    ]


def test_a_worker_that_cannot_be_started_is_a_failure_of_the_run(run, script):
    name = script(
        "import threading\n"
        "def refuse(thread): raise RuntimeError('no more threads')\n"
        "w = StepFunction('W').add_step('A', {'a': abs}, parallel=True)\n"
        "w.set_start_step('A')\n"
        "threading.Thread.start = refuse\n"
    )
    started = threading.Thread.start
    try:
        code, out, err = run("run", name, "--input", "1")
    finally:
        threading.Thread.start = started
    assert (code, out) == (1, "")
    assert "'W' FAILED after 1 step" in err
    assert "can be started: no more threads" in err


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


# --- interrupts ---------------------------------------------------------------------


def test_a_number_that_is_too_long_for_json_is_marked(run, factories):
    code, out, err = run("run", f"{factories}:fine")
    assert code == 0
    assert list(json.loads(out)) == ["$int"]


def test_a_report_is_not_written_to_standard_output(run, tmp_path):
    record = tmp_path / "run.json"
    record.write_text(command("run", "orders.py:echo", "--json")[1])
    code, out, err = run("report", record, "-o", "-")
    assert code == 2
    assert "name one with -o FILE" in err
