from __future__ import annotations

import json
import subprocess
import sys

import pytest
from shared.commands import COMMAND, environment

FUNCTIONS = """\
from stepfunction import FunctionRegistry
registry = FunctionRegistry()
plain = {"charge": lambda order: order}
nothing = 3
spoilt = {"charge": 5}

@registry.register
def charge(order):
    print("charging")
    return f"{order} paid"

@registry.register
def double(number):
    return 2 * number
"""
FLOW = """\
format: stepfunction/1
name: Checkout
start: Pay
steps:
  Pay:
    func: charge
    branch: {17 paid: Done}
    on_failure: Sorry
  Done: {type: pass, result: thanks}
  Sorry: {type: fail, error: Sorry}
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Give the name of a module that has a registry, beside documents."""
    name = f"functions_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FUNCTIONS)
    (tmp_path / "flow.yaml").write_text(FLOW)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("place", ["{}:registry", "{}.py:registry", "{}", "./{}.py"])
def test_a_document_is_run(run, shop, place):
    code, out, err = run(
        "run", "flow.yaml", "--registry", place.format(shop), "--input", "17"
    )
    assert (code, out) == (0, '"thanks"\n')
    assert "charging" in err


def test_a_mapping_is_a_registry_too(run, shop):
    place = f"{shop}:plain"
    code, out, _ = run("run", "flow.yaml", "--registry", place, "--input", '"17 paid"')
    assert (code, out) == (0, '"thanks"\n')


def test_a_document_whose_workflow_fails_ends_with_1(run, shop):
    code, _, err = run("run", "flow.yaml", "--registry", shop, "--input", "18")
    assert code == 1
    assert "'Checkout' FAILED" in err


@pytest.mark.parametrize("ending", ["json", "yml", "YAML"])
def test_a_document_may_have_other_endings(run, shop, tmp_path, ending):
    text = '{"format": "stepfunction/1", "name": "W", "start": "A", "steps": '
    text += '{"A": {"func": "double"}}}'
    (tmp_path / f"other.{ending}").write_text(text)
    code, out, _ = run("run", f"other.{ending}", "--registry", shop, "--input", "4")
    assert (code, out) == (0, "8\n")


def test_a_document_without_functions_needs_no_registry(run, shop, tmp_path):
    text = "format: stepfunction/1\nname: W\nstart: A\nsteps: {A: {type: pass}}"
    (tmp_path / "still.yaml").write_text(text)
    assert run("run", "still.yaml", "--input", "4")[:2] == (0, "4\n")


def test_functions_may_be_imported_where_that_is_allowed(run, shop, tmp_path):
    (tmp_path / "flow.yaml").write_text(FLOW.replace("charge", f"{shop}:charge"))
    code, out, err = run("run", "flow.yaml", "--input", "17")
    assert (code, out) == (2, "")
    assert f"line 6, column 5: steps.Pay.func: '{shop}:charge' is not imported" in err
    code, out, _ = run("run", "flow.yaml", "--allow-imports", shop, "--input", "17")
    assert (code, out) == (0, '"thanks"\n')


def test_documents_are_checked_beside_modules(run, shop, tmp_path):
    (tmp_path / "typo.yaml").write_text(FLOW.replace("charge", "chargee"))
    code, out, err = run("check", "flow.yaml", "typo.yaml", "--registry", shop)
    assert (code, out) == (2, "flow.yaml: ok\n")
    told = "typo.yaml: 1 problem\n  - document: line 6, column 5: steps.Pay.func: "
    assert told in err
    assert "(did you mean 'charge'?)" in err


def test_a_document_is_drawn_and_listed(run, shop):
    code, out, _ = run("graph", "flow.yaml", "--registry", shop)
    assert code == 0
    assert "├─ Pay\n│  ├─ if 17 paid → Done\n" in out
    code, out, _ = run("list", "flow.yaml", "--registry", shop)
    assert (code, out) == (0, "flow.yaml  Checkout  3 steps\n")


def test_a_stored_execution_of_a_document_goes_on(run, shop, tmp_path):
    lines = [line for line in FLOW.splitlines() if "Sorry" not in line]
    (tmp_path / "flow.yaml").write_text("\n".join(lines))
    names = ("--registry", shop, "--store", "runs.db")
    code, _, _ = run("run", "flow.yaml", "--input", "18", "--id", "one", *names)
    assert code == 1
    code, out, _ = run("resume", "flow.yaml", "one", "--answer", '"17 paid"', *names)
    assert (code, out) == (0, '"thanks"\n')
    code, _, err = run("recover", "flow.yaml", *names)
    assert (code, err) == (0, "nothing has died\n")


def test_functions_of_a_registry_arrive_in_processes(shop, tmp_path):
    text = FLOW.replace("    on_failure", "    executor: process\n    on_failure")
    (tmp_path / "flow.yaml").write_text(text)
    arguments = ("run", "flow.yaml", "--registry", f"{shop}.py", "--input", "17")
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, "thanks"), done.stderr


WRONG = [
    (["flow.yaml"], "unknown function 'charge'; give a registry that has it"),
    (["flow.yml"], "there is no file 'flow.yml' (did you mean 'flow.yaml'?)"),
    (["flwo.yaml"], "there is no file 'flwo.yaml' (did you mean 'flow.yaml'?)"),
    (["flow.json"], "there is no file 'flow.json' (did you mean 'flow.yaml'?)"),
    (["nothing/flow.yaml"], "there is no file 'nothing/flow.yaml'"),
    (["flow.yaml:Pay"], "flow.yaml is one workflow; leave ':Pay' out"),
    (["a_folder.yaml"], "there is no file 'a_folder.yaml'\n"),
    (["flow.txt"], "without another dot; a document is name.yaml or name.json"),
    (["flow.yaml", "--registry", "{}:registri"], "has no 'registri' (did you mean"),
    (["flow.yaml", "--registry", "{}:nothing"], "is no registry but a value"),
    (["flow.yaml", "--registry", "{}:spoilt"], "'charge' is to be 5, which canno"),
    (["flow.yaml", "--registry", "{}x"], "there is no module '"),
    (["flow.yaml", "--registry", "x.py:registry"], "there is no file 'x.py'"),
    (["flow.yaml", "--registry", "flow.yaml"], "is a document, and a reg"),
    (["flow.yaml", "--registry", "two"], "and has several: a, b; name one, as in two"),
    (["flow.yaml", "--registry", "empty"], "empty is to have one Function"),
    (["flow.yaml", "--allow-imports", "no name"], "allow_imports has 'no name'"),
]


@pytest.mark.parametrize("command", ["run", "check", "graph", "list"])
@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_what_cannot_be_read_is_refused(run, shop, tmp_path, command, arguments, text):
    (tmp_path / "flow.txt").write_text(FLOW)
    two = "from stepfunction import FunctionRegistry as Names\na, b = Names(), Names()"
    (tmp_path / "two.py").write_text(two)
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "a_folder.yaml").mkdir()
    code, out, err = run(command, *(it.format(shop) for it in arguments))
    for name in ("two", "empty"):
        sys.modules.pop(name, None)
    if command == "list" and arguments == ["flow.yaml:Pay"]:
        return  # which takes no workflow
    assert (code, out) == (2, "")
    assert text in err


def test_a_document_of_another_encoding_says_where(run, shop, tmp_path):
    (tmp_path / "flow.yaml").write_bytes(FLOW.replace("Sorry", "S\xf8rry").encode("l1"))
    code, _, err = run("check", "flow.yaml", "--registry", shop)
    assert code == 2
    assert "line 8, column 18: byte 0xf8 is not UTF-8; save it as UTF-8" in err


def test_what_a_document_has_sends_a_terminal_no_orders(run, shop, tmp_path):
    text = FLOW.replace("Sorry}", '"\\e[31m\\r"}').replace("error:", "eror:")
    (tmp_path / "flow.yaml").write_text(text.replace("charge", '"\\e[31m"'))
    for command in ("run", "check"):
        code, _, err = run(command, "flow.yaml", "--registry", shop)
        assert code == 2
        assert "\x1b" not in err and "\r" not in err


def test_the_options_are_offered_where_one_is_mistyped(misuse):
    said = misuse("run", "flow.yaml", "--registri", "x")
    assert "there is no option '--registri' (did you mean '--registry'?)" in said
    said = misuse("check", "flow.yaml", "--allow-import", "x")
    assert "(did you mean '--allow-imports'?)" in said
