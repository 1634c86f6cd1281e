"""Kinds: the types of steps in a document, and the keys that each may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_LEADS_ON = ("next_step", "on_failure")
_BRANCHES = (*_LEADS_ON, "branch", "branch_targets")


class Kind(NamedTuple):
    """A type of step.

    Attributes:
        method: What adds it to a builder.
        required: The keys that it must have.
        keys: Those that it may have, named as the arguments of the method.
    """

    method: str
    required: tuple[str, ...]
    keys: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "call": Kind(
        "add_step",
        ("func",),
        (
            *_BRANCHES,
            "params",
            "executor",
            "retry",
            "timeout",
            "heartbeat",
            "ends",
            "inputs",
            "compensate",
        ),
    ),
    "workflow": Kind(
        "add_sub_step_function",
        ("workflow",),
        (*_BRANCHES, "executor", "retry", "timeout", "ends", "inputs", "compensate"),
    ),
    "parallel": Kind(
        "add_step",
        ("func",),
        (
            *_BRANCHES,
            "stop_on_failure",
            "params",
            "executor",
            "max_workers",
            "tolerated_failures",
            "retry",
            "timeout",
            "heartbeat",
            "ends",
            "inputs",
            "compensate",
        ),
    ),
    "map": Kind(
        "add_map_step",
        ("func",),
        (
            "items",
            *_BRANCHES,
            "params",
            "executor",
            "max_workers",
            "batch_size",
            "stop_on_failure",
            "tolerated_failures",
            "keep_results",
            "retry",
            "timeout",
            "ends",
            "compensate",
        ),
    ),
    "wait": Kind("add_wait_step", (), ("seconds", "until", *_LEADS_ON, "ends")),
    "pass": Kind("add_pass_step", (), ("result", *_BRANCHES, "ends")),
    "fail": Kind("add_fail_step", ("error",), ("cause",)),
}
