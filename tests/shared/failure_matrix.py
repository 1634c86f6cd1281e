"""The tables of docs/guides/failure.md, made by running what they tell of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stepfunction import DefinitionError, Execution, StepFunction, StepFunctionError

PLAIN, NESTED, PARALLEL, MAP, BY_ADD_STEP = (
    "plain step",
    "nested workflow",
    "parallel step",
    "map step",
    "`add_step(…, parallel=True)`",
)
# The columns of the first table, and the kinds of step that each is about.
COLUMNS = {
    f"{PLAIN}, {NESTED}": (PLAIN, NESTED),
    f"{PARALLEL}, {MAP}": (PARALLEL, MAP),
    BY_ADD_STEP: (BY_ADD_STEP,),
}
FAILURE_STEP = {"on_failure": "Apologise"}
# What one says, what that is to a step, and whether the workflow has a failure step.
SAYINGS: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "nothing": ({}, False),
    "`on_failure=` of the step": (FAILURE_STEP, False),
    "`on_failure=` of the workflow": ({}, True),
    "`tolerated_failures=1`, one fails": ({"tolerated_failures": 1}, False),
    "`tolerated_failures=0`, one fails": ({"tolerated_failures": 0}, False),
    "`tolerated_failures=1` and `on_failure=`": (
        {"tolerated_failures": 1, **FAILURE_STEP},
        False,
    ),
    "`tolerated_failures=0` and `on_failure=`": (
        {"tolerated_failures": 0, **FAILURE_STEP},
        False,
    ),
    "`stop_on_failure=True`": ({"stop_on_failure": True}, False),
    "`stop_on_failure=True` and `on_failure=`": (
        {"stop_on_failure": True, **FAILURE_STEP},
        False,
    ),
}
RAISES, FAILS_OVER, GOES_ON = "**raises**", "**failure step**", "**goes on**"


@dataclass
class Run:
    """What came of one execution whose step ``Pay`` has a failure in it."""

    execution: Execution
    given: list[tuple[str, Any]]
    raised: StepFunctionError | None
    logged: list[str]

    @property
    def ending(self) -> str:
        if self.raised is not None and not self.given:
            return RAISES
        return {"Apologise": FAILS_OVER, "Thank": GOES_ON}[self.given[0][0]]


def pay(order: Any) -> Any:
    raise ConnectionError("no answer")


def ship(order: Any) -> str:
    return "shipped"


def pay_one(amount: int) -> int:
    if amount == 2:
        raise ConnectionError("no answer")
    return amount


def _build(kind: str, said: Mapping[str, Any], of_all: bool) -> StepFunction:
    shop = StepFunction("Shop", on_failure="Apologise" if of_all else None)
    tasks: dict[str, Callable[..., Any]] = {"ship": ship, "pay": pay}
    if kind == PLAIN:
        shop.add_step("Pay", pay, "Thank", **said)
    elif kind == NESTED:
        bank = StepFunction("Bank").add_step("Charge", pay).set_start_step("Charge")
        add: Any = shop.add_sub_step_function
        add("Pay", bank, "Thank", **said)
    elif kind == PARALLEL:
        shop.add_parallel_step("Pay", tasks, next_step="Thank", **said)
    elif kind == MAP:
        shop.add_map_step("Pay", pay_one, next_step="Thank", **said)
    else:
        shop.add_step("Pay", tasks, "Thank", parallel=True, **said)
    return shop


def run(kind: str, said: Mapping[str, Any], of_all: bool, check: bool = False) -> Run:
    """Execute a workflow whose step of that kind has a failure in it."""
    given: list[tuple[str, Any]] = []

    def note(value: Any, context: Any) -> str:
        given.append((context.step, value))
        return "noted"

    shop = _build(kind, said, of_all)
    shop.add_step("Thank", note)
    if of_all or "on_failure" in said:
        shop.add_step("Apologise", note)
    shop.set_start_step("Pay")
    log = logging.getLogger("stepfunction")
    heard: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = heard.append  # type: ignore[method-assign]
    log.addHandler(handler)
    raised = None
    try:
        execution = shop.execute([1, 2, 3], check=check)
    except StepFunctionError as error:
        raised, execution = error, error.execution  # type: ignore[attr-defined]
    finally:
        log.removeHandler(handler)
    return Run(execution, given, raised, [record.getMessage() for record in heard])


def ending_of(kind: str, said: Mapping[str, Any], of_all: bool) -> str:
    """Give how it ends if that is said of a step of that kind."""
    try:
        return run(kind, said, of_all).ending
    except (DefinitionError, TypeError):
        return "refused"


def sayings_table() -> str:
    """Give the first table: what one says, and how it ends then."""
    lines = [["you say", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    for saying, (said, of_all) in SAYINGS.items():
        cells = []
        for kinds in COLUMNS.values():
            (ending,) = {ending_of(kind, said, of_all) for kind in kinds}
            cells.append(ending)
        lines.append([saying, *cells])
    return _table(lines)


def endings_table() -> str:
    """Give the second table: what each ending is, whatever the step."""
    columns = []
    for ending in (RAISES, FAILS_OVER, GOES_ON):
        found = {
            _facts_of_ending(kind, said, of_all)
            for kind in (PLAIN, NESTED, PARALLEL, MAP, BY_ADD_STEP)
            for said, of_all in SAYINGS.values()
            if ending_of(kind, said, of_all) == ending
        }
        (facts,) = found  # the same for all of them
        columns.append([ending, "---", *facts])
    rows = [
        "",
        "---",
        "the next step is given",
        "`execution.status`",
        "`execute()` raises",
        "`execute(check=True)` raises",
        "`execution.failures` has",
        "the log has, at ERROR",
    ]
    return _table([list(line) for line in zip(rows, *columns, strict=True)])


def _facts_of_ending(
    kind: str, said: Mapping[str, Any], of_all: bool
) -> tuple[str, ...]:
    one, checked = run(kind, said, of_all), run(kind, said, of_all, check=True)
    execution, given = one.execution, "no next step"
    if one.given:
        ((_, value),) = one.given
        given = "the output, the exception in it"
        if isinstance(value, BaseException):
            assert value is execution.error
            given = "the exception"
    whole = any(record.part is None for record in execution.failures)
    parts = any(record.part is not None for record in execution.failures)
    assert parts is (kind not in (PLAIN, NESTED))
    logged = any(line.startswith("step 'Pay'") for line in one.logged)
    return (
        given,
        str(execution.status),
        "its error" if one.raised else "nothing",
        "its error" if checked.raised else "nothing",
        "the step, and its tasks or items" if whole else "the tasks or items",
        "the same" if logged is whole else "other things",
    )


def errors_table() -> str:
    """Give the third table: which exceptions those are, for each kind of step."""
    lines = [
        ["of a", "the exception is a", "its error is a", "the log names"],
        ["---"] * 4,
    ]
    for kind in (PLAIN, NESTED, PARALLEL, MAP):
        found = {
            _errors(kind, said, of_all)
            for said, of_all in SAYINGS.values()
            if ending_of(kind, said, of_all) in (RAISES, FAILS_OVER)
        }
        (facts,) = found
        lines.append([kind, *facts])
    return _table(lines)


def _errors(kind: str, said: Mapping[str, Any], of_all: bool) -> tuple[str, ...]:
    checked = run(kind, said, of_all, check=True)
    given, raised = checked.execution.error, checked.raised
    assert raised is not None
    # The page says so of all of them.
    assert isinstance(raised.__cause__, ConnectionError)
    assert ConnectionError in (type(given), type(given.__cause__))
    names = []
    for line in checked.logged:
        what = line.split(" failed", 1)[0].removesuffix(" of 'Shop'")
        names.append(what.replace(" of 'Bank'", " inside").replace("'", "`"))
    return (
        f"`{type(given).__name__}`",
        f"`{type(raised).__name__}`",
        ", ".join(names),
    )


def _table(lines: list[list[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
