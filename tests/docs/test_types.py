"""Snippets and examples are typed as a reader would type them: no cast, no assert.

All of them are read by mypy once, as strictly as it can, and by pyright once. In the
files that these are given, each line of a program stands where it does on its page.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from shared.pages import ROOT, Program, all_pages

PROGRAMS = [program for page in all_pages() for program in page.programs]
MYPY = """\
[mypy]
strict = True
# Of a program that grows on its page each form is checked, also of the same function.
disable_error_code = no-redef
"""
# Django does not say what its names are.
DJANGO = re.compile(r"^(from|import) django\b", re.MULTILINE)
LESS_OF_DJANGO = """\
disable_error_code = import-untyped, no-redef
disallow_subclassing_any = False
disallow_untyped_decorators = False
"""
PYRIGHT = {
    "typeCheckingMode": "strict",
    "reportRedeclaration": False,
    "reportMissingTypeStubs": False,
    "reportMissingParameterType": False,  # which mypy asks for
    "reportDeprecated": False,
    # A lambda has no types to give, nor has what comes of a step.
    "reportUnknownArgumentType": False,
    "reportUnknownLambdaType": False,
    "reportUnknownMemberType": False,
    "reportUnknownParameterType": False,
    "reportUnknownVariableType": False,
}


@dataclass
class Folder:
    """Programs that can lie beside each other with the files of their pages.

    Attributes:
        files: The name of a file to its text.
        origins: The same to the page, for programs and for files that they find.
    """

    files: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def takes(self, files: dict[str, str]) -> bool:
        return all(self.files.get(name, text) == text for name, text in files.items())

    def add(self, program: Program) -> None:
        page, line = program.snippets[0].page, program.snippets[0].line
        module = re.sub(r"\W", "_", page.removesuffix(".md"))
        modules = {f"{module}_{line}.py": program.text, **python_files(program)}
        self.files |= modules
        self.origins |= dict.fromkeys(modules, page)

    def write(self, home: Path) -> None:
        for name, text in self.files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def place(self, name: str, line: int) -> str:
        page = self.origins[name]
        if name.startswith(re.sub(r"\W", "_", page.removesuffix(".md"))):
            return f"{page}:{line}"
        return f"{page}: {name}:{line}"


def python_files(program: Program) -> dict[str, str]:
    return {name: it for name, it in program.files.items() if name.endswith(".py")}


WAYS_OUT = re.compile(
    r"\bcast\(|# type: ignore|assert isinstance|assert .* is not None"
)


def test_no_snippet_and_no_example_has_to_tell_a_type_checker_what_it_knows() -> None:
    texts = {program.place: program.text for program in PROGRAMS}
    for path in (ROOT / "examples").rglob("*.py"):
        texts[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    assert [it for it, text in texts.items() if WAYS_OUT.search(text)] == []


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Folder]:
    """Give all programs in folders, as few as the names of their files allow."""
    found: list[Folder] = []
    for program in PROGRAMS:
        files = python_files(program)
        fitting = next((it for it in found if it.takes(files)), None)
        if fitting is None:
            found.append(fitting := Folder())
        fitting.add(program)
    home = tmp_path_factory.mktemp("typed")
    written = {home / f"snippets_{number}": it for number, it in enumerate(found)}
    for folder, it in written.items():
        it.write(folder)
    return written


def test_mypy_accepts_all_snippets(folders: dict[Path, Folder]) -> None:
    problems = [it for home, folder in folders.items() for it in mypy(home, folder)]
    assert not problems, "\n".join(problems)


def mypy(home: Path, folder: Folder) -> Iterator[str]:
    config = MYPY
    for name, text in folder.files.items():
        config += f"[mypy-{name.removesuffix('.py').replace('/', '.')}]\n"
        config += LESS_OF_DJANGO if DJANGO.search(text) else ""
    (home / "mypy.ini").write_text(config)
    cache = ROOT / ".mypy_cache" / "snippets"
    ran = check(home, "mypy", ".", "--no-error-summary", "--cache-dir", cache)
    for line in ran.stdout.splitlines():
        found = re.fullmatch(r"([^:]+):(\d+): (.*)", line)
        assert found is not None, ran.stdout
        name, number, text = found.groups()
        if not text.startswith("note:"):
            yield f"{folder.place(name, int(number))}: {text}"


def test_pyright_accepts_all_snippets_and_examples_and_the_api(
    folders: dict[Path, Folder],
) -> None:
    home = next(iter(folders)).parent
    # What Django makes of a model only a plugin knows, which imports the settings.
    others = shutil.ignore_patterns("django_*")
    shutil.copytree(ROOT / "examples", home / "examples", ignore=others)
    (home / "api").mkdir()
    shutil.copy(ROOT / "tests" / "typing_api.py", home / "api")
    roots = [{"root": it.name} for it in home.iterdir()]
    facts = {**PYRIGHT, "executionEnvironments": roots}
    (home / "pyrightconfig.json").write_text(json.dumps(facts))
    ran = check(home, "pyright", "--outputjson", "--pythonpath", sys.executable)
    told = json.loads(ran.stdout)
    count = sum(len(it.files) for it in folders.values())
    assert told["summary"]["filesAnalyzed"] > count
    problems = []
    for it in told["generalDiagnostics"]:
        path, line = Path(it["file"]), it["range"]["start"]["line"] + 1
        name = path.relative_to(home)
        place = f"{name}:{line}"
        if (folder := folders.get(home / name.parts[0])) is not None:
            place = folder.place(Path(*name.parts[1:]).as_posix(), line)
        problems.append(f"{place}: {it['message']} ({it.get('rule')})")
    assert not problems, "\n".join(problems)


def check(home: Path, *command: object) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=home,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return ran
