from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from shared.commands import environment
from shared.processes import Session, wait_for
from shop import workflows

from stepfunction import StepFunction

HERE = Path(__file__).parent
MANAGE = [sys.executable, "-W", "error", "-m", "django"]


@pytest.fixture
def run():
    """Call a command as code does, and give its exit code and what it wrote."""

    def run(name, *arguments, **options):
        out, err = io.StringIO(), io.StringIO()
        code = 0
        try:
            call_command(
                f"stepfunction_{name}", *arguments, stdout=out, stderr=err, **options
            )
        except SystemExit as end:
            code = end.code
        return code, out.getvalue(), err.getvalue()

    return run


def manage(*arguments, **options):
    """Run a command as a shell does."""
    return subprocess.run(
        [*MANAGE, *arguments],
        cwd=HERE,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
        **options,
    )


# --- run ----------------------------------------------------------------------------


def test_a_workflow_is_run_by_its_name(run):
    code, out, err = run("run", "shop.Quote", input='{"amount": 21}')
    assert (code, json.loads(out)) == (0, {"total": 42})
    assert "'Quote' COMPLETED after 1 step" in err


def test_a_workflow_is_run_by_its_module_too(run):
    code, out, _ = run("run", "shop.workflows:quote", "--input", '{"amount": 1}')
    assert (code, json.loads(out)) == (0, {"total": 2})


def test_a_document_is_run_with_a_registry_of_an_app(run, tmp_path):
    flow = tmp_path / "flow.yaml"
    flow.write_text(
        "format: stepfunction/1\nname: W\nstart: A\nsteps: {A: {func: quoted}}"
    )
    names = ("--registry", "shop.workflows:FUNCTIONS")
    for name in ("check", "list", "graph"):
        assert run(name, str(flow), *names)[0] == 0
    code, out, _ = run("run", str(flow), *names, input='{"amount": 3}')
    assert (code, json.loads(out)) == (0, {"total": 6})


def test_a_workflow_that_fails_ends_with_1(run):
    code, out, err = run("run", "shop.Sale", input='{"car": "Roadster"}')
    assert (code, out) == (1, "")
    assert "ValueError: no stock for Roadster" in err


def test_all_that_happened_is_given_as_json(run):
    _, out, _ = run("run", "shop.Quote", input='{"amount": 1}', json=True)
    assert json.loads(out)["execution"]["workflow"] == "Quote"


def test_a_mistyped_name_ends_with_2_and_what_may_be_meant(run):
    code, out, err = run("run", "shop.Quoet")
    assert (code, out) == (2, "")
    assert "did you mean 'shop.Quote'?" in err


@pytest.mark.parametrize("name", ["run", "graph", "check"])
def test_an_app_without_workflows_is_wrong_use(run, name):
    code, out, err = run(name, "auth")
    assert (code, out) == (2, "")
    assert "the app auth has no workflow" in err


def test_a_mistyped_app_is_told_what_may_be_meant(run):
    assert "did you mean 'shop'?" in run("check", "shopp")[2]


def test_an_input_that_is_no_json_ends_with_2(run):
    assert run("run", "shop.Quote", input="{")[0] == 2


def test_an_app_of_several_workflows_is_told_to_name_one(run):
    code, _, err = run("run", "shop")
    assert code == 2
    assert "shop has 3 workflows; name one: shop.Quote, shop.Sale, shop.Nightly" in err


def test_an_executor_that_is_none_is_wrong_use():
    with pytest.raises(CommandError, match="did you mean 'thread'"):
        call_command("stepfunction_run", "shop.Quote", "--executor", "thred")


def test_a_shell_is_given_the_answer_alone_and_the_exit_code():
    done = manage("stepfunction_run", "shop.Quote", "--input", '{"amount": 3}')
    assert (done.returncode, done.stdout) == (0, '{"total": 6}\n')
    done = manage("stepfunction_run", "shop.Sale", "--input", '{"car": "T"}')
    assert (done.returncode, done.stdout) == (1, "")


def test_a_shell_may_give_the_input_by_a_pipe():
    arguments = ("stepfunction_run", "shop.Quote", "--input", "-")
    done = manage(*arguments, input='{"amount": 1}')
    assert (done.returncode, done.stdout) == (0, '{"total": 2}\n')


def test_arguments_that_cannot_be_read_end_with_2():
    done = manage("stepfunction_run", "shop.Quote", "--inptu", "1")
    assert done.returncode == 2
    assert "--inptu" in done.stderr


@pytest.mark.parametrize("option", ["--no-color", "--force-color"])
def test_a_shell_may_ask_for_colors_or_none(option):
    done = manage("stepfunction_check", "shop.Quote", option)
    assert ("\x1b[32m" in done.stdout) is (option == "--force-color")


def test_the_help_shows_names_of_apps():
    done = manage("stepfunction_run", "--help")
    assert done.returncode == 0
    assert "stepfunction_run shop.Checkout --input '{\"id\": 17}'" in done.stdout
    assert "orders.py" not in done.stdout


SLOW = """\
import asyncio, json, sys
import django
django.setup()
import shop.workflows
from django.core.management import execute_from_command_line
from shop.views import sleep
from stepfunction import StepFunction

async def sleep_async(path):
    open(path, "w").close()
    await asyncio.sleep(600)

kind, path = sys.argv[1:]
slow = StepFunction("Slow").set_start_step("Wait")
if kind == "async":
    slow.add_step("Wait", sleep_async)
elif kind == "tasks":
    slow.add_parallel_step("Wait", {"a": sleep, "b": sleep})
else:
    slow.add_step("Wait", sleep, executor=None if kind == "plain" else kind)
shop.workflows.slow = slow
run = ["manage.py", "stepfunction_run", "shop.Slow", "--input", json.dumps(path)]
execute_from_command_line(run)
"""


@pytest.mark.parametrize("kind", ["plain", "async", "thread", "tasks", "process"])
def test_ctrl_c_ends_a_command_and_all_its_processes_with_130(kind, tmp_path):
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", SLOW, kind, str(begun)]
    with Session(command, cwd=HERE, env=environment()) as session:
        wait_for(begun)
        os.kill(session.process.pid, signal.SIGINT)
        assert session.process.wait(timeout=10) == 130
        assert session.leaves_nobody()


# --- check, graph, list -------------------------------------------------------------


def test_all_workflows_of_an_app_are_checked(run):
    code, out, _ = run("check", "shop")
    assert (code, out) == (0, "shop.Quote: ok\nshop.Sale: ok\nshop.Nightly: ok\n")


def test_all_workflows_of_the_project_are_checked_where_none_is_named(run, monkeypatch):
    bad = StepFunction("Bad").add_step("A", str)
    monkeypatch.setattr(workflows, "bad", bad, raising=False)
    code, out, err = run("check")
    assert (code, out) == (2, "shop.Quote: ok\nshop.Sale: ok\nshop.Nightly: ok\n")
    assert err.startswith("shop.Bad: 1 problem\n")


def test_a_project_without_workflows_has_none_that_is_wrong(run, monkeypatch):
    monkeypatch.delitem(sys.modules, workflows.__name__)
    assert run("check") == (0, "", "no app has workflows\n")


def test_an_unsound_workflow_is_told_of_with_2(run, monkeypatch):
    bad = StepFunction("Bad").add_step("A", str)
    monkeypatch.setattr(workflows, "bad", bad, raising=False)
    code, _, err = run("check", "shop.Bad")
    assert code == 2
    assert err.startswith("shop.Bad: 1 problem\n  - no start step")


def test_a_workflow_is_drawn(run, tmp_path):
    assert run("graph", "shop.Quote")[1] == "Quote\n└─ Price  (end)\n"
    code, _, err = run("graph", "shop.Quote", "-o", str(tmp_path / "quote.svg"))
    assert (code, err) == (0, f"drawn: {tmp_path}/quote.svg\n")
    assert (tmp_path / "quote.svg").read_text().startswith("<?xml")


def test_a_picture_that_code_cannot_take_is_refused(run):
    code, _, err = run("graph", "shop.Quote", format="png")
    assert code == 2
    assert "name a file with -o" in err


def test_a_shell_is_given_a_picture():
    done = subprocess.run(
        [*MANAGE, "stepfunction_graph", "shop.Quote", "--format", "png"],
        cwd=HERE,
        env=environment(),
        capture_output=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\x89PNG")


@pytest.mark.parametrize("module", [(), ("shop",)])
def test_the_workflows_of_the_project_are_listed(run, module):
    code, out, err = run("list", *module)
    assert (code, err) == (0, "")
    assert out == (
        "shop.Quote    Quote    1 step\n"
        "shop.Sale     Sale     1 step\n"
        "shop.Nightly  Nightly  1 step\n"
    )


def test_the_workflows_of_a_module_are_listed_as_the_command_line_does(run):
    assert run("list", "shop.workflows")[1].startswith("shop.workflows:quote")


def test_an_app_without_workflows_is_said_to_have_none(run):
    assert run("list", "auth") == (0, "", "auth has no workflows\n")


def test_a_function_that_fails_is_told_of_beside_the_others(run, monkeypatch):
    def broken() -> StepFunction:
        raise OSError("no key")

    broken.__module__ = workflows.__name__
    monkeypatch.setattr(workflows, "broken", broken, raising=False)
    code, out, err = run("list")
    assert code == 2
    assert out.count("\n") == 3
    assert "shop.workflows:broken() failed: OSError: no key" in err


# --- python -m stepfunction ---------------------------------------------------------


def stepfunction(*arguments, folder=HERE, **variables):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "stepfunction", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_the_command_line_sets_django_up_where_settings_are_named():
    done = stepfunction("run", "shop.Quote", "--input", '{"amount": 5}')
    assert (done.returncode, done.stdout) == (0, '{"total": 10}\n'), done.stderr


COUNT = """\
from shop.models import Car
from stepfunction import StepFunction
names = StepFunction("Names").add_step("Ask", lambda _: Car._meta.db_table)
names.set_start_step("Ask")
"""


def test_a_file_may_import_models(tmp_path):
    (tmp_path / "names.py").write_text(COUNT)
    done = stepfunction("run", str(tmp_path / "names.py"))
    assert (done.returncode, done.stdout) == (0, '"shop_car"\n'), done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("shop.setings", "No module named 'shop.setings'"),
        ("nowhere.settings", "No module named 'nowhere'"),
        ("failing", "ZeroDivisionError: division by zero"),
        ("leaving", "SystemExit: 3"),
    ],
)
def test_settings_that_cannot_be_used_are_told_of_with_2(settings, said, tmp_path):
    (tmp_path / "failing.py").write_text("1 / 0\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    done = stepfunction(
        "list", "json", folder=tmp_path, DJANGO_SETTINGS_MODULE=settings
    )
    assert done.returncode == 2
    assert f"DJANGO_SETTINGS_MODULE is {settings!r}, and Django cannot" in done.stderr
    assert said in done.stderr


def test_a_failing_setting_is_shown_with_its_line(tmp_path):
    (tmp_path / "failing.py").write_text("1 / 0\n")
    done = stepfunction(
        "list", "json", folder=tmp_path, DJANGO_SETTINGS_MODULE="failing"
    )
    assert "failing.py" in done.stderr
    assert "1 / 0" in done.stderr


def test_a_missing_settings_module_is_said_in_one_line(tmp_path):
    done = stepfunction(
        "list", "json", folder=tmp_path, DJANGO_SETTINGS_MODULE="nowhere"
    )
    assert done.stderr.count("\n") == 1


def test_where_django_is_missing_the_settings_are_no_matter(tmp_path):
    (tmp_path / "django.py").write_text("raise ModuleNotFoundError(name='django')\n")
    (tmp_path / "flow.py").write_text(
        "from stepfunction import StepFunction\n"
        "one = StepFunction('One').add_step('A', lambda _: 1).set_start_step('A')\n"
    )
    done = stepfunction(
        "run", "flow.py", folder=tmp_path, DJANGO_SETTINGS_MODULE="nowhere"
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_report_of_a_file_needs_no_project(tmp_path):
    done = stepfunction(
        "report", "missing.json", "-o", "x.html", DJANGO_SETTINGS_MODULE="nowhere"
    )
    assert "missing.json" in done.stderr


# --- what is stored -----------------------------------------------------------------


def test_a_stored_execution_is_listed_shown_and_lost(run, tmp_path):
    store = str(tmp_path / "runs.db")
    given = ("run", "shop.Quote", "--store", store, "--id", "quote-1")
    first = run(*given, input='{"amount": 21}')
    assert run(*given, input='{"amount": 21}')[:2] == first[:2]
    assert run("history", "--store", store)[1].split()[:3] == [
        "quote-1",
        "Quote",
        "COMPLETED",
    ]
    assert run("show", "quote-1", "--store", store)[1].startswith("quote-1: Quote ")
    assert run("resume", "shop.Quote", "quote-1", "--store", store)[:2] == first[:2]
    assert run("recover", "shop", "--store", store)[:2] == (0, "")
    assert run("prune", "--store", store, "--older-than", "0s")[0] == 0
    assert run("history", "--store", store)[1] == ""
