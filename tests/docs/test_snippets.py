"""Each snippet of README and site is run, and shows what it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from shared.pages import (
    PART,
    ROOT,
    Page,
    PageError,
    Program,
    all_pages,
    commands_of,
    shows,
)

import stepfunction

PAGES = all_pages()
PACKAGE_HOME = Path(stepfunction.__file__).parents[1]
HIDE_CLOUDPICKLE = ROOT / "tests" / "data" / "without_cloudpickle"
NOT_RUN = Path(__file__).with_name("not_run.txt")
SECONDS = 40


def short(place: str) -> str:
    return place.removeprefix("docs/")


def sound(page: Page) -> bool:
    """Tell whether a page can be read, which has a test of its own."""
    try:
        return bool(page.snippets) and page.programs is not None
    except PageError:
        return False


NAMES = [short(page.name) for page in PAGES]
SOUND = [page for page in PAGES if sound(page)]
PROGRAMS = [
    pytest.param(program, id=short(program.place))
    for page in SOUND
    for program in page.programs
]
CONSOLES = [
    pytest.param(page, id=short(page.name)) for page in SOUND if any(page.consoles)
]


@dataclass(frozen=True)
class Done:
    """What a program or a shell printed before it ended, and how it ended."""

    output: str
    errors: str
    code: int


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYT"))}
    for name in ("DJANGO_SETTINGS_MODULE", "NO_COLOR", "FORCE_COLOR", "LINES"):
        kept.pop(name, None)
    return {
        **kept,
        "COLUMNS": "88",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"])),
        "PYTHONPATH": os.pathsep.join(map(str, (HIDE_CLOUDPICKLE, PACKAGE_HOME))),
        "PYTHONUNBUFFERED": "1",  # so that both outputs come in their order
        "PYTHONUTF8": "1",
        "TERM": "dumb",
    }


def run(command: list[str], folder: Path, errors: int) -> Done:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )
    try:
        output, told = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, told = process.communicate()
        told = f"{told or ''}not done after {SECONDS} seconds"
    return Done(output, told or "", process.returncode)


def run_program(program: Program, folder: Path) -> Done:
    write(folder, program.files)
    script = folder / "snippet.py"
    script.write_text(program.source, encoding="utf-8")
    done = run([sys.executable, script.name], folder, subprocess.PIPE)
    page = program.snippets[0].page
    errors = re.sub(r'File "[^"]*snippet\.py"', f'File "{page}"', done.errors)
    return Done(done.output, errors, done.code)


@dataclass(frozen=True)
class Shown:
    """What a command of a console was to show, and what it did show."""

    where: str
    expected: str
    output: str


def run_console(page: Page, folder: Path) -> list[Shown]:
    """Type what a page has in its consoles, and give what came of each command."""
    (folder / "examples").symlink_to(ROOT / "examples")
    found = []
    for snippet, files in page.consoles:
        write(folder, files)
        commands = commands_of(snippet)
        script = f"\nprintf {PART!r}\n".join(it.command for it in commands)
        done = run(["bash", "-c", script], folder, subprocess.STDOUT)
        shown = done.output.split(PART)
        if len(shown) != len(commands):
            raise PageError(f"{snippet.place} ends early: {shown[-1]}{done.errors}")
        for command, output in zip(commands, shown, strict=True):
            where = f"what {page.name}:{command.line} shows: {command.command}"
            found.append(Shown(where, command.output, output))
    return found


@pytest.fixture(scope="module")
def ends(request, tmp_path_factory):
    """Run all that is asked for, as much at once as there are CPUs."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    found: dict[str, Future[Any]] = {}
    for item in request.session.items:
        asked = getattr(getattr(item, "callspec", None), "params", {})
        if item.path != Path(__file__):
            continue
        if "program" in asked:
            program, folder = asked["program"], tmp_path_factory.mktemp("program")
            found[program.place] = pool.submit(run_program, program, folder)
        elif "console" in asked:
            page, folder = asked["console"], tmp_path_factory.mktemp("console")
            found[page.name] = pool.submit(run_console, page, folder)
    yield found
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_marks_its_snippets_as_all_do(page: Page) -> None:
    for snippet in page.snippets:
        if snippet.language == "console":
            assert commands_of(snippet)
    assert page.programs is not None


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_what_its_page_shows(
    program: Program, ends: dict[str, Future[Done]]
) -> None:
    done = ends[program.place].result()
    assert done.errors == "", f"{program.place} writes to standard error"
    assert done.code == 0, f"{program.place} ends with {done.code}"
    printed = done.output.split(PART)
    assert len(printed) == len(program.snippets), f"{program.place} ends early"
    for snippet, output in zip(program.snippets, printed, strict=True):
        assert output == (snippet.output or ""), f"what {snippet.place} prints"


@pytest.mark.parametrize("console", CONSOLES)
def test_a_console_shows_what_its_page_shows(
    console: Page, ends: dict[str, Future[list[Shown]]]
) -> None:
    for shown in ends[console.name].result():
        if not shows(shown.output, shown.expected):
            assert shown.output == shown.expected, shown.where


def test_what_is_not_run_is_on_the_list_with_its_reason() -> None:
    lines = NOT_RUN.read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    found = [
        f"{snippet.page}: {snippet.not_run}"
        for page in SOUND
        for snippet in page.snippets
        if snippet.not_run is not None
    ]
    assert sorted(found) == sorted(listed)


@pytest.mark.parametrize("page", SOUND, ids=[short(page.name) for page in SOUND])
def test_json_on_a_page_is_json(page: Page) -> None:
    for snippet in page.snippets:
        if snippet.language == "json":
            try:
                json.loads(snippet.code)
            except ValueError as error:
                pytest.fail(f"{snippet.place}: {error}")
