"""Modules that execute process steps while they are imported, and handlers at exit."""

from __future__ import annotations

import sys

import pytest
from shared.processes import Session

SHOP = """
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from stepfunction import ProcessLanes, StepFunction
def double(x): return x * 2
def flow(**options):
    options.setdefault("executor", "process")
    return StepFunction("W").add_step("A", double, **options).set_start_step("A")
def several():
    tasks = dict.fromkeys("abcd", double)
    workflow = StepFunction("W").add_step("A", tasks, parallel=True, executor="process")
    return workflow.set_start_step("A")
"""
USES = {
    "step": "flow().execute(21)",
    "tasks": "several().execute(21)",
    "handled": "flow(on_failure='H').add_step('H', double).execute(21)",
    "apart": "flow().start(21)",
    "lanes": "ProcessLanes(2).submit(double, 21).result()",
    "spawn": "ProcessLanes(2, start_method='spawn').submit(double, 21).result()",
    "initializer": "lanes = ProcessLanes(2, initializer=double, initargs=[2])\n"
    "lanes.submit(len, '')",
    "threads": "found = ThreadPoolExecutor(2).map(flow().execute, [1, 2])",
    "thread left": "threading.Thread(target=flow().execute, args=[21]).start()",
    "others": "flow(executor=ProcessPoolExecutor(2, get_context('forkserver')))"
    ".execute(21)",
}
# Nobody asks what became of it, or the program ends before.
QUIET = ("apart", "initializer", "threads", "thread left", "others")


@pytest.mark.parametrize("use", USES)
def test_a_module_that_executes_while_it_is_imported_starts_no_end_of_workers(
    tmp_path, use
):
    tmp_path.joinpath("shopmod.py").write_text(SHOP + USES[use])
    main = tmp_path / "main.py"
    main.write_text("if __name__ == '__main__':\n    import shopmod\n    print(42)\n")
    with Session([sys.executable, main]) as session:
        out, err = session.process.communicate(timeout=30)
        assert "while it is imported" in err or use in QUIET
        assert session.leaves_nobody()


def test_a_function_that_a_worker_calls_may_execute_steps_in_processes(tmp_path):
    tmp_path.joinpath("shopmod.py").write_text(
        SHOP
        + """
def nested(x):
    found = []
    thread = threading.Thread(target=lambda: found.append(several().execute(x).output))
    thread.start()
    thread.join()
    return flow().execute(found[0]["a"]).output
"""
    )
    main = tmp_path / "main.py"
    main.write_text(
        "import shopmod\n"
        "from stepfunction import ProcessLanes\n"
        "if __name__ == '__main__':\n"
        "    with ProcessLanes(1) as lanes:\n"
        "        print(*[lanes.submit(shopmod.nested, n).result() for n in (1, 2)])\n"
    )
    with Session([sys.executable, main]) as session:
        out, err = session.process.communicate(timeout=30)
        assert (out, err) == ("4 8\n", "")
        assert session.leaves_nobody()


# --- at exit --------------------------------------------------------------------------

EXIT = """
import atexit, os, time
from stepfunction import ProcessLanes, StepFunction, WorkerStartError
def add(x): return x + 1
def hang(x): time.sleep(60)
flow = StepFunction("W").add_step("A", add, executor="process").set_start_step("A")
tasks = {"a": add, "b": add}
threads = StepFunction("T").add_step("A", tasks, parallel=True).set_start_step("A")
async def later(x): return x
coroutine = StepFunction("C").add_step("A", later).set_start_step("A")
def last():
    for what in (flow.execute, threads.execute, coroutine.execute, flow.start):
        try:
            execution = what(1)
            (getattr(execution, "result", None) or (lambda: 0))()
        except WorkerStartError as error:
            assert "ending" in str(error), error
        except Exception as error:
            print(type(error).__name__, error, flush=True)
    print(flow.execute(1, executor="inline").output, flush=True)
"""


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("has_run", [True, False])
def test_a_handler_at_exit_executes_or_is_refused_at_once(tmp_path, is_first, has_run):
    program = tmp_path / "program.py"
    lines = ["atexit.register(last)", f"print({has_run} and flow.execute(1).output)"]
    program.write_text(
        EXIT
        + "if __name__ == '__main__':\n    "
        + "\n    ".join(lines if is_first else lines[::-1])
    )
    with Session([sys.executable, program]) as session:
        out, err = session.process.communicate(timeout=20)
        assert (out, err) == (f"{2 if has_run else False}\n2\n", "")
        assert session.process.returncode == 0
        assert session.leaves_nobody()


def test_a_handler_at_exit_does_not_wait_for_what_no_lane_will_do(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """
import atexit, time
def wait():
    for future in futures:
        try: future.result()
        except BaseException as error: print(type(error).__name__, flush=True)
if __name__ == "__main__":
    atexit.register(wait)  # before ours, and so called after it
from stepfunction import ProcessLanes
if __name__ == "__main__":
    lanes = ProcessLanes(1)
    futures = [lanes.submit(time.sleep, 60), lanes.submit(abs, 1)]
    while not futures[0].running(): time.sleep(0.01)
"""
    )
    with Session([sys.executable, program]) as session:
        out, err = session.process.communicate(timeout=20)
        assert (out, err) == ("WorkerKilledError\nCancelledError\n", "")
        assert session.leaves_nobody()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_another_thread_goes_on_with_processes_when_the_main_thread_has_ended(
    tmp_path, method
):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import sys, threading
from stepfunction import ProcessLanes
def add(x): return x + 1
def later():
    with ProcessLanes(1, start_method={method!r}) as lanes:
        began.set()
        threading.main_thread().join()
        print(lanes.submit(add, 1).result())
if __name__ == "__main__":
    began = threading.Event()
    if sys.version_info < (3, 12):  # where a thread may be started then
        threading.Thread(target=later).start()
        began.wait()
    else:
        print(2)
"""
    )
    with Session([sys.executable, program]) as session:
        out, err = session.process.communicate(timeout=20)
        assert (out, err) == ("2\n", "")
