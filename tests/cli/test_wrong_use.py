from __future__ import annotations

import pytest
from shared.commands import DATA

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
        ("../test_examples.py:dict.x", "has no 'dict.x'"),
        ("./car_purchase_verbatim.txt", "there is no file"),
        (".", "there is no file '.'"),
        ("order.json", "there is no file 'order.json'"),
        ("./order.**", "there is no file './order.**'"),
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
        ("NaN", "--input is no JSON: JSON has no NaN"),
        ('{"a": [-Infinity]}', "--input is no JSON: JSON has no -Infinity"),
        ("1e400", "--input is no JSON: 1e400 is larger than any number here"),
        ("@/dev/zero", "'/dev/zero' is a device, which may have no end"),
        ("@", "No such file or directory"),
    ],
)
def test_an_input_that_is_no_json_is_refused(run, given, text):
    code, out, err = run("run", "orders.py:echo", "--input", given)
    assert (code, out) == (2, "")
    assert text in err


@pytest.mark.parametrize("given", ["1e400", "inf", "nan", "0", "-1", "soon"])
def test_a_time_limit_that_is_no_number_of_seconds_is_refused(misuse, given):
    err = misuse("run", "orders.py:echo", "--timeout", given)
    assert f"{given!r} is no number of seconds above 0" in err


# --- interrupts ---------------------------------------------------------------------


def test_a_script_that_fails_is_refused_with_its_line(run, tmp_path):
    script = tmp_path / f"broken_{tmp_path.name}.py"
    script.write_text("a = 1\nundefined\n")
    code, out, err = run("check", script)
    assert code == 2
    assert f"NameError: name 'undefined' is not defined ({script}, line 2)" in err
