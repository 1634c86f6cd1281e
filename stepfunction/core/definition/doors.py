"""Doors: what a workflow shows of itself by way of the wings of this house.

Each opens its wing by name when it is asked to, for the wings stand on the core.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, cast

from stepfunction.core.errors import DefinitionError
from stepfunction.core.misspelling import no_attribute

if TYPE_CHECKING:
    import os

    from stepfunction.core.definition.graph import Graph
    from stepfunction.core.history.execution import Execution
    from stepfunction.declarative.registry import Functions


# What methods are called elsewhere.
_MEANT = {
    "add": "add_step",
    "add_conditional_edges": "add_step(…, branch={…})",
    "add_edge": "add_step(…, next_step=…)",
    "add_node": "add_step",
    "add_task": "add_step",
    "ainvoke": "aexecute",
    "and_then": "add_step(…, next_step=…)",
    "apply": "execute",
    "arun": "aexecute",
    "build": "compile",
    "connect": "add_step(…, next_step=…)",
    "delay": "start",
    "draw": "visualize",
    "execute_async": "aexecute",
    "fail": "add_fail_step",
    "invoke": "execute",
    "kickoff": "execute",
    "map": "add_map_step",
    "next": "add_step(…, next_step=…)",
    "nest": "add_sub_step_function",
    "parallel": "add_parallel_step",
    "plot": "visualize",
    "resume_execution": "resume",
    "run": "execute",
    "run_async": "aexecute",
    "set_entry_point": "set_start_step",
    "set_start": "set_start_step",
    "sleep": "add_wait_step",
    "start_at": "set_start_step",
    "start_execution": "start",
    "start_step": "set_start_step",
    "step": "add_step",
    "submit": "start",
    "task": "add_step",
    "then": "add_step(…, next_step=…)",
    "wait": "add_wait_step",
}


def _open(wing: str) -> Any:
    return import_module(f"stepfunction.{wing}")


class Workflow:
    """What can be nested, written, read and drawn: the base of ``StepFunction``."""

    # Whether it may be nested in another; where it is not, nothing it nests has it.
    _is_inside = False

    if not TYPE_CHECKING:  # which knows better what there is

        def __getattr__(self, name: str) -> Any:
            """Say what may be meant by a name that there is not."""
            raise no_attribute(type(self), name, _MEANT)

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in messages, records and pictures."""

    @abstractmethod
    def compile(self) -> Graph:
        """Check the workflow and freeze it."""

    def to_dict(self, registry: Functions = None) -> dict[str, Any]:
        """Give the definition as JSON data, which ``from_dict`` reads.

        Functions are written by their names: as registered, else as import string,
        ``"package.module:function"``. Nested workflows are part of it, listeners are
        not. It need not be finished, or sound.

        Args:
            registry: The names of functions: a ``FunctionRegistry``, or a mapping of
                name to function.

        Raises:
            DefinitionError: If a function has no name, or JSON cannot hold a value as
                what it is: all of them, each with its place.
        """
        names = _open("declarative.registry").as_registry(registry)
        document = _open("declarative.document").to_document(self, names)
        return cast(dict[str, Any], document)

    def to_json(self, registry: Functions = None, *, indent: int | None = None) -> str:
        """Give ``to_dict()`` as a JSON text, which ``from_json`` reads.

        Args:
            registry: The names of functions: a ``FunctionRegistry``, or a mapping of
                name to function.
            indent: By how many spaces to indent what is nested; None for one line.

        Raises:
            DefinitionError: If a function has no name, or JSON cannot hold a value as
                what it is: all of them, each with its place.
        """
        import json

        return json.dumps(self.to_dict(registry), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(
        cls,
        document: Mapping[str, Any],
        registry: Functions = None,
        allow_imports: Iterable[str] = (),
    ) -> Self:
        """Give the workflow that ``to_dict()`` has written, or a person.

        None of its functions is called. Modules are imported only where
        ``allow_imports`` names them, and to import a module runs its top level.

        Args:
            document: The JSON data.
            registry: The functions that it names: a ``FunctionRegistry``, or a mapping
                of name to function.
            allow_imports: The packages, or single modules, that import strings may
                lead into, such as ``["shop"]``. What they name must be defined there.

        Returns:
            The builder. As any other it is checked as a whole by ``validate()``.

        Raises:
            DefinitionError: If it is no such document; ``problems`` has all there
                are, each with its place in the document.
        """
        names = _open("declarative.registry").as_registry(registry)
        load = _open("declarative.loading").from_document
        return cast(Self, load(cls, document, names, allow_imports))

    @classmethod
    def from_json(
        cls,
        text: str | bytes,
        registry: Functions = None,
        allow_imports: Iterable[str] = (),
    ) -> Self:
        """Give the workflow that a JSON text describes, as ``from_dict``.

        Args:
            text: What ``to_json()`` gave, or a person has written.
            registry: The functions that it names: a ``FunctionRegistry``, or a mapping
                of name to function.
            allow_imports: The packages, or single modules, that import strings may
                lead into, such as ``["shop"]``. What they name must be defined there.

        Returns:
            The builder.

        Raises:
            DefinitionError: If the text is no JSON, or no such document; ``problems``
                has all there are, each with its place in the document.
        """
        names = _open("declarative.registry").as_registry(registry)
        load = _open("declarative.loading").from_text
        return cast(Self, load(cls, text, names, allow_imports))

    def to_yaml(self, registry: Functions = None) -> str:
        """Give ``to_dict()`` as a YAML text, which ``from_yaml`` reads.

        It is written for people: a line for each fact, in the order of the definition,
        and in quotes what some readers of YAML would take for something else, as
        ``"no"``. Needs the extra ``yaml``.

        Args:
            registry: The names of functions: a ``FunctionRegistry``, or a mapping of
                name to function.

        Raises:
            DefinitionError: If a function has no name, or JSON cannot hold a value as
                what it is: all of them, each with its place.
            ModuleNotFoundError: If PyYAML is missing.
        """
        write = _open("declarative.yaml").write
        return cast(str, write(self.to_dict(registry)))

    @classmethod
    def from_yaml(
        cls,
        text: str | bytes,
        registry: Functions = None,
        allow_imports: Iterable[str] = (),
    ) -> Self:
        """Give the workflow that a YAML text describes, as ``from_dict``.

        It is read as YAML 1.2: ``yes`` and ``no`` are texts as keys, and refused as
        values, like all that readers of YAML take for different things. A ``branch``
        may have ``true`` and numbers as its keys. Needs the extra ``yaml``.

        Args:
            text: What ``to_yaml()`` gave, or a person has written.
            registry: The functions that it names: a ``FunctionRegistry``, or a mapping
                of name to function.
            allow_imports: The packages, or single modules, that import strings may
                lead into, such as ``["shop"]``. What they name must be defined there.

        Returns:
            The builder.

        Raises:
            DefinitionError: If the text is no YAML, or no such document; ``problems``
                has all there are, each with its place, line and column.
            ModuleNotFoundError: If PyYAML is missing.
        """
        names = _open("declarative.registry").as_registry(registry)
        load = _open("declarative.loading").from_yaml
        return cast(Self, load(cls, text, names, allow_imports))

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Give the JSON Schema (draft 2020-12) of what ``to_dict()`` gives."""
        import json
        from importlib.resources import files

        schema = files("stepfunction.declarative").joinpath("workflow.schema.json")
        found: dict[str, Any] = json.loads(schema.read_text(encoding="utf-8"))
        return found

    def visualize(
        self,
        path: str | os.PathLike[str] | None = None,
        format: str | None = None,
        execution: Execution | None = None,
    ) -> str:
        """Draw the workflow into a file.

        Args:
            path: The file; by default the workflow's name, made safe, in the current
                folder.
            format: ``"svg"``, ``"png"``, ``"pdf"`` or ``"dot"``; by default what the
                path ends in, else SVG; without a path DOT where no Graphviz is found.
            execution: One of its executions, to draw what became of each step.

        Returns:
            The path of the file.

        Raises:
            DefinitionError: If the workflow is not sound.
            DrawingError: If the format is unknown, or needs Graphviz and none is
                found, which the message says how to install; or if the execution is
                another workflow's.
        """
        draw = _open("drawing.dot").draw
        return cast(str, draw(*self._drawn(execution), path, format))

    def to_dot(self, execution: Execution | None = None) -> str:
        """Give the drawing of the workflow as DOT text.

        Args:
            execution: One of its executions, to draw what became of each step.

        Raises:
            DefinitionError: If the workflow is not sound.
            DrawingError: If the execution is another workflow's.
        """
        return cast(str, _open("drawing.dot").to_dot(*self._drawn(execution)))

    def to_mermaid(self, execution: Execution | None = None) -> str:
        """Give the drawing of the workflow as a Mermaid flowchart.

        Args:
            execution: One of its executions, to draw what became of each step.

        Raises:
            DefinitionError: If the workflow is not sound.
            DrawingError: If the execution is another workflow's.
        """
        drawn = self._drawn(execution)
        return cast(str, _open("drawing.mermaid").to_mermaid(*drawn))

    def _drawn(self, execution: Execution | None) -> tuple[Graph, Any]:
        """Give the graph to draw, and what the execution left on it."""
        graph = self.compile()
        if execution is None:
            return graph, None
        return graph, _open("drawing.trail").trail_on(graph, execution)

    def _repr_svg_(self) -> str | None:
        """Give the drawing to a notebook; None where the text has to do."""
        try:
            graph = self.compile()
        except DefinitionError:  # not finished yet: validate() says what is missing
            return None
        return cast("str | None", _open("drawing.dot").svg_for_notebook(graph))

    def _repr_html_(self) -> str | None:
        """Give a table to a notebook that cannot have the drawing."""
        try:
            graph = self.compile()
        except DefinitionError:
            return None
        return cast("str | None", _open("drawing.tables").html_for_notebook(graph))
