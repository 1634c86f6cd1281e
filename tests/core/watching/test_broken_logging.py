"""Handlers and filters of logging that raise change nothing of an execution."""

from __future__ import annotations

import io
import logging

import pytest

from stepfunction import Status, StepFunction


def refuse(*given):
    raise RuntimeError("refused")


def fail(value):
    raise ValueError(value)


def same(value):
    return value


class BrokenHandler(logging.Handler):
    emit = refuse


def broken_filter():
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(refuse)
    return handler


@pytest.fixture(params=[BrokenHandler, broken_filter])
def broken_logging(request):
    logger = logging.getLogger("stepfunction")
    handler, level = request.param(), logger.level
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)


def one(**options):
    workflow = StepFunction("W", on_failure="Caught").set_start_step("A")
    return workflow.add_step("A", **options).add_step("Caught", lambda error: "caught")


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_it_goes_on_and_they_are_shown(broken_logging, executor, capsys):
    workflow = one(func={"a": same}, parallel=True, executor=executor)
    assert workflow.execute(4).output == {"a": 4}
    assert "RuntimeError: refused" in capsys.readouterr().err


def test_what_failed_has_failed_as_it_did(broken_logging):
    execution = one(func=fail).execute(4)
    assert (execution.status, execution.output) == (Status.FAILED, "caught")
    assert isinstance(execution.error, ValueError)


def test_a_listener_may_fail_too(broken_logging):
    assert one(func=same).execute(4, listeners=[refuse]).output == 4


def test_nothing_is_shown_where_logging_is_told_so(
    broken_logging, capsys, monkeypatch
):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert one(func=same).execute(4).output == 4
    assert capsys.readouterr().err == ""
