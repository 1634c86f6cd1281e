"""Compiling: what has been defined so far, copied, pickled and frozen into a graph.

A compiled graph is kept until its builder, or that of any workflow nested in it, is
edited again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count
from types import MappingProxyType
from typing import Any, Self, TypeAlias, TypeVar

from stepfunction.core.definition.actions import is_count
from stepfunction.core.definition.arguments import description_problems
from stepfunction.core.definition.catches import failure_problems, frozen_on_failure
from stepfunction.core.definition.doors import Workflow
from stepfunction.core.definition.freezing import freeze
from stepfunction.core.definition.graph import Definition, Graph, Step
from stepfunction.core.definition.paths import Deepest, deepest, nested_first
from stepfunction.core.errors import DefinitionError, Problem, about
from stepfunction.core.wording import TOO_DEEP, plain_text

__tracebackhide__ = True  # pytest shows the test and what is called, not us

Error = TypeVar("Error", bound=BaseException)


class Compilable(Workflow):
    """What has been defined of a workflow, and its graph: what ``Builder`` adds to.

    Args:
        name: As in ``StepFunction``.
        max_steps: As in ``StepFunction``.
        on_failure: As in ``StepFunction``.
        keep_history: As in ``StepFunction``.
        description: What it is for.
        problems: What is wrong with other arguments, to be raised with these.

    Raises:
        DefinitionError: If the arguments are not sound, with every reason.
    """

    _description: str | None = None  # of a pickle of an older version
    # Until they are asked for; with the number of edits that they are right for.
    _inside: tuple[int, tuple[Compilable, ...]] | None = None
    _deepest: tuple[int, Deepest] | None = None

    def __init__(
        self,
        name: str,
        max_steps: int | None,
        on_failure: str | Mapping[type[Error], str] | None,
        keep_history: int | None,
        description: str | None,
        problems: list[str],
    ) -> None:
        if not isinstance(name, str) or not name:
            text = f"the name of a workflow is a text, not {name!r}"
            problems.append(Problem("name", text))
        for what, limit in (("max_steps", max_steps), ("keep_history", keep_history)):
            if limit is not None and not is_count(limit, 1):
                text = f"{what} is a whole number from 1, not {limit!r}"
                problems.append(Problem(what, text))
        if description is not None:
            problems += description_problems(description)
        if on_failure is not None:
            problems += about("on_failure", failure_problems(on_failure))
        if problems:
            raise DefinitionError("StepFunction", problems)
        self._name = plain_text(name)
        self._description = None if description is None else plain_text(description)
        self._max_steps = max_steps
        self._keep_history = keep_history
        self._on_failure = frozen_on_failure(on_failure)
        self._steps: dict[str, Step] = {}
        self._start: str | None = None
        self._compiled: _Compiled | None = None
        self._version = next(_versions)
        # What stands in for steps while they are tested: step name to what makes
        # another step of it.
        self._stand_ins: dict[object, Mapping[str, Callable[[Step], Step]]] = {}

    @property
    def name(self) -> str:
        """The name of the workflow."""
        return self._name

    @property
    def description(self) -> str | None:
        """What the workflow is for; None where nobody has said."""
        return self._description

    @property
    def steps(self) -> Mapping[str, Step]:
        """Step name to step, in the order of the definition; read-only."""
        return MappingProxyType(self._steps)

    def _defined(self, steps: Mapping[str, Step]) -> Definition:
        return Definition(
            self._name,
            self._start,
            self._max_steps,
            self._keep_history,
            self._on_failure,
            steps,
            self._description,
        )

    def validate(self) -> None:
        """Check the workflow.

        Raises:
            DefinitionError: If it is not sound; ``problems`` has all there are.
        """
        self.compile()

    def compile(self) -> Graph:
        """Check the workflow and freeze it into a graph.

        The graph shares nothing with this builder, and any number of threads may run
        it at once.

        Returns:
            The frozen graph; the same one until a step is added, here or in a nested
            workflow.

        Raises:
            DefinitionError: If it is not sound; ``problems`` has all there are.
        """
        try:
            return self._compilation()[0]
        except RecursionError:
            text = f"{len(self._with_all_nested()):,} workflows are {TOO_DEEP}"
            problem = Problem((), text)
            raise DefinitionError(f"workflow {self._name!r}", [problem]) from None

    def copy(self) -> Self:
        """Give another builder of the same definition, listeners included.

        What is added to one is not seen by the other. Nested workflows are shared, as
        functions are; ``copy.deepcopy(workflow)`` copies those too.
        """
        from copy import copy  # dear

        return copy(self)

    def __getstate__(self) -> dict[str, Any]:
        steps = dict(self._steps)
        fresh: dict[str, Any] = {"_compiled": None, "_stand_ins": {}, "_inside": None}
        first = self._deepest_first().first
        fresh["_deepest"] = None
        # As of graphs, what is nested deep comes before all else.
        told = {_FIRST: first} if first else {}
        return {**told, **self.__dict__, "_steps": steps, **fresh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.pop(_FIRST, None)
        self._edited()  # the number of another process may be given again in this one

    def _add(self, step: Step) -> Self:
        global _edits
        self._steps[step.name] = step
        self._edited()
        _edits += 1
        return self

    def _edited(self) -> None:
        self._version = next(_versions)

    def _nested_in_it(self) -> tuple[Compilable, ...]:
        """Give the workflows that are nested in it, and in no other in it."""
        version = self._version  # read before what it is about
        if self._inside is None or self._inside[0] != version:
            of_steps = chain.from_iterable(map(_nested, list(self._steps.values())))
            self._inside = version, tuple(dict.fromkeys(of_steps))
        return self._inside[1]

    def _deepest_first(self) -> Deepest:
        """Give what is nested deep in it, in the order in which it is to be copied."""
        edits = _edits
        if self._deepest is not None and self._deepest[0] == edits:
            return self._deepest[1]
        for it in (*nested_first(self, Compilable._nested_in_it), self):
            if it._deepest is None or it._deepest[0] != edits:
                inside = it._nested_in_it()
                found = (one._deepest_first() for one in inside)
                it._deepest = edits, deepest(zip(inside, found))
        assert self._deepest is not None
        return self._deepest[1]

    def _alter(
        self, changes: Mapping[str, Callable[[Step], Step]]
    ) -> Callable[[], None]:
        """Perform other steps in the place of some, until what is given is called."""
        key = object()
        self._stand_ins[key] = changes
        self._edited()

        def put_back() -> None:
            del self._stand_ins[key]
            self._edited()

        return put_back

    def _altered(self, changes: Mapping[str, Callable[[Step], Step]]) -> Self:
        """Give a workflow like this one with other steps in the place of some."""
        other = self.copy()
        other._stand_ins = {**self._stand_ins, object(): changes}
        return other

    def _compilation(self) -> _Compiled:
        """Give the compiled workflow, made anew if any part of it has been edited."""
        # In one frame for each level of nesting, for there may be hundreds.
        if self._compiled is not None:
            _, builders, versions = self._compiled
            if versions == [builder._version for builder in builders]:
                return self._compiled
        seen = {self: self._version}  # each read before what it is about
        problems: list[str] = []
        graphs: dict[Compilable, Graph] = {}
        steps = dict(self._steps)
        for changes in list(self._stand_ins.values()):
            for name, change in changes.items():
                for workflow in _nested(steps[name]):
                    seen |= {it: it._version for it in workflow._with_all_nested()}
                steps[name] = change(steps[name])
        for name, step in steps.items():
            if step.action.is_one_call:
                continue
            for workflow in _nested(step):
                try:
                    graphs[workflow], builders, versions = workflow._compilation()
                except DefinitionError as error:
                    where = f"step {name!r}: nested workflow {workflow.name!r}"
                    problems += (
                        text.within(where)
                        if isinstance(text, Problem)
                        else f"{where}: {text}"
                        for text in error.problems
                    )
                    graphs[workflow] = Graph(workflow.name, "", {})  # for the checks
                    continue
                for builder, version in zip(builders, versions):
                    seen.setdefault(builder, version)
            steps[name] = step.with_callees(
                lambda _, callee: graphs.get(callee.nested, callee)
            )
        graph = freeze(self._defined(steps), problems)
        self._compiled = graph, tuple(seen), list(seen.values())
        return self._compiled

    def _with_all_nested(self) -> set[Compilable]:
        """Give this workflow and all that are nested in it, however deep."""
        return {self, *nested_first(self, Compilable._nested_in_it)}


def definition_of(workflow: Compilable) -> Definition:
    """Give what has been defined of a workflow so far, which need not be sound."""
    return workflow._defined(MappingProxyType(dict(workflow._steps)))


# What was compiled, of which builders, however deep, and the version of each then.
_Compiled: TypeAlias = tuple[Graph, tuple[Compilable, ...], list[int]]
_FIRST = "_first"
_edits = 0  # of all builders
_versions = count()  # of all builders, so that none has the same twice


def _nested(step: Step) -> Iterator[Compilable]:
    for _, callee in step.action.callees():
        if callee.nested is not None:
            yield callee.nested
