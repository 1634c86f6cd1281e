"""The tables of the reference: each name with the first sentence of its docstring.

A page of the reference is plain Markdown with tables below a mark ``<!-- of HOME -->``.
`python docs/tables.py` writes the second column of each from the docstrings; a test
compares. On the site the whole docstrings follow below each table (`conf.py`).
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference"
TABLE = re.compile(r"^<!-- of ([\w.]+) -->\n(\|.*\n\|[-| :]+\n)((?:\|.*\n)+)", re.M)
ROW = re.compile(
    r"^(?P<first>\| `(?P<name>\w+)(?P<arguments>\([^`]+\))?(?:\(\))?` \|) ?"
    r"(?P<text>(?:\\\||[^|\n])*?) ?\|(?P<rest>.*)$",
    re.M,
)


@dataclass(frozen=True)
class Name:
    """A row of a table: something public of a module or a class."""

    home: str
    name: str
    text: str
    arguments: str = ""  # where they are not those of the signature

    @property
    def path(self) -> str:
        return f"{self.home}.{self.name}"

    @property
    def summary(self) -> str:
        return summary_of(found_at(self.home), self.name)


@cache
def found_at(path: str) -> Any:
    """Give a module, or a class of one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        home, _, name = path.rpartition(".")
        return getattr(found_at(home), name)


def docstring_of(home: Any, name: str) -> str:
    if isinstance(home, type) and issubclass(home, Enum):
        return ""
    found = inspect.getattr_static(home, name, None) or getattr(home, name)
    known = inspect.getdoc(found)
    own = isinstance(found, (type, property, staticmethod, classmethod))
    if known and known != "See the class." and (own or callable(found)):
        return known
    return field_of(home, name)


def field_of(home: Any, name: str) -> str:
    """Give what the docstring of a class says of one of its attributes."""
    for cls in getattr(home, "__mro__", ()):
        text = inspect.cleandoc(vars(cls).get("__doc__") or "")
        found = re.search(rf"^    {name}: (.*(?:\n     .*)*)", text, re.M)
        if found:
            return re.sub(r"\s+", " ", found[1])
    return ""


def summary_of(home: Any, name: str) -> str:
    """Give the first sentence of a docstring as Markdown of one line."""
    paragraph = docstring_of(home, name).split("\n\n")[0]
    line = re.sub(r"\s+", " ", paragraph).strip()
    sentence = re.split(r"(?<=\.)\s(?=[A-Z`])", line)[0]
    return sentence.replace("``", "`").replace("|", "\\|")


def is_shown(home: type, name: str) -> bool:
    """Tell whether a name of a class has an entry of its own on the site."""
    found = inspect.getattr_static(home, name, None)
    return isinstance(found, (property, classmethod, staticmethod)) or (
        inspect.isroutine(found)
    )


def names_of(text: str) -> Iterator[Name]:
    for table in TABLE.finditer(text):
        for row in ROW.finditer(table[3]):
            yield Name(table[1], row["name"], row["text"], row["arguments"] or "")


def written(text: str) -> str:
    """Give a page with its tables as the docstrings have them."""

    def write(table: re.Match[str]) -> str:
        def write_row(row: re.Match[str]) -> str:
            name = Name(table[1], row["name"], row["text"])
            return f"{row['first']} {name.summary or name.text} |{row['rest']}"

        return f"<!-- of {table[1]} -->\n{table[2]}{ROW.sub(write_row, table[3])}"

    return TABLE.sub(write, text)


def with_docstrings(text: str, apart: frozenset[str]) -> str:
    """Give a page with all of the docstrings below its tables, for Sphinx.

    Args:
        text: The page.
        apart: The classes whose members have tables of their own.
    """

    def add(table: re.Match[str]) -> str:
        found = {name.path: directive(name, apart) for name in names_of(table[0])}

        def lead(row: re.Match[str]) -> str:
            path = f"{table[1]}.{row['name']}"
            code = row["first"].strip("| ")
            link = f"[{code}](#{path})" if found[path] else code
            return row[0].replace(code, link, 1)

        rows = ROW.sub(lead, table[3])
        shown = "\n".join(filter(None, found.values()))
        entries = f"\n```{{eval-rst}}\n{shown}\n```\n" if shown else ""
        # A table of one name says nothing that its entry does not.
        listed = "" if len(found) == 1 and shown else f"{table[2]}{rows}"
        return f"{listed}{entries}"

    return TABLE.sub(add, text)


# Names of public classes that only the library calls.
ENGINE = ("of",)
FOR_THE_ENGINE = ("stepfunction.Graph", "stepfunction.Step")
BASES = "object BaseException Exception dict list tuple str Mapping Enum StrEnum Signal"


def directive(name: Name, apart: frozenset[str]) -> str:
    home = found_at(name.home)
    found = inspect.getattr_static(home, name.name, None) or getattr(home, name.name)
    if isinstance(found, type):
        inherited = f"   :inherited-members: {BASES.replace(' ', ', ')}\n"
        # Fields are described by the docstring of their class.
        left_out = ", ".join([*ENGINE, *getattr(found, "_fields", ())])
        members = f"   :members:\n{inherited}   :exclude-members: {left_out}\n"
        if name.path in apart or name.path in FOR_THE_ENGINE:
            members = "   :no-members:\n"
        kind = "exception" if issubclass(found, BaseException) else "class"
        return f".. auto{kind}:: {name.path}\n{members}"
    if inspect.ismodule(home):
        if inspect.isroutine(found):
            return f".. autofunction:: {name.path}{name.arguments}\n"
        return f".. py:data:: {name.path}\n\n   {name.text}\n"
    if not is_shown(home, name.name):
        return ""  # a field, which the docstring of its class describes
    kind = "property" if isinstance(found, property) else "method"
    return f".. auto{kind}:: {name.path}{name.arguments}\n"


def all_names() -> list[Name]:
    texts = (path.read_text("utf-8") for path in sorted(REFERENCE.glob("*.md")))
    return [name for text in texts for name in names_of(text)]


def classes_apart() -> frozenset[str]:
    """Give the classes whose members have tables of their own."""
    homes = {name.home for name in all_names()}
    return frozenset(it for it in homes if isinstance(found_at(it), type))


def entries() -> frozenset[str]:
    """Give the members of those classes that have entries of their own on the site."""
    apart = classes_apart()
    return frozenset(
        name.path
        for name in all_names()
        if name.home in apart and is_shown(found_at(name.home), name.name)
    )


# --- the format of documents, from its schema -------------------------------------

KEYS = re.compile(r"^<!-- keys of (\w+) -->\n(\|.*\n\|[-| :]+\n)((?:\|.*\n)*)", re.M)


def schema() -> dict[str, Any]:
    found: dict[str, Any] = found_at("stepfunction.StepFunction").json_schema()
    return found


def with_keys(text: str) -> str:
    """Give a page with its tables of keys as the schema has them."""
    whole = schema()
    known = {"document": whole, **whole["$defs"]}
    headings = set(re.findall(r"^### (\w+)$", text, re.M))

    def write(table: re.Match[str]) -> str:
        rows = rows_of(table[1], known, headings)
        return f"<!-- keys of {table[1]} -->\n{table[2]}{rows}"

    return KEYS.sub(write, text)


def rows_of(name: str, known: dict[str, Any], headings: set[str]) -> str:
    holder = known[name]
    rows = []
    for key, value in holder["properties"].items():
        said = f"`\"{name}\"`" if key == "type" else said_of(value, known, headings)
        is_required = key in holder.get("required", ())
        rows.append(f"| `{key}` | {said} | {'required' if is_required else ''} |\n")
    return "".join(rows).replace("|  |", "| |")


SAID = {
    "nested": "[a workflow](#a-workflow-that-steps-run)",
    "params": "an object: keyword arguments",
    "seconds": "seconds, above 0",
    "target": "the name of a step",
}
TYPES = {"string": "a text", "number": "a number", "integer": "a whole number"}
TYPES |= {"boolean": "`true` or `false`", "null": "`null`", "object": "an object"}


def said_of(value: Any, known: dict[str, Any], headings: set[str]) -> str:
    """Give in words what a schema asks for."""
    if value is True:
        return "anything that JSON can hold"
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if name in SAID:
            return SAID[name]
        if name in headings or name == "steps":
            return f"[{name}](#{name.lower()})"
        return said_of(known[name], known, headings)
    if "oneOf" in value:
        return ", or ".join(said_of(it, known, headings) for it in value["oneOf"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{json.dumps(it)}`" for it in value["enum"])
    if value.get("type") == "array":
        return f"a list, each {said_of(value['items'], known, headings)}"
    if isinstance(value.get("additionalProperties"), dict):
        each = said_of(value["additionalProperties"], known, headings)
        return f"an object, each value {each}"
    return said_of_plain(value)


def said_of_plain(value: Any) -> str:
    types = value["type"] if isinstance(value["type"], list) else [value["type"]]
    number, *others = (TYPES[it] for it in types)
    least = f" from {value['minimum']}" if "minimum" in value else ""
    said = ", or ".join([f"{number}{least}", *others])
    if "exclusiveMinimum" in value:
        said += f" above {value['exclusiveMinimum']}"
    if "pattern" in value:
        said = "date, time and offset, as `\"2030-01-31T08:00:00+01:00\"`"
    return said


def main() -> None:
    for path in sorted(REFERENCE.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = with_keys(written(before))
        if after != before:
            path.write_text(after, encoding="utf-8")
            print("written:", path.name)


if __name__ == "__main__":
    sys.path.insert(0, str(REFERENCE.parents[1]))
    main()
