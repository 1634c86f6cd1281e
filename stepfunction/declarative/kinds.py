"""Kinds: the types of steps in a document, and the keys that each may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_LEADS = ("next_step", "on_failure")
_SAID = ("description",)
_BRANCHES = (*_LEADS, "branch", "branch_targets", "ends")
_RUNS = ("executor", "retry", "timeout", "inputs", "compensate")
_CALLS = ("params", *_RUNS, "heartbeat")
_MANY = ("stop_on_failure", "max_workers", "tolerated_failures")


class Kind(NamedTuple):
    """A type of step.

    Attributes:
        method: What adds it to a builder.
        required: The keys that it must have.
        keys: Those that it may have, named as the arguments of the method.
        argument: What the method calls the first of the required keys, if otherwise.
    """

    method: str
    required: tuple[str, ...]
    keys: tuple[str, ...]
    argument: str | None = None


KINDS: Mapping[str, Kind] = {
    "call": Kind("add_step", ("func",), (*_SAID, *_BRANCHES, *_CALLS)),
    "workflow": Kind(
        "add_sub_step_function",
        ("workflow",),
        (*_SAID, *_BRANCHES, *_RUNS),
        "sub_step_function",
    ),
    "parallel": Kind(
        "add_parallel_step", ("func",), (*_SAID, *_BRANCHES, *_CALLS, *_MANY), "tasks"
    ),
    "map": Kind(
        "add_map_step",
        ("func",),
        ("items", *_SAID, *_BRANCHES, *_CALLS, *_MANY, "batch_size", "keep_results"),
    ),
    "wait": Kind("add_wait_step", (), ("seconds", "until", *_SAID, *_LEADS, "ends")),
    "pass": Kind("add_pass_step", (), ("result", *_SAID, *_BRANCHES)),
    "fail": Kind("add_fail_step", ("error",), ("cause", *_SAID)),
}
