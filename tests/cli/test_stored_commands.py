from __future__ import annotations

import json
import subprocess
import sys

import pytest
from shared.commands import COMMAND, environment
from shared.processes import wait_for

from stepfunction import Execution
from stepfunction.stores import SQLiteStore

# "Pay" waits, dies, fails or goes well, as the files in the folder say.
SHOP = """\
import os, time
from pathlib import Path
from stepfunction import StepFunction

def first(order):
    with open("calls", "a") as calls:
        calls.write("first ")
    return order

def pay(order):
    with open("calls", "a") as calls:
        calls.write("pay ")
    if Path("die").exists():
        os._exit(9)
    if Path("broke").exists():
        raise ValueError("no money")
    while Path("wait").exists():
        time.sleep(0.01)
    return {"paid": order}

shop = StepFunction("Shop").set_start_step("First")
shop.add_step("First", first, "Pay").add_step("Pay", pay, "Last")
shop.add_step("Last", lambda order: order)
"""


class Shop:
    """A folder with a workflow and a store."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "shop.py").write_text(SHOP)

    def start(self, *arguments):
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--store", "runs.db"],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments):
        program = self.start(*arguments)
        out, err = program.communicate(timeout=50)
        return program.returncode, out, err

    def run(self, id="order-17"):
        return self("run", "shop.py", "--input", "17", "--id", id)

    def say(self, name):
        (self.folder / name).touch()

    def unsay(self, name):
        (self.folder / name).unlink()

    @property
    def calls(self):
        return (self.folder / "calls").read_text().split()

    def store(self):
        return SQLiteStore(self.folder / "runs.db")


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.fixture
def died(shop):
    shop.say("die")
    assert shop.run()[0] == 9
    shop.unsay("die")
    return shop


@pytest.fixture
def failed(shop):
    shop.say("broke")
    assert shop.run()[0] == 1
    shop.unsay("broke")
    return shop


def replace(shop, old, new):
    path = shop.folder / "shop.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- run ----------------------------------------------------------------------------


def test_run_keeps_the_execution(shop):
    assert shop.run()[:2] == (0, '{"paid": 17}\n')
    with shop.store() as store:
        (kept,) = store.list()
    assert (kept.id, kept.workflow, kept.status) == ("order-17", "Shop", "COMPLETED")


def test_the_same_run_again_calls_nothing_and_gives_the_same(shop):
    assert shop.run()[:2] == shop.run()[:2]
    assert shop.calls == ["first", "pay"]


def test_the_same_run_again_fails_again_without_a_call(failed):
    code, out, err = failed.run()
    assert (code, out) == (1, "")
    assert "no money" in err
    assert "it had ended before: nothing is called again; resume it" in err
    assert failed.calls == ["first", "pay"]


def test_the_same_run_goes_on_with_what_died(died):
    assert died.run()[:2] == (0, '{"paid": 17}\n')
    assert died.calls == ["first", "pay", "pay"]


def test_run_says_what_it_called_an_execution_without_an_id(shop):
    code, out, err = shop("run", "shop.py", "--input", "17")
    assert (code, out) == (0, '{"paid": 17}\n')
    with shop.store() as store:
        (kept,) = store.list()
    assert f"stored as {kept.id}\n" in err


def test_an_id_is_refused_where_nothing_is_stored(run):
    code, out, err = run("run", "orders.py:echo", "--id", "17")
    assert (code, out) == (2, "")
    assert "--store" in err


def test_another_input_is_refused(shop):
    assert shop.run()[0] == 0
    code, out, err = shop("run", "shop.py", "--input", "18", "--id", "order-17")
    assert (code, out) == (2, "")
    assert "input" in err


def test_what_another_process_runs_is_refused(shop):
    shop.say("wait")
    program = shop.start("run", "shop.py", "--input", "17", "--id", "order-17")
    wait_for(shop.folder, "calls")
    code, out, err = shop.run()
    shop.unsay("wait")
    assert program.communicate(timeout=50)[0] == '{"paid": 17}\n'
    assert (code, out) == (2, "")
    assert str(program.pid) in err


def test_a_store_in_no_folder_is_refused(shop):
    program = subprocess.run(
        [*COMMAND, "run", "shop.py", "--store", "nowhere/runs.db", "--id", "x"],
        cwd=shop.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (program.returncode, program.stdout) == (2, "")
    assert "nowhere" in program.stderr
    assert not (shop.folder / "calls").exists()


def test_an_interrupted_run_can_be_resumed(shop):
    shop.say("wait")
    program = shop.start("run", "shop.py", "--input", "17", "--id", "order-17")
    wait_for(shop.folder, "calls")
    while "pay" not in shop.calls:
        pass
    program.send_signal(2)
    out, err = program.communicate(timeout=50)
    assert (program.returncode, out) == (130, "")
    assert "can be resumed" in err
    shop.unsay("wait")
    assert shop("recover", "shop.py")[0] == 0
    assert shop.calls == ["first", "pay", "pay"]


# --- resume and recover -------------------------------------------------------------


def test_resume_goes_on_from_the_step_that_failed(failed):
    assert failed("resume", "shop.py", "order-17")[:2] == (0, '{"paid": 17}\n')
    assert failed.calls == ["first", "pay", "pay"]


def test_resume_takes_an_answer_for_the_step_that_failed(failed):
    given = ("resume", "shop.py", "order-17", "--answer", '"by hand"')
    assert failed(*given)[:2] == (0, '"by hand"\n')
    assert failed.calls == ["first", "pay"]


def test_an_answer_may_be_null(failed):
    given = ("resume", "shop.py", "order-17", "--answer", "null")
    assert failed(*given)[:2] == (0, "null\n")


def test_resume_goes_back_to_a_step(failed):
    given = ("resume", "shop.py", "order-17", "--start-at", "First")
    assert failed(*given)[0] == 0
    assert failed.calls == ["first", "pay", "first", "pay"]


def test_resume_refuses_another_shape_and_lists_what_is_other(failed):
    replace(failed, '"Last"', '"Final"')
    code, out, err = failed("resume", "shop.py", "order-17")
    assert (code, out) == (2, "")
    assert "'Final'" in err and "'Last'" in err
    assert failed("resume", "shop.py", "order-17", "--allow-changed")[0] == 0


def test_resume_of_an_unknown_id_is_refused(failed):
    code, out, err = failed("resume", "shop.py", "order-18")
    assert (code, out) == (2, "")
    assert "'order-18'" in err


def test_recover_says_what_became_of_each(died):
    died.say("broke")
    assert died.run("order-18")[0] == 1
    died.unsay("broke")
    died.say("die")
    assert died.run("order-19")[0] == 9
    died.unsay("die")
    code, out, _ = died("recover", "shop.py")
    assert code == 0
    assert sorted(map(str.split, out.splitlines())) == [
        ["order-17", "Shop", "COMPLETED"],
        ["order-19", "Shop", "COMPLETED"],
    ]
    assert died("recover", "shop.py") == (0, "", "nothing has died\n")


def test_recover_fails_where_one_of_them_does(died):
    died.say("broke")
    code, out, _ = died("recover", "shop.py")
    assert (code, out.split()) == (1, ["order-17", "Shop", "FAILED"])


def test_recover_says_what_it_refuses(died):
    replace(died, '"Last"', '"Final"')
    code, out, _ = died("recover", "shop.py")
    assert code == 2
    assert out.startswith("order-17  Shop  refused: ")


# --- history, show, report, prune ---------------------------------------------------


def test_history_lists_the_latest_first(failed):
    assert failed.run("order-18")[0] == 0
    code, out, err = failed("history")
    assert (code, err) == (0, "")
    first, second = map(str.split, out.splitlines())
    assert first[:3] == ["order-18", "Shop", "COMPLETED"]
    assert second[:3] == ["order-17", "Shop", "FAILED"]


def test_history_says_what_can_be_resumed(died):
    assert died("history")[1].endswith("can be resumed\n")


def test_history_says_who_runs_it(shop):
    shop.say("wait")
    program = shop.start("run", "shop.py", "--input", "17", "--id", "order-17")
    wait_for(shop.folder, "calls")
    _, out, _ = shop("history")
    shop.unsay("wait")
    program.communicate(timeout=50)
    assert f"runs in process {program.pid} on " in out


@pytest.mark.parametrize(
    "options, ids",
    [
        (["--status", "FAILED"], ["order-17"]),
        (["--workflow", "Shop", "--limit", "1"], ["order-18"]),
        (["--workflow", "Other"], []),
        (["--since", "1h"], ["order-18", "order-17"]),
        (["--since", "0s"], []),
    ],
)
def test_history_lists_only_those_that_are_asked_for(failed, options, ids):
    assert failed.run("order-18")[0] == 0
    code, out, err = failed("history", "--json", *options)
    assert (code, [each["id"] for each in json.loads(out)]) == (0, ids)


def test_history_of_nothing_says_so(died):
    code, out, err = died("history", "--workflow", "Other")
    assert (code, out) == (0, "")
    assert err == "no execution of these is stored\n"


def test_an_id_sends_a_terminal_no_orders(shop):
    shop.run("\x1b[31mred")
    assert "\x1b" not in shop("history")[1]


def test_show_tells_each_step(failed):
    code, out, _ = failed("show", "order-17")
    head, first, pay, *rest = out.splitlines()
    assert code == 0
    assert head.startswith("order-17: Shop FAILED after 2 steps in ")
    assert first.split()[:2] == ["First", "SUCCEEDED"]
    assert pay.split()[:2] == ["Pay", "FAILED"]
    assert pay.endswith("ValueError: no money")
    assert rest == []


def test_show_gives_all_as_json_for_a_report(failed, tmp_path):
    code, out, _ = failed("show", "order-17", "--json")
    execution = Execution.from_json(out)
    assert (code, execution.id, execution.status) == (0, "order-17", "FAILED")


def test_show_leaves_out_items_that_went_well(shop):
    replace(shop, "shop.add_step(\"First\", first, \"Pay\")", "shop.add_map_step("
            "\"First\", lambda n: 1 / n, items=lambda _: range(100), next_step=\"Pay\","
            "tolerated_failures=1)")
    assert shop("run", "shop.py", "--id", "many")[0] == 0
    code, out, _ = shop("show", "many")
    head, first, item, *rest = out.splitlines()
    assert (code, len(rest)) == (0, 2)
    assert first.endswith(", 100 items")
    assert item.split()[:3] == ["item", "0", "FAILED"]
    assert item.endswith("ZeroDivisionError: division by zero")


def test_report_of_a_stored_execution(failed):
    code, out, err = failed("report", "order-17", "-o", "run.html")
    assert (code, out) == (0, "")
    assert "report: " in err
    assert "no money" in (failed.folder / "run.html").read_text()


def test_prune_loses_what_has_ended(failed):
    assert failed.run("order-18")[0] == 0
    failed.say("die")
    assert failed.run("order-19")[0] == 9
    code, out, err = failed("prune", "--older-than", "0s", "--dry-run")
    assert (code, err) == (0, "would be lost: 2 executions\n")
    assert failed("prune", "--older-than", "1h") == (0, "", "lost: 0 executions\n")
    code, out, err = failed("prune", "--older-than", "0s")
    assert (code, err) == (0, "lost: 2 executions\n")
    assert [line.split()[0] for line in out.splitlines()] == ["order-18", "order-17"]
    assert [it["id"] for it in json.loads(failed("history", "--json")[1])] == [
        "order-19"
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["resume", "orders.py:echo", "x"],
        ["recover", "orders.py:echo"],
        ["history"],
        ["show", "x"],
        ["report", "x", "-o", "run.html"],
        ["prune", "--older-than", "1d"],
    ],
)
def test_a_mistyped_store_is_not_made(run, tmp_path, command):
    path = tmp_path / "runs.bd"
    code, out, err = run(*command, "--store", path)
    assert (code, out) == (2, "")
    assert f"there is no store '{path}'" in err
    assert not path.exists()


def test_a_file_that_is_no_store_is_refused(run, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no store")
    code, out, err = run("history", "--store", path)
    assert (code, out) == (2, "")
    assert "stepfunction: " in err


@pytest.mark.parametrize(
    "command",
    [
        ["history", "--since", "soon"],
        ["history", "--since", "-1d"],
        ["history", "--since", "nans"],
        ["history", "--limit", "-1"],
        ["history", "--status", "DONE"],
        ["prune"],
        ["prune", "--older-than", "30"],
        ["show"],
        ["resume", "orders.py:echo"],
    ],
)
def test_wrong_arguments_are_refused(misuse, command):
    assert misuse(*command, "--store", "runs.db").startswith("usage: ")


def test_the_store_is_no_dear_import():
    program = "import sys, stepfunction.cli; sys.exit('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=environment())
    assert done.returncode == 0
