"""Progress: what runs, on the terminal. The only file that imports rich.

Needs the extra ``rich``.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib import import_module
from io import StringIO
from time import time
from typing import IO, Any, TypeAlias, cast
from weakref import finalize

from stepfunction.core.keys import ChildKey
from stepfunction.core.outcomes import Outcome
from stepfunction.core.waiting import Latch, start
from stepfunction.core.watching.events import Event, path_text
from stepfunction.core.wording import counted, duration_text, error_text

try:
    from rich.console import Console, RenderableType
    from rich.errors import LiveError
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "stepfunction.progress needs rich: pip install rich",
        name=missing.name,
    ) from missing

_Key: TypeAlias = ChildKey
_Rows: TypeAlias = "dict[_Key, _Row | None]"  # None while no step of it runs
_Cells: TypeAlias = tuple[RenderableType, ...]
_FRAMES_PER_SECOND, _BAR_WIDTH = 10, 24
_FRAMES_IN_A_NOTEBOOK, _LINES_IN_A_NOTEBOOK = 4, 100
_PRE = (
    '<pre style="white-space: pre; overflow-x: auto; line-height: normal; '
    "font-family: Menlo, 'DejaVu Sans Mono', consolas, 'Courier New', monospace\">"
    "{code}</pre>"
)
_STYLES = {"retried": "yellow", "succeeded": "green", "ended": "bold"}
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\].*?(\x07|\x1b\\)|[@-Z\\-_])")


class RichProgress:
    """A listener that shows on a terminal what runs.

    On a terminal: the steps that run with the time they have taken, those of nested
    workflows indented below theirs, for a parallel step a bar of its tasks, and for a
    map step one of its items, or how many have ended where nobody knows how many there
    are. What fails, and what is retried, is a line that stays, as is the end of the
    execution. In a notebook it is the same, in one output that is written over in
    place, with the latest hundred of those lines.
    Anywhere else, as in a file: a line for each step that ends, fails or is retried,
    without escape codes.

    One instance serves any number of executions, also at once, which then share the
    display. Colours follow ``NO_COLOR``, as always with rich.

    Args:
        console: Where to show it; None for standard error.

    >>> from stepfunction import StepFunction
    >>> from stepfunction.progress import RichProgress
    >>> workflow = StepFunction("Sum").add_step("Add", sum).set_start_step("Add")
    >>> workflow.execute([1, 2], listeners=[RichProgress()]).output
    3
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is not None and not isinstance(console, Console):
            raise TypeError(f"console is a rich.console.Console, not {console!r}")
        self._console = console or _standard_error()
        self._running: dict[str, _Run] = {}  # the outermost, by their ids
        self._live: Live | _Notebook | None = None
        # Held to start and stop the display; a frame is drawn without it.
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if not event.place:
            if event.what in ("started", "resumed"):
                self._begin(event)
            else:
                self._end(event)
            return
        root = self._running.get(event.root_id)
        if root is None:
            return
        if event.subject != "compensation":
            root.take(event)
        # Of a nested execution its step, or task, tells.
        is_trouble = event.error is not None or event.pause is not None
        is_end = event.subject != "task" and event.what not in ("started", "progressed")
        if event.step is not None and (is_trouble or (is_end and root.is_plain)):
            self._print(root.workflow, event)

    def _begin(self, event: Event) -> None:
        root = _Run(event.workflow, event.time)
        with self._lock:
            self._running[event.root_id] = root
            root.is_plain = not self._show()
        # Where an interrupt keeps the end from being told: the display hides the
        # terminal's cursor, which must come back, at the latest when the program ends.
        finalize(event.execution, self._lose, event.root_id)

    def _end(self, event: Event) -> None:
        try:
            if event.root_id in self._running:
                self._print(event.workflow, event)
        finally:
            with self._lock:
                self._running.pop(event.root_id, None)
                self._hide_if_idle()

    def _lose(self, root_id: str) -> None:
        # The garbage collector may call this anywhere, so it must not wait.
        self._running.pop(root_id, None)
        if self._lock.acquire(blocking=False):
            try:
                self._hide_if_idle()
            finally:
                self._lock.release()

    def _hide_if_idle(self) -> None:
        if all(run.is_plain for run in list(self._running.values())):
            live, self._live = self._live, None
            if live is not None:
                live.stop()

    def _show(self) -> bool:
        """Start the display; say whether there is one."""
        if self._live is not None:
            return True
        if self._console.is_jupyter:
            return self._show_in_a_notebook()
        if not self._console.is_interactive:
            return False
        is_screen = _is_terminal(self._console.file)
        live = Live(
            get_renderable=self._frame,
            console=self._console,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            # What the steps print goes above the display, if it goes there at all.
            redirect_stdout=is_screen and _is_terminal(sys.stdout),
            redirect_stderr=is_screen and _is_terminal(sys.stderr),
        )
        self._live = live  # first, so that an interrupt finds what to stop
        try:
            live.start()
        except LiveError:  # before rich 14.1: another display has this console
            self._live = None
            return False
        return True

    def _show_in_a_notebook(self) -> bool:
        self._live = notebook = _Notebook(self._frame, self._console)
        try:
            notebook.start()
        except Exception:  # no IPython, or no thread: there are lines still
            self._live = None
            notebook.stop()
            return False
        return True

    def _frame(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        # Wide enough not to jump with each step.
        table.add_column(min_width=20, overflow="ellipsis", no_wrap=True)
        table.add_column(width=_BAR_WIDTH)
        table.add_column(min_width=18, no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        now, is_ascii = time(), not self._console.encoding.startswith("utf")
        for run in list(self._running.values()):
            if not run.is_plain:
                title = Text(_one_line(run.workflow), "bold")
                ended = f"{counted(run.ended, 'step')} done"
                table.add_row(title, "", ended, _age(run.began, now))
                for cells in _cells_of(run.rows, now, is_ascii):
                    table.add_row(*cells)
        return table

    def _print(self, workflow: str, event: Event) -> None:
        is_failure = event.error is not None and event.what != "retried"
        style = "red" if is_failure else _STYLES.get(event.what, "")
        text = Text(_line(workflow, event), style)
        live = self._live
        if isinstance(live, _Notebook):
            live.say(text)
        else:
            self._console.print(text, soft_wrap=True)


class _Notebook:
    """The display of a notebook: an output that is written over in place.

    Rich has one too, which needs widgets in the notebook.

    Args:
        frame: Gives what runs.
        console: Whose width and characters it has.
    """

    def __init__(self, frame: Callable[[], RenderableType], console: Console) -> None:
        self._frame = frame
        self._console = console
        self._lines: deque[Text] = deque(maxlen=_LINES_IN_A_NOTEBOOK)
        self._said = 0
        self._handle: Any = None
        self._end = Latch()
        # Held to show something, for the end must not be written over.
        self._lock = threading.RLock()

    def start(self) -> None:
        """Show it, and go on showing it until ``stop``."""
        notebook: Any = import_module("IPython.display")
        name = "stepfunction progress"
        start(threading.Thread(target=self._go_on, name=name, daemon=True))
        handle = notebook.DisplayHandle()
        with self._lock:
            handle.display(self._drawn(), raw=True)
            self._handle = handle

    def say(self, line: Text) -> None:
        """Show a line that stays."""
        with self._lock:
            self._lines.append(line)
            self._said += 1

    def stop(self) -> None:
        """Show what stays."""
        self._end.open()
        with self._lock:
            self._update()

    def _go_on(self) -> None:
        while not self._end.wait(1 / _FRAMES_IN_A_NOTEBOOK):
            with self._lock:
                if not self._end.is_open:
                    self._update()

    def _update(self) -> None:
        if self._handle is not None:
            try:
                # As of no cell: that where it began may have ended long ago, and then
                # some of who listen to the kernel take nothing more of it.
                Context().run(self._handle.update, self._drawn(), raw=True)
            except Exception:  # as of a kernel that ends: nobody looks any more
                self._handle = None

    def _drawn(self) -> dict[str, str]:
        page = Console(
            file=StringIO(),
            record=True,
            width=self._console.width,
            force_jupyter=False,
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
        )
        lines = list(self._lines)
        if lost := self._said - len(lines):
            lines.insert(0, Text(f"… {counted(lost, 'line')} before", "dim"))
        for line in lines:
            page.print(line, soft_wrap=True)
        page.print(self._frame())
        text = page.export_text(clear=False).rstrip()
        shown = page.export_html(inline_styles=True, code_format=_PRE)
        if self._console.no_color:
            shown = _PRE.replace("{code}", escape(text))
        return {"text/html": shown, "text/plain": text}


@dataclass(slots=True, eq=False)
class _Run:
    """An outermost execution as it is shown."""

    workflow: str
    began: float
    is_plain: bool = False  # whether it is told in lines alone
    ended: int = 0  # how many of its steps have
    rows: _Rows = field(default_factory=dict)  # the one of its step, under ""

    def take(self, event: Event) -> None:
        """Take note of an event inside it."""
        rows: _Rows = self.rows
        *outer, key = "", *event.path
        for name in outer:
            around = rows.get(name)
            if around is None:
                return
            rows = around.nested
        row = rows.get(key)
        if event.step is None:  # a nested execution: none of its steps runs
            rows[key] = None
        elif event.what == "started" and event.part is None:
            rows[key] = _Row(event.step, event.time, len(event.tasks))
        elif row is None:
            return
        elif event.part is not None:
            row.take_task(event, (event.step, event.part))
        elif event.what == "progressed":
            row.done, row.total = event.done, event.total
        elif event.what == "retried":
            row.attempt = len(event.attempts) + 1
            row.nested.clear()
        else:
            rows[key] = None
            self.ended += not event.path


@dataclass(slots=True, eq=False)
class _Row:
    """A step that runs, as it is shown."""

    name: str
    began: float
    tasks: int
    attempt: int = 1
    ended: int = 0  # of its tasks
    failed: int = 0
    retried: int = 0
    done: int | None = None  # of the items of a map step
    total: int | None = None
    nested: _Rows = field(default_factory=dict)

    def take_task(self, event: Event, key: _Key) -> None:
        """Take note of an event of one of its tasks."""
        if event.what == "started":
            return
        self.nested.pop(key, None)
        if event.what == "retried":
            self.retried += 1
            return
        self.ended += 1
        if event.error is not None and event.outcome is not Outcome.CANCELLED:
            self.failed += 1

    def bar(self) -> RenderableType:
        total = self.tasks if self.done is None else self.total
        if not total:
            return ""
        ended = self.ended if self.done is None else self.done
        return ProgressBar(  # of rich's own colours one looks like a failure
            total, ended, _BAR_WIDTH, complete_style="cyan"
        )

    def note(self) -> Text:
        """Say what else is to be known of it."""
        parts = []
        if self.done is not None:
            rest = " done" if self.total is None else f" of {self.total:,}"
            parts.append(Text(f"{self.done:,}{rest}"))
        elif self.tasks:
            parts.append(Text(f"{self.ended} of {self.tasks}"))
        if self.failed:
            parts.append(Text(f"{self.failed} failed", "red"))
        if self.retried:
            parts.append(Text(counted(self.retried, "retry", "retries"), "yellow"))
        if self.attempt > 1:
            parts.append(Text(f"attempt {self.attempt}", "yellow"))
        return Text(", ").join(parts)


def _cells_of(
    rows: _Rows, now: float, is_ascii: bool, depth: int = 0
) -> Iterator[_Cells]:
    """Give the cells of rows, each followed by those nested in it."""
    for key, row in list(rows.items()):  # at once, for other threads go on meanwhile
        if row is None:
            continue
        spinner = Spinner("line" if is_ascii else "dots")
        spinner.start_time = row.began
        name = f"{key[1]}: {row.name}" if isinstance(key, tuple) else row.name
        title = Text("  " * depth).append_text(cast(Text, spinner.render(now)))
        title.append(f" {_one_line(name)}")
        yield title, row.bar(), row.note(), _age(row.began, now)
        yield from _cells_of(row.nested, now, is_ascii, depth + 1)


def _line(workflow: str, event: Event) -> str:
    """Tell an event in a line that says where it happened."""
    where = path_text(event.path, event.step, event.part)
    text = f"{workflow} / {where}" if where else workflow
    if event.subject == "compensation":
        text += " compensation"
    if event.what == "retried":
        text += f": attempt {len(event.attempts)} is followed by another"
        text += f" in {duration_text(event.pause or 0.0)}"
    else:
        text += f" {event.status or event.what.replace('_', ' ')}"
        text += f" in {duration_text(event.duration or 0.0)}"
        if len(event.attempts) > 1:
            text += f", {len(event.attempts)} attempts"
        if event.next_step is not None:
            text += f", going on with {event.next_step}"
    if event.error is not None:
        text += f": {error_text(event.error)}"
    return _one_line(text)


def _one_line(text: str) -> str:
    """Give a text without what would move the cursor, or colour what follows."""
    words = " ".join(_ESCAPES.sub("", text).split())
    return "".join(letter if letter.isprintable() else "�" for letter in words)


def _age(began: float, now: float) -> Text:
    seconds = max(0, int(now - began))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return Text(f"{hours}:{minutes:02}:{seconds:02}", "dim")


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


class _StandardError(Console):
    def on_broken_pipe(self) -> None:
        self.quiet = True  # nobody reads any more, which must not end the execution


@cache
def _standard_error() -> Console:
    # One for all, for two displays on one terminal would write over each other. In a
    # file FORCE_COLOR may ask for colours, but not for frames.
    is_interactive = None if _is_terminal(sys.stderr) else False
    return _StandardError(stderr=True, force_interactive=is_interactive)
