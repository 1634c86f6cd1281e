from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from shared.events import Telling
from shared.stragglers import Straggler, alone, double, fan, interrupt, refuse

import stepfunction
from stepfunction import RetryPolicy, StepExecutionError, StepFunction
from stepfunction.progress import RichProgress

PATIENT = RetryPolicy(max_attempts=3, interval=0.002, jitter=None)
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
RED = "\x1b[31m"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


class Screen(io.StringIO):
    """What is written, of which a step may wait to see something."""

    def __init__(self):
        super().__init__()
        self.grown = threading.Condition()

    def write(self, text):
        with self.grown:
            self.grown.notify_all()
            return super().write(text)

    @property
    def text(self):
        """What is written, without colours and movements."""
        return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", self.getvalue())

    def wait_for(self, pattern):
        def is_there():
            return re.search(pattern, self.text)

        with self.grown:
            assert self.grown.wait_for(is_there, 20), self.text


class Shown:
    def __init__(self, is_terminal):
        self.screen = Screen()
        self.console = Console(file=self.screen, force_terminal=is_terminal, width=100)
        self.progress = RichProgress(self.console)

    def run(self, workflow, *args, **options):
        return workflow.execute(*args, listeners=[self.progress], **options)

    @property
    def lines(self):
        """The lines without the times, which differ."""
        took = re.compile(r"\b\d[\d.e-]* [mµ]?s\b")
        return [took.sub("…", line) for line in self.screen.text.splitlines()]


@pytest.fixture
def terminal():
    return Shown(True)


@pytest.fixture
def file():
    return Shown(False)


def refuse_once(value, context):
    if context.attempt == 1:
        raise OSError("not yet")
    return value


def test_a_file_gets_a_line_of_each_step(file):
    workflow = StepFunction("Chain").add_step("First", double, "Second")
    file.run(workflow.add_step("Second", double).set_start_step("First"), 1)
    assert file.lines == [
        "Chain / First succeeded in …",
        "Chain / Second succeeded in …",
        "Chain COMPLETED in …",
    ]


def test_a_file_gets_a_line_of_each_failure(file):
    workflow = alone(refuse, "Try", on_failure="Mend").add_step("Mend", str)
    file.run(workflow)
    assert file.lines == [
        "Alone / Try failed in …, going on with Mend: ValueError: no room left",
        "Alone / Mend succeeded in …",
        "Alone FAILED in …: ValueError: no room left",
    ]


def test_a_file_gets_a_line_of_each_retry(file):
    file.run(alone(refuse_once, retry=PATIENT), 1)
    assert file.lines == [
        "Alone / Only: attempt 1 is followed by another in …: OSError: not yet",
        "Alone / Only succeeded in …, 2 attempts",
        "Alone COMPLETED in …",
    ]


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_a_file_gets_a_line_of_each_task_that_fails(file, executor):
    file.run(fan({"good": double, "bad": refuse}, executor=executor), 1)
    assert file.lines == [
        "Fan / All.bad failed in …: ValueError: no room left",
        "Fan / All succeeded in …",
        "Fan COMPLETED in …",
    ]


@pytest.mark.parametrize("executor", ["thread", "process", "inline"])
def test_lines_of_nested_workflows_say_where_they_are(file, executor):
    nested = fan({"task": alone(alone(refuse), "Nest")}, executor=executor)
    file.run(nested)
    where = "Fan / All.task / Nest"
    assert file.lines[0] == f"{where} / Only failed in …: ValueError: no room left"
    assert file.lines[1].startswith("Fan / All.task / Nest failed in …: StepExec")
    assert file.lines[2].startswith("Fan / All.task failed in …: StepExecutionError")
    assert file.lines[3:] == ["Fan / All succeeded in …", "Fan COMPLETED in …"]


def test_a_file_gets_no_escape_codes(file):
    def fail(_):
        raise ValueError("\x1b[31mred\x1b[0m \x1b]0;title\x07 and\nmore \x9b1m")

    with pytest.raises(StepExecutionError):
        file.run(alone(fail, "\x1b[1mBold"))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", file.screen.getvalue())
    assert file.lines[0] == "Alone / Bold failed in …: ValueError: red and more �1m"


def test_names_are_no_markup(file):
    file.run(alone(double, "[red]:smile:[/red]"), 1)
    assert file.lines[0] == "Alone / [red]:smile:[/red] succeeded in …"


def test_a_long_line_stays_one_line(file):
    file.run(alone(double, "x" * 300), 1)
    assert len(file.lines) == 2


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TTY_INTERACTIVE": "0"}])
def test_a_terminal_that_cannot_go_back_gets_lines(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    dull = Shown(True)
    dull.run(alone(double), 1)
    assert dull.lines == ["Alone / Only succeeded in …", "Alone COMPLETED in …"]


def test_a_terminal_shows_the_running_step_and_its_time(terminal):
    def work(_):
        terminal.screen.wait_for(r"Alone +0 steps done +0:00:0\d *\n. Only +0:00:01")

    terminal.run(alone(work))


def test_a_terminal_counts_the_steps_that_have_ended(terminal):
    workflow = alone(double, "First", next_step="Second")
    pattern = r"Alone +1 step done +[\d:]+ *\n. Second "
    workflow.add_step("Second", lambda _: terminal.screen.wait_for(pattern))
    terminal.run(workflow, 1)


def test_a_terminal_shows_a_bar_of_a_parallel_step(terminal):
    def work(_):
        terminal.screen.wait_for(r". All +━{6,}.*2 of 3, 1 failed +0:00:0")

    terminal.run(fan({"good": double, "bad": refuse, "last": work}), 1)


def test_a_terminal_shows_how_many_retries_there_were_of_tasks(terminal):
    def work(_):
        terminal.screen.wait_for("1 of 2, 1 retry ")

    terminal.run(fan({"flaky": refuse_once, "last": work}, retry=PATIENT), 1)


def test_a_terminal_shows_which_attempt_runs(terminal):
    def work(_, context):
        if context.attempt == 1:
            raise OSError("not yet")
        terminal.screen.wait_for("Only +attempt 2 ")

    terminal.run(alone(work, retry=PATIENT))


def test_a_terminal_shows_nested_steps_indented(terminal):
    def work(_):
        terminal.screen.wait_for(r"\n. Outer .*\n  . Inner .*\n    . Only ")

    terminal.run(alone(alone(alone(work), "Inner"), "Outer"))


@pytest.mark.parametrize("executor", ["thread", "inline"])
def test_a_terminal_shows_the_steps_of_each_task(terminal, executor):
    def work(_):
        terminal.screen.wait_for(r"\n. All .*\n  . here: Only ")

    terminal.run(fan({"here": alone(work)}, executor=executor))


def test_a_terminal_shows_what_a_process_does(terminal, tmp_path):
    seen = tmp_path / "seen"

    def work(_):
        terminal.screen.wait_for(r"\n. Outer .*\n  . Wait ")
        seen.touch()

    watching = threading.Thread(target=work, args=[None])
    watching.start()
    nested = alone(wait_for_file, "Wait")
    terminal.run(alone(nested, "Outer", executor="process"), str(seen))
    watching.join()


def wait_for_file(path):
    while not Path(path).exists():
        threading.Event().wait(0.01)


def test_a_terminal_gets_lines_of_failures_retries_and_the_end(terminal):
    workflow = alone(refuse, "Try", on_failure="Mend")
    workflow.add_step("Mend", refuse_once, "End", retry=PATIENT)
    terminal.run(workflow.add_step("End", str, ends="completed"), 1)
    said = [line for line in terminal.lines if " / " in line or "COMPLETED" in line]
    assert said == [
        "Alone / Try failed in …, going on with Mend: ValueError: no room left",
        "Alone / Mend: attempt 1 is followed by another in …: OSError: not yet",
        "Alone COMPLETED in …",
    ]


@pytest.mark.parametrize("no_color", [True, False])
def test_colours_follow_no_color(monkeypatch, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    shown = Shown(True)
    with pytest.raises(StepExecutionError):
        shown.run(alone(refuse))
    assert (RED in shown.screen.getvalue()) is not no_color


@pytest.mark.parametrize("function", [double, refuse, interrupt])
def test_the_display_ends_with_the_execution(terminal, function):
    try:
        terminal.run(alone(alone(function), "Nest"), 1)
    except (StepExecutionError, KeyboardInterrupt):
        pass
    shown = terminal.screen.getvalue()
    assert shown.count(HIDE_CURSOR) == shown.count(SHOW_CURSOR) == 1
    assert shown.rindex(SHOW_CURSOR) > shown.rindex("Alone")
    assert terminal.progress._running == {}
    drawing = [
        thread
        for thread in threading.enumerate()
        if type(thread).__module__.startswith("rich")
    ]
    for thread in drawing:
        thread.join(20)
    assert not any(thread.is_alive() for thread in drawing)


def test_an_interrupt_of_another_listener_ends_the_display(terminal):
    def interrupt_us(event):
        if event.kind == "task_started":
            raise KeyboardInterrupt

    workflow = fan({"a": double})
    with pytest.raises(KeyboardInterrupt):
        workflow.execute(1, listeners=[terminal.progress, interrupt_us])
    assert terminal.screen.getvalue().count(SHOW_CURSOR) == 1


def test_the_display_ends_although_its_end_was_not_told(terminal):
    def interrupt_the_end(event):
        if event.kind == "execution_ended":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alone(double).execute(1, listeners=[interrupt_the_end, terminal.progress])
    gc.collect()
    assert terminal.screen.getvalue().count(SHOW_CURSOR) == 1
    assert terminal.progress._running == {}


def test_one_instance_serves_one_execution_after_the_other(terminal):
    for _ in range(3):
        terminal.run(alone(double), 1)
    assert terminal.screen.getvalue().count(SHOW_CURSOR) == 3
    assert sum("Alone COMPLETED in" in line for line in terminal.lines) == 3


def test_two_executions_at_once_share_the_display(terminal):
    def work(_):
        terminal.screen.wait_for(r"One .*\n. Only .*\nTwo .*\n. Only ")

    first = StepFunction("One").add_step("Only", work).set_start_step("Only")
    second = StepFunction("Two").add_step("Only", work).set_start_step("Only")
    running = [first.start(listeners=[terminal.progress])]
    terminal.screen.wait_for("One")
    running.append(second.start(listeners=[terminal.progress]))
    for execution in running:
        assert execution.wait(30)
        execution.raise_if_failed()
    shown = terminal.screen.getvalue()
    assert shown.count(HIDE_CURSOR) == shown.count(SHOW_CURSOR) == 1


def test_a_display_that_is_there_already_is_left_alone(terminal):
    with Live("somebody else's", console=terminal.console, auto_refresh=False) as live:
        terminal.run(alone(double), 1)
        assert live.is_started
    assert "Alone COMPLETED in" in terminal.screen.text


def test_an_abandoned_attempt_says_no_more(file):
    straggler = Straggler()
    straggler.workflow.execute(1, listeners=[file.progress])
    nested = "Fan / All.slow"
    assert [line for line in file.lines if line.startswith(f"{nested} / ")] == [
        f"{nested} / Hang succeeded in …",
        f"{nested} / More succeeded in …",
    ]


def test_what_was_abandoned_is_not_shown_any_more(terminal):
    has_ended = threading.Event()
    tasks = {
        "slow": alone(lambda _: has_ended.wait(20), "Hang"),
        "last": lambda _: terminal.screen.wait_for(r"2, 1 failed +[\d:]{7}\s*Fan"),
    }
    workflow = fan(tasks, max_workers=1, timeout=1)
    try:
        terminal.run(workflow)
    finally:
        has_ended.set()
    assert re.search(r"\n  . slow: Hang ", terminal.screen.text)
    assert sorted(workflow.last_result.failed) == ["slow"]


def test_what_steps_print_stays_where_it_goes(terminal, capsys):
    terminal.run(alone(lambda _: print("a result")))
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in terminal.screen.text


def run_script(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PACKAGE_HOME, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )


ALONE = """\
from stepfunction import StepFunction
from stepfunction.progress import RichProgress
workflow = StepFunction("Sum").add_step("Add", sum).set_start_step("Add")
print(workflow.execute([1, 2], listeners=[RichProgress()]).output)
"""


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}])
def test_it_goes_to_standard_error(environment):
    done = run_script(ALONE, **environment)
    assert done.stdout == "3\n"
    assert re.findall("Sum / Add succeeded", done.stderr) == ["Sum / Add succeeded"]
    assert HIDE_CURSOR not in done.stderr
    assert ("\x1b" in done.stderr) is bool(environment)


def test_nobody_who_reads_it_is_no_reason_to_end():
    close = "import os\nends = os.pipe()\nos.dup2(ends[1], 2)\n"
    done = run_script(close + "os.close(ends[0])\nos.close(ends[1])\n" + ALONE)
    assert (done.stdout, done.returncode) == ("3\n", 0)


def test_without_rich_the_error_says_what_to_install():
    code = "import sys; sys.modules['rich'] = None; import stepfunction.progress"
    assert run_script(code).stderr.splitlines()[-1] == (
        "ModuleNotFoundError: stepfunction.progress needs rich: pip install rich"
    )


def progressed(done, total):
    return {"subject": "step", "what": "progressed", "done": done, "total": total}


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (500, 1_000, "[━╸╺]+ +500 of 1,000"),
        (1_234, None, " 1,234 done"),
        (0, 0, " 0 of 0"),
    ],
)
def test_a_terminal_shows_how_far_a_map_step_has_come(terminal, done, total, said):
    told = progressed(done, total)
    listener = Telling(terminal.progress, "step_started", told)
    work = alone(lambda _: terminal.screen.wait_for(f"Only +{said}"))
    work.execute(listeners=[listener])


def test_a_file_gets_no_line_of_the_progress_of_a_map_step(file):
    listener = Telling(file.progress, "step_started", progressed(1, 2))
    alone(double).execute(1, listeners=[listener])
    assert file.lines == ["Alone / Only succeeded in …", "Alone COMPLETED in …"]


def test_items_that_fail_are_lines_and_are_counted(terminal):
    failed = {"subject": "task", "what": "failed", "part": 17}
    failed["error"] = ValueError("no room left")
    told = progressed(5, 10), failed
    listener = Telling(terminal.progress, "step_started", *told)
    work = alone(lambda _: terminal.screen.wait_for("5 of 10, 1 failed"))
    work.execute(listeners=[listener])
    assert "Alone / Only.17 failed in …: ValueError: no room left" in terminal.lines


def test_a_compensation_is_a_line_and_no_end_of_a_step(file):
    done = {"subject": "compensation", "what": "succeeded"}
    done |= {"step": "Pay", "duration": 0.5}
    failed = {**done, "what": "failed", "error": OSError("closed")}
    listener = Telling(file.progress, "step_succeeded", done, failed)
    alone(double).execute(1, listeners=[listener])
    assert file.lines[1:3] == [
        "Alone / Pay compensation succeeded in …",
        "Alone / Pay compensation failed in …: OSError: closed",
    ]


def test_a_terminal_gets_a_line_of_a_compensation_that_failed(terminal):
    done = {"subject": "compensation", "what": "succeeded"}
    done |= {"step": "Pay", "duration": 0.5}
    failed = {**done, "what": "failed", "error": OSError("closed")}
    listener = Telling(terminal.progress, "step_succeeded", done, failed)
    alone(double).execute(1, listeners=[listener])
    lines = [line for line in terminal.lines if "compensation" in line]
    assert lines == ["Alone / Pay compensation failed in …: OSError: closed"]
