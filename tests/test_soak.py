from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import logging
import os
import random
import re
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from shared.soak_tasks import (
    CRASHES,
    ERRORS,
    RESULTS,
    Order,
    gates,
    obey,
    obey_item,
    word_of,
)

from stepfunction import (
    Execution,
    HeartbeatTimeoutError,
    Outcome,
    ProcessLanes,
    RemoteError,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    StepRecord,
    StepTimeoutError,
    TransferError,
    WorkerCrashedError,
    WorkerStartError,
)
from stepfunction.core.history.execution import journal_of

SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**6))
LEAST = 2000 if SECONDS >= 60 else 20 * SECONDS  # how many tasks it must have run
TO_FINISH = 30  # seconds, for what is under way when the time is over
CALLERS = 8
ATTEMPTS = 3
LIMITS = {"thread": 1.0, "process": 1.5, "lanes": 1.5}  # far more than giving takes
LARGE = bytes(12_000_000)

SUCCEEDED, FAILED, CRASHED = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CRASHED


# --- plans ----------------------------------------------------------------------


class Step(NamedTuple):
    """What a step is told: where to run, what its tasks do, and how they end."""

    name: str
    place: str  # thread, process: lanes of the execution, or lanes: shared ones
    tasks: dict[str | int | None, Order | Plan]  # its only is None: no parallel step
    kind: str = "plain"  # or nested, late (nested), limited, stopped, told, hung, map
    retries: bool = False
    is_away: bool = False  # whether its errors come from another process
    is_routed: bool = False  # a failure leads to the next step, as success does
    batch_size: int = 1  # of the items of a map step

    @property
    def is_parallel(self) -> bool:
        return None not in self.tasks


class Plan(NamedTuple):
    """What an execution is told: its steps, its input, and how it ends."""

    number: int  # the same for what is nested
    steps: list[Step]
    value: bytes | None = None
    end: str = "itself"  # or told, overdue (in the last step), cancelled (any time)


class Planner:
    """Makes one plan, of nothing but the seed and its number."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.random = random.Random(f"{SEED} {number}")
        self.orders = count(1)

    def plan(self) -> Plan:
        end = self.one_of(itself=20, told=2, overdue=1, cancelled=2)
        if end == "overdue":
            return Plan(self.number, [self.told_step("S0")], None, end)
        value = LARGE if self.random.random() < 0.04 else None
        steps = self.steps(self.random.randint(1, 4), end == "told")
        return Plan(self.number, steps, value, end)

    def steps(self, many: int, is_told: bool = False, is_away: bool = False) -> Any:
        steps = []
        for index in range(many):
            is_last = index == many - 1 and not is_told
            step = self.step(f"S{index}", is_away)
            is_routed = not is_last and (is_told or self.random.random() < 0.9)
            far = is_away or step.place != "thread"
            steps.append(step._replace(is_routed=is_routed, is_away=far))
        return [*steps, self.told_step("Told")] if is_told else steps

    def step(self, name: str, is_away: bool) -> Step:
        place = self.place(is_away)
        nests = 0 if is_away else 1
        kind = self.one_of(
            plain=10, nested=2 * nests, late=nests, limited=1, stopped=2, map=4
        )
        if kind in ("nested", "late"):
            tasks: dict[str | int | None, Order | Plan] = {
                f"T{index}": self.nested(place, kind) for index in range(2)
            }
            return Step(name, place, tasks, kind)
        retries = kind != "stopped" and self.random.random() < 0.3
        if kind == "map":
            return self.map_step(name, place, retries)
        if kind == "stopped":  # it begins first: what waits may take all the places
            deeds = [self.bad(place), *self.many(["give", "wait"], 2)]
        elif kind == "limited":
            deeds = self.many(["give", "mute", "hang"], 3)
        else:
            deeds = [
                self.bad(place) if self.random.random() < 0.4 else "give"
                for _ in range(self.random.randint(1, 10))
            ]
        if kind != "stopped" and self.random.random() < 0.15:
            only = self.order(deeds[0], retries)
            return Step(name, place, {None: only}, kind, retries)
        orders = {f"T{n}": self.order(deed, retries) for n, deed in enumerate(deeds)}
        return Step(name, place, {**orders}, kind, retries)

    def map_step(self, name: str, place: str, retries: bool) -> Step:
        deeds = [
            self.bad(place) if self.random.random() < 0.2 else "give"
            for _ in range(self.random.randint(1, 20))
        ]
        items = {n: self.order(deed, retries) for n, deed in enumerate(deeds)}
        size = self.random.choice([1, 3, 8])
        return Step(name, place, {**items}, "map", retries, batch_size=size)

    def told_step(self, name: str) -> Step:
        place = self.place()
        if self.random.random() < 0.3:
            return Step(name, place, {None: self.order("wait")}, "told")
        many = self.random.randint(1, 3)
        orders = {f"T{index}": self.order("wait") for index in range(many)}
        return Step(name, place, {**orders}, "told")

    def nested(self, place: str, kind: str) -> Plan:
        is_away = place != "thread"
        if kind == "late":
            tasks: dict[str | int | None, Order | Plan] = {"T0": self.order("hang")}
            return Plan(self.number, [Step("S0", self.place(is_away), tasks, "hung")])
        return Plan(self.number, self.steps(self.random.randint(1, 2), False, is_away))

    def place(self, is_away: bool = False) -> str:
        if is_away:  # a process cannot be sent lanes, and its own are dear
            return self.one_of(thread=9, process=1)
        return self.one_of(thread=6, lanes=4, process=1)

    def bad(self, place: str) -> str:
        deeds = [*ERRORS]
        if place != "thread":
            deeds += [*RESULTS] * 2 + [*CRASHES]
        return self.random.choice(deeds)

    def order(self, deed: str, retries: bool = False) -> Order:
        times = 0 if deed == "give" else 99
        if retries:
            times = min(times, self.random.choice([1, 2, 99]))
        number = next(self.orders)
        return Order(self.number, number, deed, times, str(self.folder))

    def one_of(self, **weights: int) -> str:
        return self.random.choices([*weights], [*weights.values()])[0]

    def many(self, deeds: list[str], least: int) -> list[str]:
        return self.random.choices(deeds, k=self.random.randint(least, 4))


def build(plan: Plan, lanes: ProcessLanes) -> StepFunction:
    workflow = StepFunction(f"Plan {plan.number}").set_start_step(plan.steps[0].name)
    names = [step.name for step in plan.steps]
    last = "Never" if plan.end in ("told", "overdue") else None
    for step, follower in zip(plan.steps, [*names[1:], last], strict=True):
        retry = RetryPolicy(ATTEMPTS, interval=0) if step.retries else None
        if step.kind == "map":
            workflow.add_map_step(
                step.name,
                obey_item,
                items=partial(given, orders_of(step)),
                batch_size=step.batch_size,
                next_step=follower,
                tolerated_failures="100%",
                executor=lanes if step.place == "lanes" else step.place,
                retry=retry,
            )
            continue
        tasks = {
            name: build(told, lanes) if isinstance(told, Plan) else partial(obey, told)
            for name, told in step.tasks.items()
        }
        limit = LIMITS[step.place]
        workflow.add_step(
            step.name,
            tasks if step.is_parallel else tasks[None],
            next_step=follower,
            on_failure=follower if step.is_routed else None,
            parallel=step.is_parallel,
            executor=lanes if step.place == "lanes" else step.place,
            stop_on_failure=step.kind == "stopped",
            retry=retry,
            heartbeat=limit if is_beating(step) else None,
            timeout=limit if has_timeout(step) else None,
        )
    if last is not None:
        workflow.add_step(last, never)
    return workflow


def given(orders: list[Order], value: Any) -> list[Order]:
    return orders


def never(value: Any) -> None:
    raise AssertionError("this step is behind the end")


def has_timeout(step: Step) -> bool:
    return step.kind in ("late", "limited") and not is_beating(step)


def is_beating(step: Step) -> bool:
    return any(order.deed == "mute" for order in orders_of(step))


def orders_of(step: Step) -> list[Order]:
    return [told for told in step.tasks.values() if isinstance(told, Order)]


# --- what is to come of it ------------------------------------------------------


class End(NamedTuple):
    """How a deed ends."""

    outcome: Outcome
    error: Any = None  # the type, or its name
    text: str | None = None
    is_tried_again: bool = True


def too_late_on(place: str) -> Outcome:
    return Outcome.ABANDONED if place == "thread" else Outcome.TIMED_OUT


def end_of(order: Order, step: Step) -> End:
    deed = order.deed
    if deed == "give":
        return End(SUCCEEDED)
    if deed in CRASHES:
        return End(CRASHED, WorkerCrashedError)
    if deed in RESULTS:
        return End(FAILED, TransferError, None, False)
    if deed in ("hang", "mute"):
        error = HeartbeatTimeoutError if is_beating(step) else StepTimeoutError
        return End(too_late_on(step.place), error)
    raised = ERRORS[deed]()
    if deed == "memory":
        return End(FAILED, MemoryError)
    if deed == "local" and step.is_away:
        name = f"{type(raised).__module__}.local.<locals>.Local"
        return End(FAILED, RemoteError, f"{name}: {raised}")
    kind = "Local" if deed == "local" else type(raised)
    return End(FAILED, kind, str(raised), isinstance(raised, Exception))


def attempts_of(order: Order, step: Step) -> list[Outcome]:
    if order.deed == "wait":
        return []  # it waits to be stopped
    end = end_of(order, step)
    most = ATTEMPTS if step.retries and end.is_tried_again else 1
    bad = min(order.times, most)
    return [end.outcome] * bad + [SUCCEEDED] * (bad < most)


def is_failing(told: Order | Plan, step: Step) -> bool:
    if isinstance(told, Plan):
        return step.kind == "late" or any(is_end(step) for step in told.steps)
    return attempts_of(told, step)[-1:] != [SUCCEEDED]


def has_failed(step: Step) -> bool:
    if step.kind == "map":
        return False  # it tolerates whatever fails
    is_strict = step.kind == "stopped" or step.is_routed or not step.is_parallel
    return is_strict and any(is_failing(told, step) for told in step.tasks.values())


def is_end(step: Step) -> bool:
    return has_failed(step) and not step.is_routed


def is_silent(step: Step, order: Order | Plan) -> bool:
    """Tell an item that may have no record, for nothing happened to it."""
    return step.kind == "map" and attempts_of(order, step) == [SUCCEEDED]


def path_of(plan: Plan) -> list[Step]:
    ends = [index for index, step in enumerate(plan.steps) if is_end(step)]
    return plan.steps[: ends[0] + 1] if ends else plan.steps


def key_of(record: StepRecord) -> str | int | None:
    return record.task if record.item is None else record.item


def find_start_error(error: BaseException | None) -> BaseException | None:
    while error is not None and not isinstance(error, WorkerStartError):
        error = error.__cause__
    return error


class Check:
    """Compares what happened in one execution with what it was told."""

    def __init__(self, plan: Plan, execution: Execution, heard: Counter[str]) -> None:
        self.heard = heard
        self.wrong: list[str] = []
        self.tasks = 0
        self.end = plan.end
        blame = journal_of(execution).blame
        errors = [record.error for record in execution.history]
        errors += [] if blame is None else [blame.error]
        self.has_no_worker = any(map(find_start_error, errors))
        if self.has_no_worker:  # where it stood then is as good as any other moment
            cut = {Status.CANCELLED, Status.TIMED_OUT}
            cut = set() if plan.end == "itself" else cut
            self.see(execution, execution.status, {Status.FAILED} | cut)
            self.end = "cancelled"
        elif self.end == "cancelled" and execution.status is not Status.CANCELLED:
            self.end = "itself"  # before anybody cancelled it
        self.compare(plan, execution, len(plan.value or b""))

    def compare(self, plan: Plan, execution: Execution, size: int) -> None:
        path = path_of(plan)
        is_cut = self.end == "cancelled"
        if not is_cut:
            own = Status.FAILED if is_end(path[-1]) else Status.COMPLETED
            ends = {"told": Status.CANCELLED, "overdue": Status.TIMED_OUT}
            self.see(execution, execution.status, [ends.get(plan.end, own)])
        records = {(r.step, key_of(r)): r for r in execution.history}
        for step in path:
            size = 0 if step.kind == "map" else size
            for name, told in step.tasks.items():
                record = records.pop((step.name, name), None)
                if record is not None:
                    self.compare_task(step, told, record, size)
                elif not is_cut and not is_silent(step, told):
                    self.say(f"{step.name}.{name} has no record", told)
            size = 0
            record = records.pop((step.name, None), None)
            if step.kind == "map" and record is not None and record.output is not None:
                self.compare_results(step, record.output)
            if record is not None and not is_cut and step.kind != "told":
                outcome = FAILED if has_failed(step) else SUCCEEDED
                self.see(record, record.outcome, {outcome})
        if records:
            self.say(f"{execution}: not to run were {list(records)}", plan)

    def compare_task(
        self, step: Step, told: Order | Plan, record: StepRecord, size: int
    ) -> None:
        if find_start_error(record.error):
            return  # which is no failure of its own
        self.tasks += 1
        for attempt in record.attempts:
            if not 0 <= attempt.duration < TO_FINISH:
                self.say(record, f"one attempt took {attempt.duration} s")
        if isinstance(told, Plan):
            self.compare_nested(step, told, record, size)
            return
        expected = attempts_of(told, step)
        is_first = told is next(iter(step.tasks.values()))
        if self.end == "cancelled" or step.kind == "told":
            self.see(record, record.outcome, self.stopped(step, told) | {*expected})
        elif step.kind == "stopped" and not is_first:
            self.see(record, record.outcome, self.stopped(step, told) | {*expected})
        else:
            self.see(record, [it.outcome for it in record.attempts], [expected])
            self.see(record, record.outcome, expected[-1:])
        if record.outcome is SUCCEEDED:
            self.see(record, record.output, [[told.number, size]])
        for attempt in record.attempts:
            if attempt.outcome in (SUCCEEDED, FAILED, CRASHED):
                self.compare_calls(step, told, attempt)
            if attempt.outcome in expected and attempt.outcome is not SUCCEEDED:
                self.compare_error(step, told, attempt.error)

    def compare_results(self, step: Step, output: Any) -> None:
        for order, result in zip(orders_of(step), output, strict=True):
            if not is_failing(order, step):
                self.see(order, result, [[order.number, 0]])
            elif not isinstance(result, BaseException):
                self.say(order, f"gave {result!r}")

    def compare_calls(self, step: Step, order: Order, attempt: Any) -> None:
        """See that there was one call for the attempt: none more, and none less."""
        calls = self.heard[word_of(order, attempt.number)]
        # What had ended unreported when another item of the batch crashed is repeated.
        is_safe = step.batch_size == 1 or attempt.outcome is CRASHED
        if calls != 1 and (is_safe or calls == 0):
            self.say(order, f"{calls} calls for {attempt} on {step.place}")

    def stopped(self, step: Step, order: Order) -> set[Outcome]:
        """Give how a task may end that was stopped."""
        if step.place == "thread":
            is_overdue = self.end == "overdue"
            return {Outcome.CANCELLED} | ({Outcome.ABANDONED} if is_overdue else set())
        if Path(order.folder, str(order.number)).exists():  # it had begun
            return {Outcome.KILLED}
        return {Outcome.CANCELLED, Outcome.KILLED}

    def compare_error(
        self, step: Step, order: Order, error: BaseException | None
    ) -> None:
        end = end_of(order, step)
        kind = type(error).__name__ if isinstance(end.error, str) else type(error)
        self.see((step, order, error), kind, [end.error])
        if end.text is not None:
            self.see((step, order, error), str(error), [end.text])
        if order.deed in CRASHES:
            self.see((step, order, error), error.exitcode, [CRASHES[order.deed][1]])
        elif order.deed in ERRORS and step.is_away:
            if "in obey" not in str(error.__cause__):
                self.say((step, order, error), f"has no traceback: {error.__cause__}")

    def compare_nested(
        self, step: Step, plan: Plan, record: StepRecord, size: int
    ) -> None:
        is_cut = self.end == "cancelled"
        outcome = FAILED if is_failing(plan, step) else SUCCEEDED
        stopped = {Outcome.CANCELLED, Outcome.KILLED} if is_cut else set()
        if step.kind == "late":
            self.see(record, record.outcome, {too_late_on(step.place)} | stopped)
            if not is_cut:
                self.see(record, type(record.error), [StepTimeoutError])
            return
        self.see(record, record.outcome, {outcome} | stopped)
        if record.outcome is FAILED:
            self.see(record, type(record.error), [StepExecutionError])
        if record.child is not None:
            self.compare(plan, record.child, size)
        elif not is_cut:
            self.say(record, "has no child")

    def see(self, where: Any, found: Any, expected: Any) -> None:
        if found not in expected:
            some = f"one of {len(expected)}" if len(expected) > 9 else repr(expected)
            self.say(where, f"{found!r} instead of {some}")

    def say(self, where: Any, text: str) -> None:
        self.wrong.append(f"{where}: {text}")


# --- what the system refuses ----------------------------------------------------


class Refusals:
    """Has a worker process, or a thread for tasks, refused at random."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(SEED)
        self.count = 0
        pipe, start = os.pipe, threading.Thread.start

        def pipe_or_not() -> tuple[int, int]:
            self.refuse(0.05, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            return pipe()

        def start_or_not(thread: threading.Thread) -> None:
            if re.match(r"stepfunction-lane|S\d+-|Told-", thread.name):
                self.refuse(0.02, RuntimeError("can't start new thread"))
            start(thread)

        monkeypatch.setattr(os, "pipe", pipe_or_not)
        monkeypatch.setattr(threading.Thread, "start", start_or_not)

    def refuse(self, share: float, error: Exception) -> None:
        if self.random.random() < share:
            self.count += 1
            raise error


# --- running them ---------------------------------------------------------------


def carry_out(plan: Plan, lanes: ProcessLanes) -> Execution:
    workflow = build(plan, lanes)
    if plan.end == "itself" and plan.number % 2:
        try:
            return workflow.execute(plan.value)
        except (StepExecutionError, WorkerStartError) as error:
            return error.execution
    execution = workflow.start(
        plan.value, timeout=LIMITS["thread"] if plan.end == "overdue" else None
    )
    if plan.end == "cancelled":
        execution.wait(random.Random(plan.number).random() / 4)
        execution.cancel()
    elif plan.end == "told":
        files = [Path(it.folder, str(it.number)) for it in orders_of(plan.steps[-1])]
        while not any(file.exists() for file in files) and not execution.wait(0.01):
            pass
        execution.cancel()
    assert execution.wait(), "there is no limit"
    return execution


class Heard(logging.Handler):
    """Keeps what the tasks log, wherever they run."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard[record.getMessage()] += 1


class Soak:
    """Carries out plans, one after the other in each of many threads."""

    def __init__(self, folder: Path, lanes: ProcessLanes) -> None:
        self.folder = folder
        self.lanes = lanes
        self.log = Heard()
        self.numbers = count(1)
        self.until = time.monotonic() + SECONDS
        self.tasks = 0
        self.workerless = 0
        self.wrong: list[str] = []
        self.under_way: dict[int, Plan] = {}
        self.lock = threading.Lock()

    def work(self) -> None:
        while time.monotonic() < self.until:
            number = next(self.numbers)
            folder = self.folder / str(number)
            folder.mkdir()
            plan = self.under_way[number] = Planner(number, folder).plan()
            gates[number] = threading.Event()
            try:
                check = Check(plan, carry_out(plan, self.lanes), self.log.heard)
                tasks, wrong = check.tasks, check.wrong
                has_no_worker = check.has_no_worker
            except BaseException:
                tasks, wrong, has_no_worker = 0, [traceback.format_exc()], False
            finally:
                gates.pop(number).set()
            with self.lock:
                self.tasks += tasks
                self.workerless += has_no_worker
                self.wrong += (f"plan {number}: {text}" for text in wrong)
                del self.under_way[number]

    def run(self) -> None:
        logger = logging.getLogger("soak")
        logger.addHandler(self.log)
        logger.setLevel(logging.INFO)
        threads = [
            threading.Thread(target=self.work, name=f"soak-{index}", daemon=True)
            for index in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.until - time.monotonic()) + TO_FINISH)
        logger.removeHandler(self.log)


# --- what is left over ----------------------------------------------------------


def processes() -> set[str]:
    """Give the processes that this one has begun, at any depth, and that live."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = rest.split()[:2]
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
            names[int(path.parent.name)] = f"{name})"
    found = {os.getpid()}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return {names[pid] for pid in found}


def files_open() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[os.readlink(path)] += 1
        except FileNotFoundError:
            continue  # that was the folder itself
    return found


def left_over(before: tuple[Any, ...]) -> list[str]:
    """Give what is there and was not before, and also was no more after a while."""
    end = time.monotonic() + TO_FINISH
    while True:
        gc.collect()
        left = [
            *(processes() - before[0]),
            *map(repr, {*threading.enumerate()} - before[1]),
            *(files_open() - before[2]),
            *map(str, Path(tempfile.gettempdir()).iterdir()),
        ]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


@pytest.fixture
def _adopting():
    """Make this process the parent of whatever loses its own, so that it is seen."""
    prctl, set_child_subreaper = ctypes.CDLL(None).prctl, 36
    prctl(set_child_subreaper, 1, 0, 0, 0)
    yield
    prctl(set_child_subreaper, 0, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")
@pytest.mark.timeout(SECONDS + 3 * TO_FINISH)
def test_every_task_ends_as_it_was_told_and_nothing_is_left_over(
    _adopting, tmp_path, monkeypatch
):
    print(f"SOAK_SEED={SEED} SOAK_SECONDS={SECONDS:g}")
    for name in ("stepfunction", "soak"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "propagate", False)  # pytest would keep it all
        monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    with ProcessLanes(1) as lanes:
        lanes.submit(os.getpid).result()  # what multiprocessing needs, it keeps
    told, temporary = tmp_path / "told", tmp_path / "temporary"
    told.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = processes(), {*threading.enumerate()}, files_open()
    with ProcessLanes(4) as lanes:
        soak = Soak(told, lanes)
        with monkeypatch.context() as patches:
            refusals = Refusals(patches)
            soak.run()
        stuck = [repr(plan) for plan in soak.under_way.values()]
        if stuck:
            faulthandler.dump_traceback()
        assert not stuck, "\n".join(stuck)
    print(
        f"{soak.tasks} tasks in {next(soak.numbers) - 1} executions, of which "
        f"{soak.workerless} could not go on after one of {refusals.count} refusals"
    )
    wrong = "\n".join(soak.wrong[:10])
    assert not soak.wrong, f"{len(soak.wrong)} are wrong, such as\n{wrong}"
    left = "\n".join(left_over(before))
    assert not left, f"left over is\n{left}"
    assert soak.tasks >= LEAST
    assert soak.workerless <= refusals.count
