from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from shared.commands import COMMAND, DATA, environment
from shared.processes import Session

import stepfunction
from stepfunction.cli import main

SECONDS = 20  # no test waits for that


# --- the terminal -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "run", "check", "graph", "report", "list"])
def test_help_has_examples(capsys, name):
    with pytest.raises(SystemExit) as raised:
        main([*filter(None, [name]), "--help"])
    out = capsys.readouterr().out
    assert raised.value.code == 0
    assert re.search(rf"examples?:\n.*  stepfunction {name}", out, re.DOTALL)
    assert max(map(len, out.splitlines())) <= 88


def test_version_says_which_distribution_this_is_of_and_where_it_lies(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    home = Path(stepfunction.__file__).parent
    said = f"stepfunction-sync {stepfunction.__version__} from {home}\n"
    assert capsys.readouterr() == (said, "")


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


class Command(Session):
    def __init__(self, path, *arguments):
        self.started = path / "started"
        super().__init__(
            [*COMMAND, *arguments],
            cwd=DATA,
            env=environment(ORDERS_STARTED=str(self.started)),
            stdin=subprocess.PIPE,
        )

    def wait_until_it_runs(self):
        end = time.monotonic() + SECONDS
        while not self.started.exists():
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(0.01)

    def interrupt(self, send):
        send(self.process.pid, signal.SIGINT)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "terminal"])
@pytest.mark.parametrize("name", ["hanging", "hanging_thread", "_holding"])
def test_an_interrupt_ends_it_with_one_line_and_leaves_nobody(tmp_path, name, send):
    with Command(tmp_path, "run", f"orders.py:{name}") as running:
        running.wait_until_it_runs()
        ended = running.interrupt(send)
        assert ended == (130, "", "stepfunction: interrupted\n")
        assert running.leaves_nobody(SECONDS)


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
        # A signal that comes right before a sleep does not end it.
        "while True: time.sleep(0.1)\n"
    )
    with Command(tmp_path, "list", str(path)) as running:
        running.wait_until_it_runs()
        assert running.interrupt(os.kill) == (130, "", "stepfunction: interrupted\n")


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


def test_texts_of_the_users_end_no_line_and_send_a_terminal_no_orders(run, tmp_path):
    script = tmp_path / f"forging_{tmp_path.name[-1]}.py"
    script.write_text(
        "from stepfunction import StepFunction\n"
        "EVIL = 'a\\n  - ok\\x1b[2J\\x07\\r'\n"
        "def bad(_): raise ValueError(EVIL)\n"
        "workflow = StepFunction(EVIL).add_step(EVIL, bad, on_failure=EVIL + 'b')\n"
        "workflow.add_step(EVIL + 'b', bad).set_start_step(EVIL)\n"
    )
    for command in ("run", "check", "list", "graph"):
        _, out, err = run(command, script)
        for line in (out + err).splitlines():
            assert line.isprintable()
            # The traceback of the user's own exception has its text as it is.
            assert line != "  - ok" or command == "run"
    assert "a\\n  - ok␛[2J" in run("list", script)[1]


def test_an_answer_sends_a_terminal_no_orders_and_is_the_same(run, tmp_path):
    script = tmp_path / f"answering_{tmp_path.name[-1]}.py"
    text = "a\x9b31m\u2028\u202e\x85\N{LATIN SMALL LETTER E WITH ACUTE}\U000e0001"
    script.write_text(
        "from stepfunction import StepFunction\n"
        f"workflow = StepFunction('W').add_step('A', lambda: {text!a})\n"
        "workflow.set_start_step('A')\n"
    )
    code, out, err = run("run", script)
    assert (code, json.loads(out)) == (0, text)
    assert out[:-1].isprintable()
    assert "é" in out


@pytest.mark.parametrize("error", ["HostileError", "EmptyError"])
def test_an_error_that_refuses_to_be_asked_is_told(run, tmp_path, error):
    script = tmp_path / f"refusing_{tmp_path.name[-1]}_{error}.py"
    script.write_text(
        f"from shared.hostile import {error}, Hostile\n"
        "from stepfunction import StepFunction\n"
        f"def bad(*_): raise {error}('boom')\n"
        "def made(): bad()\n"
        "def other(): return Hostile()\n"
        "workflow = StepFunction('W').add_step('A', bad).set_start_step('A')\n"
    )
    code, out, err = run("run", f"{script}:workflow")
    assert (code, out) == (1, "")
    assert f"{error}: " in err and "in bad" in err
    for command in ("run", "check", "graph"):
        code, out, err = run(command, f"{script}:made")
        assert code == 2
        assert f"{error}: " in out + err
    code, out, err = run("run", f"{script}:other")
    assert (code, "returned a value of type 'Hostile'" in err) == (2, True)


@pytest.mark.parametrize("ending", ["SystemExit(3)", "GeneratorExit()"])
def test_a_step_that_ends_the_program_is_told_in_a_line(run, tmp_path, ending):
    script = tmp_path / f"ending_{tmp_path.name[-1]}_{ending[:3]}.py"
    script.write_text(
        "from stepfunction import StepFunction\n"
        f"def leave(): raise {ending}\n"
        "workflow = StepFunction('W').add_step('A', leave).set_start_step('A')\n"
    )
    code, out, err = run("run", script)
    assert (code, out) == (1, "")
    assert err.startswith(f"stepfunction: a step ended the program: {ending[:10]}")
