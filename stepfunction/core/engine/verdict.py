"""Verdict: how an execution ends, by its graph and what its journal has.

Nothing is called to find that out, so the end of an execution that is read from a store
is found as it was.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from stepfunction.core.definition.graph import Graph
from stepfunction.core.errors import StepExecutionError, StepLimitError
from stepfunction.core.history.journal import Journal
from stepfunction.core.history.position import Blame, Failed, Position
from stepfunction.core.outcomes import COMPLETED, Status
from stepfunction.core.raised import context_of, is_a
from stepfunction.core.wording import error_text

# How an execution ends: ``COMPLETED`` or ``FAILED``; what the last step returned, None
# after an unhandled failure; the first failure, and the step at which it failed, None
# of both where it completed; whether it failed elsewhere than at a step that ends it. A
# plain tuple, for each handled failure makes one.
Verdict: TypeAlias = tuple[Status, Any, Exception | None, Blame | None, bool]
_FAILED = Status.FAILED


def verdict_of(journal: Journal, graph: Graph, position: Position) -> Verdict:
    """Say how an execution ends that has come to this position, and goes no further.

    Args:
        journal: Its journal.
        graph: What it ran.
        position: Where it stands. A step that follows there would be one too many.
    """
    follower, value, failing = position
    if follower is not None:
        error: Any = limit_error(journal, graph, follower)
        return _FAILED, None, error, Blame(follower, error, True), True
    last = graph.table[journal.last_step]
    if failing is None:
        if last.ends != "failed":
            return COMPLETED, value, None, None, False
        text = f"step {last.name!r} of {graph.name!r} ends the workflow as failed"
        error = StepExecutionError(text, last.name)
        blame = Blame(last.name, error, True)
        if journal.recovered is not None:  # as of a step that cleans up in any case
            found = _blame_at(journal.recovered[0], graph)
            text += f", after step {found.step!r} had failed: {error_text(found.error)}"
            failure, error = StepExecutionError(text, last.name), found.error
            failure.__cause__ = error
            blame = Blame(last.name, failure, True)
        return _FAILED, value, error, blame, False
    first, latest = (_blame_at(failed, graph) for failed in failing)
    if journal.has_just_failed:
        is_end = last.action.always_fails
        error = (latest if is_end else first).error
        return _FAILED, None, error, latest, not is_end
    is_failure_step = last.name in graph.failure_steps
    if last.ends == "completed" or (last.ends is None and not is_failure_step):
        return COMPLETED, value, None, None, False
    return _FAILED, value, first.error, first, False


def limit_error(journal: Journal, graph: Graph, follower: str) -> StepLimitError:
    """Give the error of an execution that would take more steps than it may."""
    return StepLimitError(
        f"{journal.workflow!r} has run {graph.max_steps} steps and would go on with "
        f"{follower!r}; if that is no endless loop, raise max_steps",
        follower,
    )


def remember(first: BaseException, error: BaseException) -> None:
    """Make the first failure the context of a failure in a failure step."""
    earlier, later = _contexts(first), _contexts(error)
    if not {id(one) for one in earlier} & {id(one) for one in later}:
        BaseException.__setattr__(later[-1], "__context__", first)


def _contexts(error: BaseException) -> list[BaseException]:
    chain = {id(error): error}
    while (context := context_of(error)) is not None and id(context) not in chain:
        chain[id(context)] = error = context
    return list(chain.values())


def _blame_at(failed: Failed, graph: Graph) -> Blame:
    """Say which step failed."""
    (name, *_), *_, error = failed
    is_ours = is_a(error, StepExecutionError)
    action = graph.table[name].action
    return Blame(name, error, is_ours and action.kind != "call")
