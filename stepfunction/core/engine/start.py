"""Running: how an execution is begun, and brought to its end.

That is in the thread that calls, in one of its own, or in one beside an event loop.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from threading import get_ident
from time import time
from typing import TYPE_CHECKING, Any, TypeAlias

from stepfunction.core.cancellation import Cancellation
from stepfunction.core.clock import perf_counter
from stepfunction.core.definition.arguments import is_duration
from stepfunction.core.definition.freezing import sending_problems
from stepfunction.core.definition.graph import Graph
from stepfunction.core.engine.run import Run
from stepfunction.core.engine.walk import run_to_end
from stepfunction.core.errors import (
    DefinitionError,
    Problem,
    ResumeError,
    StoreError,
    WorkerStartError,
)
from stepfunction.core.history.execution import Execution, conclude, journal_of
from stepfunction.core.history.journal import NOTHING, Journal
from stepfunction.core.lapse import leave
from stepfunction.core.logger import logger
from stepfunction.core.outcomes import UNDER_WAY, Status
from stepfunction.core.raised import is_a, short_repr
from stepfunction.core.surroundings import (
    Taken,
    guard,
    keeps_here,
    runs_beside,
    take,
    within,
)
from stepfunction.core.waiting import LONGEST_WAIT, start
from stepfunction.core.watching.events import Listener, checked_listeners
from stepfunction.core.watching.telling import audience_of
from stepfunction.core.workers.coroutines import callers_loop
from stepfunction.core.workers.executors import (
    ExecutorChoice,
    executor_problem,
    is_executor,
    runs_in_processes,
)
from stepfunction.core.workers.workshop import Workshop

if TYPE_CHECKING:
    import asyncio

    from stepfunction.core.store import Store

__tracebackhide__ = True  # pytest shows the test and what is called, not us

# Of the workflow, the input and the run: the journal of an execution that is stored.
Stored: TypeAlias = "Callable[[Graph, Any, Run], Journal]"


def checked_arguments(
    executor: Any, timeout: Any, listeners: Any
) -> tuple[Listener, ...]:
    """Refuse what cannot be an executor, a timeout or listeners of an execution.

    Returns:
        The listeners.

    Raises:
        DefinitionError: If one is none.
    """
    problems: list[str] = []
    if executor is not None and not is_executor(executor):
        problems.append(executor_problem(executor))
    if timeout is not None and not is_duration(timeout):
        problems.append(f"timeout is seconds above 0, not {short_repr(timeout)}")
    told = checked_listeners(listeners, problems)
    if problems:
        raise DefinitionError("execute", problems)
    return told


_LONGEST_ID = 200
_OF_STORES = (
    *("begin", "find", "nested", "append", "turn", "forget", "rows", "apart", "graph"),
    *("claim", "release", "max_value_bytes"),
)


def store_problems(store: Any) -> Iterator[Problem]:
    """Say why something cannot be a store; None can be."""
    lacks = [name for name in _OF_STORES if not hasattr(store, name)]
    if store is not None and (lacks or isinstance(store, type)):
        text = f"store is a store as stepfunction.stores.SQLiteStore, not {store!r}"
        yield Problem("store", text)


def id_problems(execution_id: Any) -> Iterator[Problem]:
    """Say why something cannot be the ``id`` of an execution."""
    if not isinstance(execution_id, str) or not execution_id:
        text = f"execution_id is a text, not {execution_id!r}"
        yield Problem("execution_id", text)
    elif len(execution_id) > _LONGEST_ID:
        text = f"execution_id has {len(execution_id)} characters"
        yield Problem("execution_id", text, f"; give at most {_LONGEST_ID}")


def begin(
    graph: Graph,
    initial_input: Any,
    executor: ExecutorChoice | None,
    listeners: Iterable[Listener] | None,
    stored: Stored | None = None,
) -> Execution:
    """Give an execution that can run: the one door to all that is run.

    Args:
        graph: What to run.
        initial_input: The input of its first step, or ``NOTHING``.
        executor: The executor of every step that has one; None to leave it to them.
        listeners: Who is told; None for nobody, and not the log either.
        stored: What gives the journal of an execution that a store has, or is to have;
            None for one that nobody stores.

    Raises:
        DefinitionError: If it was to run on an executor where it cannot.
        WorkerStartError: If it needs processes, and none can be started here.
    """
    is_elsewhere = executor is not None and runs_in_processes(executor)
    needs_processes = is_elsewhere or (executor is None and graph.uses_processes)
    if needs_processes and not keeps_here():
        from stepfunction.core.lanes.refusals import refuse_where_processes_cannot_start

        refuse_where_processes_cannot_start()
    if is_elsewhere:
        problems = list(sending_problems(graph.table, executor))
        if problems:
            raise DefinitionError(f"workflow {graph.name!r}", problems)
    run = Run(run_to_end, Workshop(executor), Cancellation(), 0.0)
    if stored is not None:
        run.is_plain = False
        run.epoch = time() - perf_counter()
        journal = stored(graph, initial_input, run)
    else:
        if initial_input is NOTHING:  # not by a call more, for many are given nothing
            run.is_plain = False
            journal = Journal(graph, None, run)
            journal.has_no_input = True
        else:
            journal = Journal(graph, initial_input, run)
        # Of that very moment, for where a test has stopped the clock it is compared.
        run.epoch = time() - journal.began
    if listeners is not None:
        run.audience = audience_of(listeners, journal, is_here=True)
    return journal.execution


def carry_out(
    execution: Execution, timeout: float | None = None, taken: Taken | None = None
) -> None:
    """Run an execution to its end in this thread, whatever that is.

    Args:
        execution: What to run.
        timeout: How many seconds it may take; None for no limit.
        taken: What is to surround it in this thread; None for nothing.

    Raises:
        BaseException: What interrupts this thread.
    """
    journal: Any = journal_of(execution)
    run: Any = journal.run
    saving = None
    if not run.is_plain:
        if journal.status not in UNDER_WAY:
            return  # as a store has it
        saving = journal.saving
    run.thread = run.cancellation.thread = get_ident()
    if saving is not None:
        timeout = saving.seconds_left(journal, timeout)
    elif timeout is not None:
        journal.timeout = timeout
    try:
        if taken is not None:
            run.cancellation.within(timeout, within, taken, _go, journal, run)
        else:
            if journal.graph.may_recover:
                run.guard = guard()
            run.cancellation.within(timeout, run.go, journal, run)
    except BaseException as error:
        run.cancellation.request()
        if journal.status in UNDER_WAY:
            _never_begun(journal, error)
        if is_a(error, StoreError) or is_a(error, ResumeError):
            error.execution = execution
        raise
    finally:
        try:
            run.workshop.close(kill=run.cancellation.requested)
        except BaseException:  # an interrupt may have cut it short
            run.workshop.close(kill=True)
            raise
        finally:
            run.audience = None  # which may hold those who were told
            if saving is not None:
                saving.let_go()
            try:
                journal.end()
            except BaseException:
                journal.end()
                raise
            finally:
                run.thread = None  # last, for nobody is to wait here for an end


def _go(journal: Journal, run: Run) -> None:
    """Run what may be in a test's transaction, in whichever thread."""
    run.guard = guard()
    run.go(journal, run)


def _never_begun(journal: Journal, error: BaseException) -> None:
    """Let an execution have ended with what came before anything had begun."""
    is_failure = is_a(error, Exception)
    journal.broke_off, journal.ended = True, perf_counter()
    journal.error = error
    journal.status = Status.FAILED if is_failure else Status.CANCELLED
    if is_a(error, WorkerStartError):
        error.execution = journal.execution


def finish(
    execution: Execution,
    timeout: float | None,
    check: bool,
    taken: Taken | None = None,
) -> Execution:
    """Run an execution to its end in this thread, and raise what went wrong.

    Args:
        execution: What to run.
        timeout: How many seconds it may take; None for no limit.
        check: Whether to raise also where a failure step took the failure.
        taken: What is to surround it in this thread; None for nothing.

    Raises:
        StepFunctionError: As ``StepFunction.execute``.
        BaseException: What interrupts this thread.
    """
    try:
        carry_out(execution, timeout, taken)
        return conclude(execution, check)
    finally:
        del execution


def finish_apart(execution: Execution, timeout: float | None) -> None:
    """Have an execution run in a thread of its own, which nobody has to wait for.

    Raises:
        WorkerStartError: If there can be no thread for it.
    """
    if execution.status not in UNDER_WAY:  # as a store has it
        return
    _ = journal_of(execution).ending  # which says when it is over
    name, variables = execution.workflow, copy_context()
    variables.run(callers_loop.set, None)  # it may be closed before this has ended
    variables.run(leave)
    taken = take()

    def work() -> None:
        try:
            variables.run(finish, execution, timeout, False, taken)
        except BaseException as error:  # it is the execution that tells
            logger().debug("the execution of %r ended", name, exc_info=error)
        finally:
            _apart.discard(execution)

    if keeps_here():
        work()
        return
    try:
        _see_to_the_end()
        _apart.add(execution)
        start(threading.Thread(target=work, name=name, daemon=True))
    except WorkerStartError as error:
        _apart.discard(execution)
        _give_up(execution, error)
        raise


async def finish_beside(
    loop: asyncio.AbstractEventLoop,
    execution: Execution,
    timeout: float | None,
    check: bool,
    shield: bool = False,
) -> Execution:
    """Run an execution to its end in a thread of its own, awaited on an event loop.

    Args:
        loop: The event loop.
        execution: What to run.
        timeout: As in ``finish``.
        check: As in ``finish``.
        shield: Whether it goes on when nobody waits for it any more.

    Raises:
        BaseException: As ``finish``; or what ends the wait.
    """
    import asyncio

    done: asyncio.Future[Execution] = loop.create_future()
    done.add_done_callback(lambda it: it.cancelled() or it.exception())
    variables = copy_context()
    variables.run(callers_loop.set, loop)
    variables.run(leave)
    taken = take()
    left_alone = (execution,) if shield else ()

    def settle(error: BaseException | None) -> None:
        if error is None:
            done.set_result(execution)
        else:
            done.set_exception(error)

    def work() -> None:
        error = None
        _apart.update(left_alone)
        try:
            variables.run(finish, execution, timeout, check, taken)
        except BaseException as raised:
            error = raised
        _apart.discard(execution)
        with suppress(RuntimeError):  # the loop was closed: nobody waits for it
            loop.call_soon_threadsafe(settle, error)

    _see_to_the_end()
    name = f"{execution.workflow}-aexecute"
    try:
        if not await runs_beside(work):
            start(threading.Thread(target=work, name=name, daemon=True))
        while not done.done():
            # Not one long wait, which Ctrl-C just before it would not end.
            await asyncio.wait([done], timeout=LONGEST_WAIT)
    except BaseException as error:
        is_cancelled = is_a(error, asyncio.CancelledError)
        if not (shield and is_cancelled):
            _stop(execution, error)
            if is_cancelled:
                await asyncio.wait([done], timeout=LONGEST_WAIT)
        raise
    return done.result()


def _stop(execution: Execution, error: BaseException) -> None:
    """Stop an execution that nobody awaits any more."""
    if is_a(error, WorkerStartError):
        _give_up(execution, error)
    _leave(execution)


def _give_up(execution: Execution, error: WorkerStartError) -> None:
    """End an execution for which there is no thread."""
    journal = journal_of(execution)
    run: Any = journal.run
    _never_begun(journal, error)
    if journal.saving is not None:
        journal.saving.let_go()
    run.audience = None
    run.workshop.close()
    journal.end()


_apart: set[Execution] = set()  # what runs in a thread of its own and has not ended


@cache
def _see_to_the_end() -> None:
    """Have what runs apart cancelled when the main thread ends."""
    # Before other threads are waited for, where Python offers that; concurrent.futures
    # does the same. Else when the interpreter exits.
    register = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_cancel_apart)
    except RuntimeError as error:  # it exits already
        text = "the program is ending, and no execution can run apart: use execute()"
        raise WorkerStartError(text) from error


def _cancel_apart() -> None:
    for execution in list(_apart):
        _leave(execution)


def _leave(execution: Execution) -> None:
    """Stop an execution here; what is stored can go on from there."""
    saving = journal_of(execution).saving
    if saving is not None:
        saving.session.is_closed = True
    execution.cancel()


def load(store: Store, execution_id: str) -> Execution:
    """Give a stored execution, to look at.

    Args:
        store: The store.
        execution_id: The ``id`` of the execution.

    Raises:
        ExecutionNotFoundError: If there is none of that ``id``.
        StoreError: If what is stored is damaged.
    """
    from stepfunction.core.engine.stored import load_execution  # dear

    run = Run(run_to_end, Workshop(None), Cancellation())
    return load_execution(store, execution_id, run)
