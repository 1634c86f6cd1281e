"""Loading: a workflow out of a document.

Every part is read, so that one error names all that is wrong, with its place. Nothing
is called but the constructor and the ``add_…`` methods of the builder, and nothing is
imported but what the caller has allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from stepfunction.core.errors import DefinitionError
from stepfunction.core.transcript.parts import Path, as_object, data_of, shown
from stepfunction.core.transcript.strictness import StrictWriter
from stepfunction.core.wording import did_you_mean
from stepfunction.declarative.document import FORMAT
from stepfunction.declarative.importing import checked_imports
from stepfunction.declarative.kinds import KINDS
from stepfunction.declarative.naming import Names
from stepfunction.declarative.parts import READ, SUBJECT, PartReader, unread
from stepfunction.declarative.registry import FunctionRegistry

Workflow = TypeVar("Workflow")

_OPTIONS = ("name", "description", "max_steps", "keep_history", "on_failure")
_WORKFLOW = (*_OPTIONS, "start", "steps")
_DOCUMENT = ("$schema", "format", *_WORKFLOW, "workflows")


def from_text(
    builder: type[Workflow],
    text: Any,
    registry: FunctionRegistry,
    allow_imports: Iterable[str],
) -> Workflow:
    """Give the workflow that a JSON text describes.

    Raises:
        DefinitionError: If it describes none, with every reason and its place.
    """
    if not isinstance(text, str | bytes | bytearray):
        problem = f"give the JSON text itself, not {shown(text)}; of a file its content"
        raise DefinitionError(SUBJECT, [problem])
    try:
        document = data_of(text, "it", object_pairs_hook=as_object)
    except ValueError as error:
        problem = str(error)
        if isinstance(text, str) and text.endswith((".json", ".yaml", ".yml")):
            problem += "; of a file give its content"
        raise DefinitionError(SUBJECT, [problem]) from None
    return from_document(builder, document, registry, allow_imports)


def from_yaml(
    builder: type[Workflow],
    text: Any,
    registry: FunctionRegistry,
    allow_imports: Iterable[str],
) -> Workflow:
    """Give the workflow that a YAML text describes.

    Raises:
        DefinitionError: If it describes none, with every reason, its line and column.
    """
    from stepfunction.declarative.yaml import read

    if not isinstance(text, str | bytes | bytearray):
        problem = f"give the YAML text itself, not {shown(text)}; of a file its content"
        raise DefinitionError(SUBJECT, [problem])
    document, marks = read(text)
    if isinstance(document, str) and document.endswith((".json", ".yaml", ".yml")):
        problem = f"{shown(document)} is a name; of a file give its content"
        raise DefinitionError(SUBJECT, [problem])
    return from_document(builder, document, registry, allow_imports, marks)


def from_document(
    builder: type[Workflow],
    document: Any,
    registry: FunctionRegistry,
    allow_imports: Iterable[str],
    marks: Mapping[Path, str] | None = None,
) -> Workflow:
    """Give the workflow that JSON data as of ``to_document`` describes.

    Args:
        builder: The class of the workflows.
        document: The data.
        registry: The names of functions.
        allow_imports: The packages that may be imported.
        marks: Where a text has each part, as messages begin with it; None for none.

    Raises:
        DefinitionError: If it describes none, with every reason and its place.
    """
    allowed = checked_imports(allow_imports)
    loader = _Loader(builder, Names(registry, allowed), marks or {})
    return cast(Workflow, loader.workflow(document))


class _Loader(PartReader):
    def workflow(self, document: Any) -> Any:
        """Read the document.

        Raises:
            DefinitionError: If it is none.
        """
        self._look_over(document)
        if not isinstance(document.get("$schema", ""), str):
            self.note(("$schema",), "it is the address of a JSON Schema, a text")
        table = document.get("workflows", {})
        if not isinstance(table, dict):
            self.note(("workflows",), "it is an object of key to workflow")
            table = {}
        self.check_keys(document, (), ("format", "name", "steps"), _DOCUMENT)
        main = self._builder_of(document, (), "?")
        for key, written in table.items():
            at = ("workflows", key)
            if not isinstance(written, dict):
                self.note(at, f"a workflow is an object, not {shown(written)}")
                continue
            self.check_keys(written, at, ("steps",), _WORKFLOW)
            self.nested[key] = self._builder_of(written, at, key)
        self._add_steps(main, document, ())
        for key, nested in self.nested.items():
            self._add_steps(nested, table[key], ("workflows", key))
        if not self.problems:
            used = main._with_all_nested()
            for key, nested in self.nested.items():
                if nested not in used:
                    self.note(("workflows", key), "no step runs it; leave it out")
        self._raise_problems()
        return main

    def _look_over(self, document: Any) -> None:
        """Refuse what is no document at all, and note what JSON could not hold."""
        if not isinstance(document, dict):
            self.note((), f"a workflow is an object, not {shown(document)}")
        elif "format" not in document:
            self.note(("format",), f"it is missing; give {FORMAT!r}")
        elif not isinstance(document["format"], str) or document["format"] != FORMAT:
            given = shown(document["format"])
            text = f"{given} is not what this stepfunction reads, {FORMAT!r}"
            self.note(("format",), text)
        self._raise_problems()
        strict = StrictWriter()
        strict.write(document)
        for problem in strict.problems:
            self.note(problem.path, problem)
            self.told.add(problem.path)
        if not strict.is_readable:
            self._raise_problems()

    def _builder_of(self, written: dict[str, Any], at: Path, name: str) -> Any:
        """Give the builder of a workflow, without its steps."""
        options: dict[str, Any] = {"name": name}
        for key in _OPTIONS:
            self.argument(options, written, key, at, READ.get(key))
        return self.made(lambda: self._builder(**options), at, written)

    def _add_steps(self, builder: Any, written: dict[str, Any], at: Path) -> None:
        options: dict[str, Any] = {}
        self.argument(options, written, "start", at)
        if options:
            start = options["start"]
            self.made(lambda: builder.set_start_step(start), at, written)
        steps = written.get("steps", {})
        if not isinstance(steps, dict):
            text = f"an object of name to step is expected, not {shown(steps)}"
            self.note((*at, "steps"), text)
            return
        for name, step in steps.items():
            self._add_step(builder, name, step, (*at, "steps", name))

    def _add_step(self, builder: Any, name: Any, written: Any, at: Path) -> None:
        if not isinstance(written, dict):
            self.note(at, f"a step is an object, not {shown(written)}")
            return
        kind_name = written.get("type", "call")
        if not isinstance(kind_name, str) or kind_name not in KINDS:
            hint = did_you_mean(kind_name, KINDS) or f"; give one of {', '.join(KINDS)}"
            text = f"{shown(kind_name)} is no type of step{hint}"
            self.note((*at, "type"), text)
            return
        kind = KINDS[kind_name]
        keys = (*kind.required, *kind.keys)
        self.check_keys(written, at, kind.required, ("type", *keys))
        # What is missing has been noted, and the rest is to be checked too.
        arguments = {key: self._stand_in(key, kind_name) for key in kind.required}
        for key in keys:
            read = READ.get(f"{kind_name} {key}", READ.get(key))
            self.argument(arguments, written, key, at, read)
        renamed: dict[str, str] = {}
        if kind.argument is not None:
            renamed[kind.argument] = kind.required[0]
            arguments[kind.argument] = arguments.pop(kind.required[0])
        add = getattr(builder, kind.method)
        self.made(lambda: add(name, **arguments), at, written, renamed)

    def _stand_in(self, key: str, kind: str) -> Any:
        if key == "workflow":
            return self._builder("?")
        if key == "func":
            return {"?": unread} if kind == "parallel" else unread
        return "?"
