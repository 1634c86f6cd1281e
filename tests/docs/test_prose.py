"""What pages name in passing, as ``execution.failures`` or ``retry=``, is there."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

import pytest
from shared.pages import ROOT, Page, all_pages

import stepfunction
from stepfunction.stores import SQLiteStore

sys.path.insert(0, str(ROOT / "docs"))
import tables  # noqa: E402

# Pages about other libraries, and about what is inside, have names of their own.
PAGES = [
    page
    for page in all_pages()
    if "/coming_from/" not in page.name and "/how_it_works" not in page.name
]
# What pages call the things that they speak of.
MEANT = {
    "checkout": stepfunction.StepFunction,
    "child": stepfunction.Execution,
    "context": stepfunction.Context,
    "event": stepfunction.Event,
    "execution": stepfunction.Execution,
    "lanes": stepfunction.ProcessLanes,
    "record": stepfunction.StepRecord,
    "registry": stepfunction.FunctionRegistry,
    "store": SQLiteStore,
    "workflow": stepfunction.StepFunction,
    **{name: getattr(stepfunction, name) for name in stepfunction.__all__},
}
FILES = {"css", "html", "js", "json", "py", "svg", "yaml"}
# Of others, whom pages tell of.
FOREIGN = {"BENCH", "CI", "NO_INSTALL", "car", "card", "heartbeat_period", "pool"}
FOREIGN |= {"pure", "real_asyncio", "strategy_period"}


def callables() -> Iterator[object]:
    for name in tables.all_names():
        home = tables.found_at(name.home)
        found = getattr(home, name.name, None)
        yield found
        if inspect.isclass(found):
            yield from (getattr(found, it) for it in dir(found) if it[0] != "_")


def parameters() -> Iterator[str]:
    for found in filter(callable, callables()):
        try:
            yield from inspect.signature(found).parameters
        except ValueError:  # of a builtin that does not tell
            continue


KEYWORDS = set(parameters()) | FOREIGN


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_attributes_that_a_page_names_are_there(page: Page) -> None:
    missing = [
        f"{page.name}:{line}: {text}"
        for line, text in page.code_spans
        for thing, name in re.findall(r"(?<![\w./])([A-Za-z]+)\.(\w+)", text)
        if thing in MEANT and name not in FILES
        if not hasattr(MEANT[thing], name)
        if name not in getattr(MEANT[thing], "_fields", ())
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_arguments_that_a_page_names_are_there(page: Page) -> None:
    missing = [
        f"{page.name}:{line}: {text}"
        for line, text in page.code_spans
        for name in re.findall(r"(?<![\w.\"'])(\w+)=(?!=)", text)
        if name not in KEYWORDS
    ]
    assert not missing, "\n".join(missing)
