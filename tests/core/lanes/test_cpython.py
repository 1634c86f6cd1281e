"""CPython's own tests of its process pools, with ``ProcessLanes`` in their place.

They are run where the interpreter ships them. What is not as there is listed here with
its reason, and has to fail: a difference that is gone must leave the list.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import pytest

from stepfunction import ProcessLanes

PACKAGE = "test.test_concurrent_futures"
FOUND = find_spec(PACKAGE) if find_spec("test") is not None else None
# Until 3.11 it was one module, of which none has been tried here.
IS_SHIPPED = FOUND is not None and FOUND.submodule_search_locations is not None
# Module to the tests in it, each of which CPython has for every start method.
MODULES = {
    "test_as_completed": ["AsCompleted"],
    "test_deadlock": ["ExecutorDeadlock"],
    "test_init": ["Initializer", "FailingInitializer"],
    "test_process_pool": ["ProcessPoolExecutor"],
    "test_shutdown": ["ProcessPoolShutdown"],
    "test_wait": ["Wait"],
}
METHODS = ["Forkserver", "Spawn"]  # with fork there may be no other threads

PRIVATE = "it looks into private attributes"
NOT_BROKEN = "there one fault breaks the whole pool; here it fails its call alone"
DIFFERENCES = {
    "test_error_at_task_unpickle": NOT_BROKEN,
    "test_error_during_result_unpickle_in_result_handler": NOT_BROKEN,
    "test_exit_at_task_unpickle": NOT_BROKEN,
    "test_exit_during_result_unpickle_in_result_handler": NOT_BROKEN,
    "test_killed_child": f"{PRIVATE}; {NOT_BROKEN}",
    "test_python_finalization_error": NOT_BROKEN,
    "test_idle_process_reuse_multiple": PRIVATE,
    "test_idle_process_reuse_one": PRIVATE,
    "test_max_tasks_per_child": PRIVATE,
    "test_processes_terminate": PRIVATE,
    "test_saturation": PRIVATE,
    "test_shutdown_deadlock_pickle": PRIVATE,
    "test_traceback": "it wants the very class of the cause, which is private",
    "test_max_tasks_per_child_defaults_to_spawn_context": (
        "there it would else be fork; forkserver, which it is here, need not be left"
    ),
}
# These make what they test by its name, or look at something else altogether.
LEFT_OUT = {
    "test_max_workers_too_large": "there is such a limit on Windows, and not here",
    "test_context_manager_shutdown": "it makes a ProcessPoolExecutor",
    "test_del_shutdown": "it makes a ProcessPoolExecutor",
    "test_shutdown_no_wait": "it makes a ProcessPoolExecutor",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (
        "it replaces private parts of a ProcessPoolExecutor"
    ),
}


class InTheirPlace:
    executor_type = ProcessLanes


def put_into(module: Any, name: str, method: str) -> type:
    """Give a class of CPython's tests with our executor put in."""
    original = getattr(module, f"ProcessPool{method}{name}Test")
    changed: dict[str, Any] = {"__module__": __name__}
    for test, reason in DIFFERENCES.items():
        if hasattr(original, test):
            changed[test] = differing(getattr(original, test), reason)
    changed |= dict.fromkeys(set(LEFT_OUT) & set(dir(original)))
    return type(f"Test{method}{name}", (InTheirPlace, original), changed)


def differing(test: Any, reason: str) -> Any:
    def run(self: Any) -> None:
        test(self)

    return pytest.mark.xfail(reason=reason, strict=True)(run)


def in_scripts(assert_python_ok: Any) -> Any:
    """Let the programs that they run find ``ProcessLanes`` where they look for it."""
    before = (
        "import concurrent.futures, multiprocessing, stepfunction\n"
        "concurrent.futures.ProcessLanes = stepfunction.ProcessLanes\n"
    )

    def run(*args: str, **environment: Any) -> Any:
        option, source = args
        assert option == "-c"
        return assert_python_ok(option, before + source, **environment)

    return run


if IS_SHIPPED:
    for room, names in MODULES.items():
        module = importlib.import_module(f"{PACKAGE}.{room}")
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = in_scripts(module.assert_python_ok)
        for name in names:
            for method in METHODS:
                tests = put_into(module, name, method)
                globals()[tests.__name__] = tests
    del module, tests


def test_every_test_on_the_lists_is_there():
    there = {
        test
        for name, value in globals().items()
        if name.startswith("Test")
        for test in dir(value.__mro__[2])
    }
    assert not IS_SHIPPED or {*DIFFERENCES, *LEFT_OUT} <= there
