"""A forked child executes, whatever the threads of its parent were doing just then."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from stepfunction import StepFunction
from stepfunction.core.history import journal


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
def test_a_child_that_is_forked_while_another_thread_begins_an_execution_executes():
    workflow = StepFunction("W").add_step("A", str).set_start_step("A")
    held, done = threading.Event(), threading.Event()

    def hold():
        with journal._first:  # as while an id or the face of a journal is made
            held.set()
            assert done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(15)
        execution = workflow.execute(1)
        os._exit(0 if (execution.output, len(execution.id)) == ("1", 32) else 1)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join(20)
