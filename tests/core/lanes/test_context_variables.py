from __future__ import annotations

import decimal
import sys
from contextvars import ContextVar

from shared.processes import pid

from stepfunction import ProcessLanes, StepFunction

tenant = ContextVar("tenant", default="none")

MODULE = """
import decimal
from contextvars import ContextVar

tenant = ContextVar("tenant", default="none")
tenant.set("of the module")
decimal.getcontext().prec = 11

def seen(value=None):
    found = tenant.get(), decimal.getcontext().prec
    tenant.set("of a call")
    decimal.getcontext().prec = 3
    return found
"""


def bind(value):
    seen = tenant.get()
    tenant.set(f"call {value}")
    return seen


def calculate(precision):
    before = decimal.getcontext().prec
    decimal.getcontext().prec = precision
    return before


def bind_and_fail(value):
    tenant.set("a failure")
    raise ValueError(value)


def test_what_a_call_sets_is_gone_for_the_next_call_in_its_worker(one_lane):
    worker = one_lane.submit(pid).result()
    assert [one_lane.submit(bind, n).result() for n in range(3)] == ["none"] * 3
    assert one_lane.submit(pid).result() == worker


def test_what_a_failed_call_set_is_gone_too(one_lane):
    assert one_lane.submit(bind_and_fail, 1).exception() is not None
    assert one_lane.submit(bind, 1).result() == "none"


def test_arithmetic_of_decimals_is_set_for_one_call_alone(one_lane):
    seen = [one_lane.submit(calculate, precision).result() for precision in (5, 6, 7)]
    assert seen == [28, 28, 28]


def test_what_a_task_sets_is_gone_for_the_next_execution_on_the_same_lanes(one_lane):
    workflow = StepFunction("F").add_step("S", bind, executor="process")
    workflow.set_start_step("S")
    seen = [workflow.execute(n, executor=one_lane).output for n in range(3)]
    assert seen == ["none"] * 3


def test_what_a_module_sets_when_it_is_imported_is_there_for_every_call(
    tmp_path, monkeypatch
):
    (tmp_path / "sets_variables.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import sets_variables

    try:
        with ProcessLanes(1) as lanes:
            seen = [lanes.submit(sets_variables.seen).result() for _ in range(3)]
    finally:
        del sys.modules["sets_variables"]
        decimal.getcontext().prec = 28
    assert seen == [("of the module", 11)] * 3
