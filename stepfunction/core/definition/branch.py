"""Branch: where a step's result leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from numbers import Number
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from stepfunction.core.definition.callables import answer, misfit, name_of
from stepfunction.core.definition.likeness import Defined, deep_copy
from stepfunction.core.errors import NoBranchMatchedError, Problem, add_note
from stepfunction.core.raised import is_a, short_repr
from stepfunction.core.wording import did_you_mean, listed, plain_text

_MOST_LISTED = 10


class Arrow(NamedTuple):
    """One arrow of the graph.

    Attributes:
        kind: ``"next"``, ``"branch"`` or ``"failure"``.
        label: What it asks for: a result, an exception class, or nothing.
        target: The name of the step that it leads to.
    """

    kind: Literal["next", "branch", "failure"]
    label: str
    target: str


class Branch(Defined):
    """Where a result leads.

    Attributes:
        table: Result to itself and the step that it leads to.
        chooser: A callable of the output that gives a step's name or None; None
            where the table is looked up.
        targets: The steps that the callable may name.
        conditions: Predicates of the output and the steps that they lead to, of
            which the first that holds counts.
    """

    __slots__ = ()
    __deepcopy__ = deep_copy

    table: Mapping[Any, tuple[Any, str]] = MappingProxyType({})
    chooser: Callable[[Any], str | None] | None = None
    targets: tuple[str, ...] = ()
    conditions: tuple[tuple[Callable[[Any], object], str], ...] = ()

    def __reduce__(self) -> Any:
        table, *others = self._values
        return Branch, (dict(table), *others)

    def choose(self, result: Any) -> str | None:
        """Give the step that a result leads to, or None."""
        if self.chooser is not None:
            try:
                chosen: str | None = answer(self.chooser, result)
            except Exception as error:
                add_note(error, "raised by the branch of the step")
                raise
            return chosen
        if self.conditions:
            return self._first_that_holds(result)
        if not _is_hashable(result) or result not in self.table:
            return None
        key, target = self.table[result]
        # True == 1 in Python, but who asks for one does not mean the other.
        if isinstance(key, bool) is not is_a(result, bool) and (
            isinstance(key, Number) and is_a(result, Number)
        ):
            return None
        return target

    def _first_that_holds(self, result: Any) -> str | None:
        for index, (holds, target) in enumerate(self.conditions):
            try:
                if answer(holds, result):
                    return target
            except Exception as error:
                add_note(
                    error,
                    f"raised by branch[{index}] of the step, {name_of(holds)}, "
                    f"which leads to {target!r}",
                )
                raise
        return None

    def known(self) -> tuple[Any, ...]:
        """Give the results that lead on or, for callables, the steps."""
        named = self.targets or tuple(target for _, target in self.conditions)
        return named or tuple(self.table)

    def arrows(self) -> Iterator[Arrow]:
        """Give the arrows, in the order of the definition."""
        for key, target in self.table.values():
            yield Arrow("branch", label_of(key), target)
        for target in self.targets:
            yield Arrow("branch", "", target)
        for number, (holds, target) in enumerate(self.conditions, 1):
            yield Arrow("branch", _condition_name(holds, number), target)

    def unmatched(self, step: str, output: Any, target: Any) -> NoBranchMatchedError:
        """Give the error of an output that leads nowhere.

        Args:
            step: The name of the step.
            output: What it returned.
            target: What the callable chose, which is none of its targets; or None.
        """
        known = self.known()
        shown = listed(known, _MOST_LISTED, text=short_repr)
        given = short_repr(output)
        if target is not None:
            text = (
                f"branch of step {step!r} chose {short_repr(target)} for {given}, but "
                f"branch_targets has only {shown}"
                f"{did_you_mean(target, known) if is_a(target, str) else ''}"
            )
        elif self.chooser is not None:
            text = (
                f"branch of step {step!r} chose no step for {given}; "
                f"let it return one of {shown}, or give next_step as the default"
            )
        elif self.conditions:
            text = (
                f"no condition of step {step!r} holds for {given}, of those that lead "
                f"to {shown}; give next_step as the default"
            )
        else:
            hint = "" if _is_hashable(output) else (
                f" (a {type(output).__name__} cannot be a key of a mapping: "
                "return a string, or give branch a callable)"
            )
            hint = hint or _near_key(output, known)
            text = (
                f"step {step!r} returned {given}, but branch knows only "
                f"{shown}{hint}; return one of these, or give next_step as the default"
            )
        return NoBranchMatchedError(text, step, output, known)


def _near_key(output: Any, known: Iterable[Any]) -> str:
    """Say which key may be meant: one that is written alike, of whatever type."""
    keys = [*known]
    for key in keys:
        for text, other in ((key, output), (output, key)):
            if type(text) is str and text.strip().lower() in _written(other):
                return f" ({text!r} is a text, which {short_repr(other)} is not)"
        if is_a(key, bool) is not is_a(output, bool) and _is_same_number(key, output):
            number, truth = (output, key) if is_a(key, bool) else (key, output)
            return f" ({number!r} is a number, which {truth!r} does not stand for)"
    texts = [key for key in keys if type(key) is str and key]
    return did_you_mean(output, texts) if type(output) is str else ""


def _is_same_number(one: Any, other: Any) -> bool:
    plain = (bool, int, float)
    return type(one) in plain and type(other) in plain and one == other


def _written(value: Any) -> Iterator[str]:
    """Give how somebody may write a value as a text, in small letters."""
    from enum import Enum

    texts: tuple[Any, ...] = ()
    with suppress(Exception):  # a member, or number, of whatever class
        if is_a(value, Enum):
            texts = value.name, value.value, f"{type(value).__name__}.{value.name}"
        elif is_a(value, bytes):
            texts = (value.decode(),)
        elif value is None or is_a(value, Number):
            texts = (value,)
        yield from [str(text).strip().lower() for text in texts]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except Exception:  # most raise a TypeError, but some have a word of their own
        return False
    return True


def _condition_name(holds: Any, number: int) -> str:
    """Give what stands at the arrow of a condition, of which a lambda has no name."""
    name = name_of(holds)
    return f"condition {number}" if name.endswith("<lambda>") else name


def label_of(key: Any) -> str:
    """Give what stands at the arrow of a branch's key."""
    return str(key) if isinstance(key, str) and key.strip() else short_repr(key)


def branch_problems(branch: Any, targets: Any, output: str | None) -> Iterator[str]:
    """Say what is wrong with a step's ``branch`` and ``branch_targets``.

    Args:
        branch: The one, as it was given.
        targets: The other.
        output: What the output is that can be no key: ``"mapping"`` or ``"list"``; or
            None.
    """
    if isinstance(branch, Mapping):
        yield from _table_problems(branch, output)
    elif isinstance(branch, list | tuple):
        yield from _condition_problems(branch)
    elif callable(branch):
        if problem := misfit(branch):
            yield f"branch is {name_of(branch)}, which {problem}"
        yield from _target_problems(targets)
        return
    elif branch is not None:
        yield (
            "branch is a mapping of result to step, a list of pairs of predicate and "
            "step, or a callable of the output that gives a step's name, "
            f"not {branch!r}{'; make a list of it' if _is_iterable(branch) else ''}"
        )
    if targets is not None:
        text = "branch_targets goes with a branch that is a callable"
        yield Problem("branch_targets", text)


def _is_iterable(branch: Any) -> bool:
    return isinstance(branch, Iterable) and not isinstance(branch, str | bytes)


def _table_problems(table: Mapping[Any, Any], output: str | None) -> Iterator[str]:
    if not table:
        yield "branch is empty; leave it out, or say where results lead"
    for result, target in table.items():
        if not isinstance(target, str):
            yield f"branch[{result!r}] is the name of a step, not {target!r}"
    if output == "mapping":
        yield (
            "branch is a mapping, but the output of a parallel step, itself a mapping, "
            "can be no key of it; let branch be a callable of the output, with "
            "branch_targets"
        )
    elif output is not None:
        yield (
            "branch is a mapping, but the output of a map step can be no key of it; "
            "let branch be a list of pairs of predicate and step"
        )


def _condition_problems(branch: Sequence[Any]) -> Iterator[str]:
    if not branch:
        yield "branch is empty; leave it out, or say where results lead"
    for index, pair in enumerate(branch):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            yield f"branch[{index}] is a pair of predicate and step, not {pair!r}"
            continue
        holds, target = pair
        if not callable(holds):
            yield f"branch[{index}] has {holds!r}, which is no predicate: a callable"
        elif problem := misfit(holds):
            yield f"branch[{index}] has {name_of(holds)}, which {problem}"
        if not isinstance(target, str):
            yield f"branch[{index}] has {target!r}, which is no name of a step"


def _target_problems(targets: Any) -> Iterator[str]:
    if isinstance(targets, str):
        text = f"branch_targets is a list of names, not the text {targets!r}"
        yield Problem("branch_targets", text)
    elif not (
        isinstance(targets, Sequence)
        and targets
        and all(isinstance(name, str) for name in targets)
    ):
        yield (
            "branch is a callable, so give branch_targets=['…'], the names of the "
            "steps it may choose; checking and drawing cannot call it"
        )


def frozen_branch(branch: Any, targets: Any) -> Branch:
    """Give the branch of arguments that have no problems."""
    if isinstance(branch, Mapping):
        table = {key: (key, plain_text(step)) for key, step in branch.items()}
        return Branch(MappingProxyType(table))
    if isinstance(branch, list | tuple):
        pairs = ((holds, plain_text(step)) for holds, step in branch)
        return Branch(conditions=tuple(pairs))
    return Branch(chooser=branch, targets=tuple(map(plain_text, targets)))
