"""The reference says of each public name what its docstring says, and of no other."""

from __future__ import annotations

import inspect
import pydoc
import re
import sys
from pathlib import Path

import pytest
from shared.pages import ROOT, Page, all_pages

import stepfunction

sys.path.insert(0, str(ROOT / "docs"))
import tables  # noqa: E402

EXAMPLES = ROOT / "examples"
PAGES = [Page.read(path) for path in sorted(tables.REFERENCE.glob("*.md"))]
NAMES = tables.all_names()
PATHS = {name.path for name in NAMES}


def page(name: str) -> Page:
    return next(it for it in PAGES if it.name.endswith(f"/{name}.md"))


def rows_below(mark: str, text: str) -> list[list[str]]:
    """Give the cells of the table below a mark, without its head."""
    below = text.split(f"<!-- {mark} -->\n")[1].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" |")]
        for line in below.splitlines()[2:]
    ]


# --- names ------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=[it.name for it in PAGES])
def test_the_tables_are_as_the_docstrings_and_the_schema_have_them(page):
    pytest.importorskip("django")
    pytest.importorskip("rich")
    pytest.importorskip("opentelemetry")
    written = tables.with_keys(tables.written(page.text))
    assert page.text == written, "python docs/tables.py writes them"


@pytest.mark.parametrize(
    "home",
    [
        "stepfunction",
        "stepfunction.contrib.django",
        "stepfunction.stores",
        "stepfunction.testing",
    ],
)
def test_every_public_name_is_in_the_reference_once(home):
    public = tables.found_at(home).__all__
    assert sorted(it.name for it in NAMES if it.home == home) == sorted(public)


def test_the_listeners_that_come_with_the_library_are_there():
    assert "stepfunction.progress.RichProgress" in PATHS
    assert "stepfunction.tracing.Tracing" in PATHS


@pytest.mark.parametrize("name", NAMES, ids=[name.path for name in NAMES])
def test_every_name_is_there_and_says_what_it_is(name):
    home = tables.found_at(name.home)
    fields = getattr(home, "_fields", ())
    assert hasattr(home, name.name) or name.name in fields
    assert name.text.endswith(".")


# What users have no use for. What is added to a class is in the reference, or here.
FOR_THE_ENGINE = {
    "stepfunction.stores.SQLiteStore": "apart append begin claim find forget graph"
    " nested release rows turn",
}


@pytest.mark.parametrize("path", sorted(tables.classes_apart()))
def test_every_member_of_a_class_is_in_its_tables(path):
    cls = tables.found_at(path)
    own = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("stepfunction")
        for name, found in vars(base).items()
        if not name.startswith("_")
        and (callable(found) or inspect.isdatadescriptor(found) or is_bound(found))
    }
    public = own - {*FOR_THE_ENGINE.get(path, "").split()}
    assert {it.name for it in NAMES if it.home == path} >= public


def is_bound(found):
    return isinstance(found, (classmethod, staticmethod))


# --- errors, events ---------------------------------------------------------------


def test_every_error_says_what_to_do():
    text = page("errors").text.partition(BESIDES)[0]
    rows = {row["name"]: row["rest"] for row in tables.ROW.finditer(text)}
    assert rows.pop(BASE) == ""
    assert set(rows) == set(filter(is_error, stepfunction.__all__)) - {BASE}
    assert [name for name, rest in rows.items() if len(rest) < 15] == []


BASE = "StepFunctionError"
BESIDES = "\n## What they are besides\n"


def is_error(name):
    found = getattr(stepfunction, name)
    return inspect.isclass(found) and issubclass(found, BaseException)


FIELDS = {"status", "tasks", "outcome", "attempts", "duration", "error", "pause"}
FIELDS |= {"next_step", "done", "total"}
EVENTS: dict[str, set[str]] = {}
LAST: set[str] = set()
for kind, _, has in rows_below("kinds of events", page("events").text):
    LAST = LAST if has == "the same" else {*re.findall(r"`(\w+)`", has)}
    EVENTS[kind.strip("`")] = LAST


def test_the_errors_that_a_class_takes_are_in_the_reference():
    table = page("errors").text.partition(BESIDES)[2]
    rows = re.findall(r"^\| `.*", table, re.M)
    names = filter(is_error, stepfunction.__all__)
    errors = {it: getattr(stepfunction, it) for it in names}
    assert rows
    for row in rows:
        path, *names = re.findall(r"`([\w.]+)`", row)
        found = errors.get(path) or pydoc.locate(path)
        kinds = {it for it in errors if issubclass(errors[it], found)} - {path}
        assert set(names) == kinds, path


def test_every_kind_of_event_is_in_the_reference():
    outcomes = {it.lower() for it in stepfunction.Outcome} - {"skipped"}
    kinds = {"execution_started", "execution_resumed", "execution_ended"}
    kinds |= {"step_progressed", "compensation_succeeded", "compensation_failed"}
    for subject in ("step", "task"):
        kinds |= {f"{subject}_{it}" for it in ("started", "retried", *outcomes)}
    assert set(EVENTS) == kinds


def test_a_kind_of_event_has_fields_of_events():
    assert set().union(*EVENTS.values()) == FIELDS
    assert set(stepfunction.Event._fields) >= FIELDS


def test_events_have_what_the_reference_says(seen_events):
    kinds = {event.kind for event in seen_events}
    assert len(kinds) > 12
    for event in seen_events:
        has = {name for name in FIELDS if getattr(event, name) not in (None, ())}
        assert has <= EVENTS[event.kind], event


@pytest.fixture(scope="module")
def seen_events():
    from stepfunction import RetryPolicy, StepFunction

    def fail(value):
        raise LookupError("no")

    def fail_once(value, context):
        if context.attempt == 1:
            raise LookupError("not yet")

    again = RetryPolicy(max_attempts=2, interval=0)
    seen = []
    inner = StepFunction("Inner").add_step("In", fail_once, retry=again)
    inner.set_start_step("In")
    workflow = StepFunction("W", listeners=[seen.append])
    tasks = {"good": str, "bad": fail, "again": inner}
    workflow.add_parallel_step(
        "All", tasks, tolerated_failures=1, compensate=str, next_step="Each"
    )
    workflow.add_map_step("Each", fail, items=lambda _: [1], on_failure="Slow")
    waits = {"stop": lambda _, context: context.sleep(5), "bad": fail}
    workflow.add_parallel_step(
        "Slow", waits, stop_on_failure=True, on_failure="Late", compensate={"bad": str}
    )
    workflow.add_step(
        "Late",
        lambda _, context: context.sleep(0.3),
        executor="thread",
        timeout=0.01,
        on_failure="End",
    )
    workflow.add_step("End", fail_once, retry=again).set_start_step("All")
    workflow.execute()
    return seen


# --- settings, exit codes ---------------------------------------------------------


def test_the_settings_of_django_are_in_the_reference():
    conf = pytest.importorskip("stepfunction.contrib.django.conf")
    rows = rows_below("settings of Django", page("settings").text)
    said = {key.strip("`"): default.strip("`") for key, default, _ in rows}
    found = {key: repr(value).replace("'", '"') for key, value in conf.DEFAULTS.items()}
    assert said == found


def test_every_variable_of_the_environment_is_in_the_reference():
    code = "".join(
        path.read_text("utf-8")
        for path in (ROOT / "stepfunction").rglob("*.py")
        if "management" not in path.parts
    )
    read = set(re.findall(r'environ(?:\.get\(|\.setdefault\(|\[)"(\w+)"', code))
    section = page("settings").text.split("## Environment")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.M)) == read


def test_the_exit_codes_are_in_the_reference():
    from stepfunction.cli import complaints

    codes = {complaints.DONE, complaints.FAILED, complaints.WRONG_USE}
    codes |= {complaints.INTERRUPTED}
    said = re.findall(r"^\| (\d+) \|", page("exit_codes").text, re.M)
    assert {*map(int, said)} == codes


# --- the format of documents ------------------------------------------------------


def test_every_part_of_the_schema_is_in_the_reference():
    text = page("json_format").text
    headings = {heading.title for heading in page("json_format").headings}
    parts = set(tables.schema()["$defs"]) - {*tables.SAID}
    said = {match[1] for match in tables.KEYS.finditer(text)} | headings
    simple = {"name", "description", "count", "executor", "ends", "branch_targets"}
    assert parts - said <= {*simple, "step", "steps"}


def test_the_json_of_the_reference_is_as_the_schema_asks():
    jsonschema = pytest.importorskip("jsonschema")
    import json

    whole, it = tables.schema(), page("json_format")
    for snippet in it.snippets:
        title = [h.title for h in it.headings if h.line < snippet.line][-1]
        part = {"$ref": f"#/$defs/{title}"} if title in whole["$defs"] else {}
        asked = {**part, "$defs": whole["$defs"]} if part else whole
        jsonschema.validate(json.loads(snippet.code), asked)


# --- examples ---------------------------------------------------------------------


def test_every_example_is_shown_by_a_page():
    linked = {
        ((ROOT / page.name).parent / link.target.partition("#")[0]).resolve()
        for page in all_pages()
        for link in page.links
        if ":" not in link.target
    }
    examples = {*EXAMPLES.glob("*.py"), EXAMPLES / "django_project"}
    assert sorted(it.name for it in examples - linked) == []


RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_a_recipe_shows_its_example_whole(path: Path) -> None:
    if path.name == "index.md":
        return
    it = Page.read(path)
    linked = {(path.parent / link.target).resolve() for link in it.links}
    examples = [
        found
        for found in sorted(linked)
        if EXAMPLES in found.parents and found.suffix == ".py"
    ]
    assert examples, f"{it.name} links to no file of examples"
    shown = {snippet.code for snippet in it.snippets}
    unequal = [p.name for p in examples if p.read_text(encoding="utf-8") not in shown]
    assert unequal == [], f"{it.name} shows another text than these files have"


# --- docstrings -------------------------------------------------------------------

DOCSTRINGS = {
    name.path: tables.docstring_of(tables.found_at(name.home), name.name)
    for name in NAMES
}
RETURNS = re.compile(r"^(?:Returns|Yields):\n    (.*)", re.M)


@pytest.mark.parametrize("path", DOCSTRINGS)
def test_what_is_returned_is_not_taken_for_a_type(path):
    # Before a colon a docstring of Google's style has the type.
    found = RETURNS.search(DOCSTRINGS[path])
    assert found is None or not re.search(r":(\s|$)", found[1])


@pytest.mark.parametrize("path", DOCSTRINGS)
def test_what_a_property_is_begins_with_no_type(path):
    home, _, name = path.rpartition(".")
    if isinstance(inspect.getattr_static(tables.found_at(home), name, None), property):
        assert not re.search(r":(\s|$)", DOCSTRINGS[path].split("\n\n")[0])


@pytest.mark.parametrize("path", DOCSTRINGS)
def test_a_docstring_says_it_itself(path):
    """Who reads it in an editor does not see another."""
    assert not re.search(r"(:|^) +As (in )?``\w+``[.,;]", DOCSTRINGS[path], re.M)
