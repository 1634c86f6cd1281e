"""Catches: where failures lead, by their class: a step's, and a workflow's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from stepfunction.core.definition.paths import reachable
from stepfunction.core.errors import causes
from stepfunction.core.raised import is_a
from stepfunction.core.wording import closest, did_you_mean, plain_text

if TYPE_CHECKING:
    from stepfunction.core.definition.graph import Definition, Step

# A step for all failures, or for those of each class; the first that matches counts.
OnFailure: TypeAlias = str | tuple[tuple[type[BaseException], str], ...]


def target_of(on_failure: OnFailure | None, error: BaseException) -> str | None:
    """Give the step that a failure leads to; None if it leads to none.

    Args:
        on_failure: Where failures lead.
        error: The failure. Where that is an error of ours, what it hides counts too.
    """
    if on_failure is None or isinstance(on_failure, str):
        return on_failure
    chain = tuple(causes(error))
    for error_class, target in on_failure:
        if any(is_a(cause, error_class) for cause in chain):
            return target
    return None


def targets_of(on_failure: OnFailure | None) -> list[str]:
    """Give the steps that failures lead to."""
    if isinstance(on_failure, str):
        return [on_failure]
    return [target for _, target in on_failure or ()]


def frozen_on_failure(on_failure: Any) -> OnFailure | None:
    """Give an ``on_failure`` that has no problems as it is kept."""
    if on_failure is None:
        return None
    if isinstance(on_failure, Mapping):
        items = on_failure.items()
        return tuple((cause, plain_text(step)) for cause, step in items)
    return plain_text(on_failure)


def failure_problems(on_failure: Any) -> Iterator[str]:
    """Say what is wrong with an ``on_failure``."""
    if isinstance(on_failure, str):
        return
    if not isinstance(on_failure, Mapping):
        yield (
            "on_failure is the name of a step or a mapping of exception class to name, "
            f"not {on_failure!r}"
        )
        return
    if not on_failure:
        yield "on_failure is empty; leave it out, or say where failures lead"
    earlier: list[type[BaseException]] = []
    for error_class, target in on_failure.items():
        if not isinstance(error_class, type) or not issubclass(
            error_class, BaseException
        ):
            yield f"on_failure has the key {error_class!r}, which is no exception class"
            continue
        base = next((base for base in earlier if issubclass(error_class, base)), None)
        if base is not None:
            yield (
                f"on_failure asks for {error_class.__name__} after {base.__name__}, "
                "which takes it already; put the narrower class first"
            )
        if not isinstance(target, str):
            yield (
                f"on_failure[{error_class.__name__}] is the name of a step, "
                f"not {target!r}"
            )
        earlier.append(error_class)


def target_problems(definition: Definition) -> Iterator[str]:
    """Say what is wrong with the steps that a workflow's ``on_failure`` leads to."""
    start, steps = definition.start, definition.steps
    for target in dict.fromkeys(targets_of(definition.on_failure)):
        if target == start and definition.max_steps is None:
            yield (
                f"the workflow's on_failure leads to {target!r}, its start step, so no "
                "failure could go there but in a circle; lead to a later step, or "
                "allow loops with StepFunction(max_steps=…)"
            )
        if target not in steps:
            yield (
                f"the workflow's on_failure leads to {target!r}, which is no step"
                f"{did_you_mean(target, steps)}"
            )


def steps_with_catches(definition: Definition) -> Mapping[str, Step]:
    """Give the steps, with the workflow's ``on_failure`` where they have none.

    Its target takes none of its own failures, nor of what follows it, which would be
    a circle; where loops are allowed, it does take those of what is on the main path.
    """
    start, steps = definition.start, definition.steps
    known = _known_targets(definition)
    if not known:
        return steps
    arrows = {origin: step.arrows() for origin, step in steps.items()}
    targets = set(targets_of(known))
    after = set(targets)
    for target in targets:
        after |= reachable(target, arrows)
    if definition.max_steps is not None and start is not None and start in steps:
        after -= reachable(start, arrows, failures=False) - targets
    return {
        name: (
            step
            if name in after
            or step.on_failure is not None
            or step.action.always_fails
            else step.replace(on_failure=known)
        )
        for name, step in steps.items()
    }


def _known_targets(definition: Definition) -> OnFailure | None:
    """Give the steps that are meant, so that a mistyped one is reported once."""
    on_failure, steps = definition.on_failure, definition.steps
    meant = {
        target: target if target in steps else closest(target, steps)
        for target in targets_of(on_failure)
    }
    if on_failure is None or isinstance(on_failure, str):
        return meant.get(on_failure or "")
    pairs = ((cause, meant[target]) for cause, target in on_failure)
    return tuple((cause, target) for cause, target in pairs if target is not None)
