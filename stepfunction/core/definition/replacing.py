"""Replacing: a step that calls something else, and is what it was in all else."""

from __future__ import annotations

from typing import Any

from stepfunction.core.definition.actions import Action, FanOut, MapItems
from stepfunction.core.definition.arguments import Calls, Leads, Many
from stepfunction.core.definition.drafts import Draft
from stepfunction.core.definition.graph import Step
from stepfunction.core.errors import Problem
from stepfunction.core.wording import did_you_mean


def replaced(builder: Any, step: Step, func: Any) -> Step:
    """Give a step that calls something else.

    Args:
        builder: The StepFunction that it is of.
        step: The step.
        func: What it calls from now on, as its method of the builder was given it.

    Raises:
        DefinitionError: If it cannot call that, with every reason.
    """
    action = step.action
    output = None if not action.has_tasks else "list" if action.has_items else "mapping"
    params, inputs = _params(action), step.inputs
    calls = Calls(
        dict(params) if params else None,
        None if inputs is None else dict(inputs),
        step.executor,
        step.retry,
        step.timeout,
        step.heartbeat,
    )
    draft = Draft(builder, step.name, Leads(), calls, output, is_new=False)
    given = draft.step(_action(draft, action, step, func))
    return step.replace(action=given.action)


def _action(draft: Draft, action: Action, step: Step, func: Any) -> Action | None:
    """Give what the step does from now on; None where that is not sound."""
    if isinstance(action, FanOut):
        tolerated = action.tolerated if action.share is None else action.share
        many = Many(action.stop_on_failure, action.max_workers, tolerated)
        found = draft.fan_out(func, many)
        if found is not None and isinstance(step.compensate, tuple):
            for name, _ in step.compensate:
                if name not in found.tasks:
                    text = f"compensate names {name!r}, which is no task any more"
                    hint = did_you_mean(name, found.tasks)
                    draft.problems.append(Problem("compensate", text, hint))
        return found
    if isinstance(action, MapItems):
        many = Many(action.stop_on_failure, action.max_workers, action.tolerated)
        keeps = action.keep_results
        return draft.map_items(func, action.items, many, action.batch_size, keeps)
    return draft.call(func, "; this step is not parallel, so give one callable")


def _params(action: Action) -> Any:
    """Give the keyword arguments that all its calls are given; None for none."""
    found = (getattr(callee, "params", None) for _, callee in action.callees())
    return next(filter(None, found), None)
