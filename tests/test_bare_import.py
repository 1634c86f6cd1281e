from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stepfunction

PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])
DEAR = ("asyncio", "multiprocessing", "pydot", "tenacity")
NOT_NEEDED = (
    *DEAR,
    "concurrent.futures",
    "copy",
    "datetime",
    "inspect",
    "logging",
    "pickle",
    "pyparsing",
    "subprocess",
    "stepfunction.core.engine.items",
    "stepfunction.core.definition.named_inputs",
    "stepfunction.declarative",
    "stepfunction.drawing",
    "stepfunction.testing",
)

BUILD = """\
import sys
from stepfunction import StepFunction
workflow = StepFunction("Sum")
"""
CHAIN = BUILD + """\
workflow.add_step("Twice", lambda n: 2 * n, "Sign", on_failure="Sorry")
workflow.add_step("Sign", lambda n: n > 0, branch={True: "Good"}, next_step="Bad")
workflow.add_step("Good", lambda _, context: context["Twice"])
workflow.add_step("Bad", lambda _: [][1], on_failure="Sorry")
workflow.add_step("Sorry", repr)
workflow.set_start_step("Twice")
assert workflow.execute(4).output == 8
assert workflow.execute(-4).output == "IndexError('list index out of range')"
"""
PARALLEL = BUILD + """\
workflow.add_step("Both", {"min": min, "max": max}, "Sum", parallel=True)
workflow.add_step("Sum", lambda results: sum(results.values()))
workflow.set_start_step("Both")
assert workflow.execute([1, 2, 3]).output == 4
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": PACKAGE_HOME},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code: str) -> set[str]:
    """Give the modules that some code brings in over those of a bare interpreter."""
    tell = "\nimport sys; print(*sys.modules)"
    return set(run(code + tell).split()) - set(run(tell).split())


@pytest.mark.parametrize(
    "code",
    [
        "from stepfunction import StepFunction",
        "from stepfunction.core.step_function import StepFunction",
        "from stepfunction import RetryPolicy; RetryPolicy(max_attempts=5)",
    ],
)
def test_importing_brings_in_nothing_dear(code):
    assert loaded(code).isdisjoint(NOT_NEEDED)


def test_a_workflow_of_plain_steps_brings_in_nothing_dear():
    assert loaded(CHAIN).isdisjoint(DEAR)


def test_steps_of_plain_functions_bring_in_no_more_than_the_import():
    code = BUILD + """\
workflow.add_step("Add", lambda numbers: numbers + [1], "Fail")
workflow.add_step("Fail", lambda numbers: numbers["no index"], on_failure="Sorry")
workflow.add_step("Sorry", lambda error: type(error)).set_start_step("Add")
assert workflow.execute([]).output is TypeError
"""
    assert loaded(code).isdisjoint(NOT_NEEDED)


def test_a_parallel_step_on_threads_brings_in_nothing_dear():
    assert loaded(PARALLEL).isdisjoint(DEAR)


@pytest.mark.parametrize("barred", [DEAR, *((name,) for name in DEAR)])
@pytest.mark.parametrize("code", [CHAIN, PARALLEL])
def test_what_is_dear_can_be_missing_where_it_is_not_used(code, barred):
    run(f"import sys; sys.modules.update(dict.fromkeys({barred!r}))\n{code}")


def test_a_retry_that_is_not_needed_brings_in_nothing_dear():
    code = BUILD + """\
from stepfunction import RetryPolicy
workflow.add_step("Add", sum, retry=RetryPolicy()).set_start_step("Add")
assert workflow.execute([1, 2]).output == 3
"""
    assert loaded(code).isdisjoint(DEAR)


def test_a_retry_brings_in_tenacity_when_a_call_has_failed():
    code = BUILD + """\
from stepfunction import RetryPolicy
def fail(_, context):
    if context.attempt == 1:
        raise OSError
retry = RetryPolicy(interval=0)
workflow.add_step("Fail", fail, retry=retry).set_start_step("Fail").execute()
"""
    assert "tenacity" in loaded(code)


def test_drawing_brings_in_pydot():
    code = BUILD + 'workflow.add_step("A", str).set_start_step("A").to_dot()'
    assert "pydot" in loaded(code)


def test_importing_prints_and_logs_nothing():
    code = "import logging, stepfunction; print(logging.getLogger().handlers)"
    assert run(code) == "[]\n"
