"""Items: what a map step calls its function with, on their way through the workers.

Items travel alone, as a task each, or in batches, a task for many. A batch that comes
back leaves its results in the gathering and what is still to be done to its heirs:
items that failed and may be tried again, and items that were never reached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from itertools import islice
from math import inf
from reprlib import repr as short_repr
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from stepfunction.core.context import Context, context_of_task
from stepfunction.core.definition.actions import MapItems, share
from stepfunction.core.definition.callables import answer, stray_coroutine
from stepfunction.core.definition.calls import Call
from stepfunction.core.envelope.answers import unreadable_result, unsent_result
from stepfunction.core.envelope.envelope import pack, unpack
from stepfunction.core.errors import (
    StepTimeoutError,
    WorkerCrashedError,
    users_traceback,
)
from stepfunction.core.history.records import Visit
from stepfunction.core.history.results import (
    ItemOutcomes,
    ItemResults,
    MapResults,
    parallel_failure,
)
from stepfunction.core.outcomes import Ended, Outcome
from stepfunction.core.workers.retry import judges_results
from stepfunction.core.workers.tasks import Place, Task

if TYPE_CHECKING:
    from stepfunction.core.watching.telling import News

# A worker process sends what it has done at least so often, in seconds: what it had
# done since is done again if it dies.
_LONGEST_SILENCE = 0.0001
_SUCCEEDED = Outcome.SUCCEEDED
_STOPPED = (Outcome.KILLED, Outcome.ABANDONED)
# The items of a long map step that have a record of their own, however they ended.
_MOST_RECORDED = 1000
# The failures that are remembered where results are not.
_MOST_REMEMBERED = 100
# A worker that dies has hardly done more items than these since it last reported.
_MOST_ALONE = 1000
# How many seconds pass at least between two events of how far it has got.
_BETWEEN_NEWS = 0.1


class Load:
    """The items of one batch, and what has come of them so far.

    Attributes:
        first: The index of the first item.
        items: The items. To empty the list stops who is working on them.
        results: What came of the first of them; an error in the place of a failure.
        failed: Which of them failed, by position.
    """

    __slots__ = ("first", "items", "results", "failed")

    def __init__(self, first: int, items: list[Any]) -> None:
        self.first = first
        self.items = items
        self.results: list[Any] = []
        self.failed: list[int] = []

    def __reduce__(self) -> Any:
        return Load, (self.first, self.items)

    def pack(self, keeps: bool) -> Part:
        """Pack what has come of items, and forget it, but for how many they were."""
        results, failed = self.results, self.failed
        self.first += len(results)
        self.results, self.failed = [], []
        try:
            return _packed(results, failed, keeps)
        except Exception:  # item by item, for only some cannot be sent
            for position, result in enumerate(results):
                try:
                    pack(result)
                except Exception as error:
                    results[position] = unsent_result(result, error)
                    failed.append(position)
            failed.sort()
            return _packed(results, failed, keeps)

    def unpack(self, part: Part, label: str) -> None:
        """Take over what came of items in another process."""
        count, packed = part
        before = len(self.results)
        try:
            results, failed = unpack(packed)
        except Exception as error:
            results, failed = [unreadable_result(label, error)] * count, range(count)
        if len(results) < count:  # without what nobody wants to keep
            errors, results = results, [None] * count
            for position, failure in zip(failed, errors):
                results[position] = failure
        self.results += results
        self.failed += (before + position for position in failed)


# How many items have been done, and what came of them, packed.
Part: TypeAlias = tuple[int, bytes]


def _packed(results: list[Any], failed: list[int], keeps: bool) -> Part:
    kept = results if keeps else [results[position] for position in failed]
    return len(results), pack((kept, failed))


class BatchCall:
    """The call of a step's function for each item of a load.

    Args:
        call: The call for one item.
        stops: Whether the first failure ends it.
        keeps: Whether results are wanted.
        is_timed: Whether to tell of each item as soon as it is done.
        is_sent: Whether this is another process.
    """

    def __init__(
        self,
        call: Call,
        stops: bool,
        keeps: bool,
        is_timed: bool,
        is_sent: bool = False,
    ) -> None:
        self.call = call
        self.stops = stops
        self.keeps = keeps
        self.is_timed = is_timed
        self.is_sent = is_sent

    def __reduce__(self) -> Any:
        return BatchCall, (self.call, self.stops, self.keeps, self.is_timed, True)

    def __call__(self, load: Load, context: Context | None) -> Part | None:
        """Call, and leave in the load what came of it, or give it packed."""
        if not self.is_sent:
            self._perform(load, self._for_item(load, context), Exception)
            return None
        calls = self._for_item(load, context)
        assert context is not None
        if context.line is None:  # somebody else's worker
            self._perform(load, calls, BaseException)
        else:
            line = context.line
            silence = 0.0 if self.is_timed else _LONGEST_SILENCE

            def report() -> None:
                line.report(load.pack(self.keeps))

            self._perform_and_report(load, calls, report, silence)
        return load.pack(self.keeps)

    def _for_item(
        self, load: Load, context: Context | None
    ) -> Callable[[Any], Any]:
        call = self.call
        if call.plain is not None:
            return call.plain

        def call_with_context(item: Any) -> Any:
            assert context is not None
            index = load.first + len(load.results)
            return call(item, context_of_task(context, str(index)))

        return call_with_context

    def _perform(
        self, load: Load, call: Callable[[Any], Any], catch: type[BaseException]
    ) -> None:
        results, rest = load.results, iter(load.items)
        note = results.append
        while True:
            try:
                for item in rest:
                    note(call(item))
                break
            except catch as error:
                if self._has_failed(load, error):
                    break
        # What does so does so whenever it does not fail; to look at each result takes
        # a third longer.
        if load.failed or (results and type(results[0]) is CoroutineType):
            self._refuse_coroutines(load)

    def _perform_and_report(
        self,
        load: Load,
        call: Callable[[Any], Any],
        report: Callable[[], None],
        silence: float,
    ) -> None:
        clock = perf_counter
        due = clock() + silence
        for item in load.items:
            try:
                output = call(item)
                if type(output) is CoroutineType:
                    raise stray_coroutine(output, self.call.name)
                load.results.append(output)
            except BaseException as error:
                if self._has_failed(load, error):
                    return
            if clock() > due:
                report()
                due = clock() + silence

    def _has_failed(self, load: Load, error: BaseException) -> bool:
        """Note that the present item failed, and say whether to end with that."""
        load.failed.append(len(load.results))
        load.results.append(error.with_traceback(users_traceback(error)))
        return self.stops

    def _refuse_coroutines(self, load: Load) -> None:
        for position, result in enumerate(load.results):
            if type(result) is CoroutineType:
                load.results[position] = stray_coroutine(result, self.call.name)
                load.failed.append(position)
        load.failed.sort()


class Item(Task):
    """The call for one item.

    Attributes:
        is_told: Whether it is told of: from the first, or since it has had trouble.
    """

    __slots__ = ("is_told",)

    is_told: bool

    def tell_start(self, began: float) -> None:
        """Tell, once, that the first attempt has begun."""
        if self.is_told:
            super().tell_start(began)

    def tell_retried(self, pause: float) -> None:
        """Tell that another attempt follows, after so many seconds."""
        self.is_told = True
        super().tell_retried(pause)

    def tell_end(self) -> None:
        """Tell that there will be no other attempt."""
        self.is_told = self.is_told or self.outcome is not _SUCCEEDED
        if self.is_told:
            super().tell_end()


class Batch(Task):
    """The calls for several items that travel together.

    Attributes:
        load: The items, and what comes of them.
        items: The items, also when they have been taken from who works on them.
        has_left: Whether what has come of it is with the gathering and its heirs.
    """

    __slots__ = ("load", "items", "has_left", "_gathering")

    def __init__(self, load: Load, gathering: Gathering) -> None:
        super().__init__(
            None,
            gathering.batch_name,
            gathering.batch_call,
            gathering.wants_context,
            timeout=gathering.model.timeout,
        )
        self.load = load
        self.items = load.items[:]
        self.given = (load,)
        self.has_left = False
        self._gathering = gathering

    def take(self, part: Part) -> None:
        """Take note of what is done while the rest is not."""
        self.load.unpack(part, self.name)

    def halt(self) -> None:
        """Stop who works on the items in this process before the next of them."""
        self.load.items.clear()

    def heirs(self) -> list[Task]:
        """Give what is still to be done, and what was done and failed."""
        if not self.attempts:
            return []
        self.has_left = True
        outcome, began, ended, _ = ending = self.attempts[-1]
        if self.output is not None:  # from another process
            self.take(self.output)
        gathering, load, items = self._gathering, self.load, self.items
        results, done = load.results, len(load.results)
        if outcome is Outcome.ABANDONED:
            results = results[:done]  # to which who was left behind may add
        failed = [at for at in load.failed if at < done]
        gathering.take(load.first, results, len(failed))
        found: list[Task] = []
        for at in failed:
            its_ending = (Outcome.FAILED, began, ended, results[at])
            found.append(gathering.item(load.first + at, items[at], its_ending))
        first, rest = load.first + done, items[done:]
        if rest and outcome is not _SUCCEEDED:
            if not gathering.knows_culprit(outcome, len(rest)):
                # What it had done is not known, nor which item was its end: one by
                # one they show it, which those that follow have had no part in.
                singles = enumerate(rest[:_MOST_ALONE], first)
                found += (gathering.item(at, item) for at, item in singles)
                first, rest = first + _MOST_ALONE, rest[_MOST_ALONE:]
                if rest:
                    found.append(Batch(Load(first, rest), gathering))
                return found
            culprit = gathering.item(first, rest[0], ending)
            culprit.error = self._blaming(culprit)
            culprit.attempts[0] = (*ending[:3], culprit.error)
            found.append(culprit)
            first, rest = first + 1, rest[1:]
        if rest:
            found.append(Batch(Load(first, rest), gathering))
        return found

    def _blaming(self, culprit: Item) -> BaseException | None:
        """Give the error with the name of the item where it has that of the batch."""
        error = culprit.error
        if not isinstance(error, StepTimeoutError | WorkerCrashedError):
            return error
        message, *facts = error.args
        facts = [culprit.name if fact == self.name else fact for fact in facts]
        return type(error)(message.replace(self.name, culprit.name), *facts)


class Gathering:
    """The items of one visit of a map step, and what has come of them.

    Args:
        action: The action of the step.
        step: The name of the step.
        items: Where the items come from.
        make_item: Gives the task of an item by its index.
        news: Who tells how far it has got; None where nobody listens.

    Attributes:
        step: The name of the step.
        model: A task like that of each item, for what they have in common.
        models: That, and a task like that of a batch if there may be any.
        batch_name: What messages call a batch.
        batch_call: What is called with a load.
        wants_context: Whether that is to be given a context.
        most_tasks: How many tasks the items may make.
        knows_all: Whether it is known from the first how many items there are.
    """

    def __init__(
        self,
        action: MapItems,
        step: str,
        items: Iterable[Any],
        make_item: Callable[[int], Item],
        news: News | None,
    ) -> None:
        self.step = step
        self.model = make_item(0)
        self.models: list[Task] = [self.model]
        self.batch_name = f"items of step {step!r}"
        self.batch_call: Any = None
        self.wants_context = True
        self._action = action
        self._items = iter(items)
        self._total = len(items) if isinstance(items, Sized) else None
        self._size = 1
        self._is_here = self._has_all = False
        # A retry that judges results must be shown each.
        if action.batch_size > 1 and not judges_results(self.model.retry):
            self._size = action.batch_size
            self.batch_call = BatchCall(
                cast(Call, action.call),
                action.stop_on_failure,
                action.keep_results,
                self.model.timeout is not None,
            )
            self.models.append(Task(None, self.batch_name, self.batch_call, True))
        self.knows_all = self._total is not None
        self.most_tasks = inf if self._total is None else self._total / self._size + 1
        self._make_item = make_item
        self._has_compensations = getattr(action.call, "has_compensations", False)
        self._news = news
        self._told = perf_counter()
        self._taken = self._done = self._failures = 0
        self._results = MapResults()
        self._counts = Counter({_SUCCEEDED: 0})
        self._outcomes: dict[int, Outcome] = {}  # of those that did not succeed
        self._errors: dict[int, BaseException] = {}  # as they failed
        self._visits: dict[int, Visit] = {}

    def tasks_for(self, place: Place) -> Iterator[Task]:
        """Give the items as tasks of a place, when they are asked for."""
        is_timed, size = self.model.timeout is not None, self._size
        if is_timed and not place.hears_parts:
            size = 1  # nobody would know when the next item begins
        self._is_here = place.is_here
        if place.is_here:  # elsewhere it also has the line to here
            self.wants_context = self.model.wants_context
        while items := list(islice(self._items, size)):
            first = self._taken
            self._taken += len(items)
            if size == 1:
                yield self.item(first, items[0])
            else:
                yield Batch(Load(first, items), self)
        self._total, self._has_all = self._taken, True

    def knows_culprit(self, outcome: Outcome, left: int) -> bool:
        """Say whether the first item that is left of a batch was the end of it.

        Args:
            outcome: How the batch ended.
            left: How many items are left.
        """
        if self._is_here or outcome in _STOPPED:
            return True
        if outcome is Outcome.FAILED:  # it could not be sent, for any of its items
            return False
        return left == 1 or self.model.timeout is not None

    def item(self, index: int, item: Any, ending: Ended | None = None) -> Item:
        """Give the task of an item.

        Args:
            index: Which it is.
            item: The item.
            ending: How its first attempt ended, if it has been made.
        """
        task = self._make_item(index)
        task.given = (item,)
        task.timeout = self.model.timeout
        if ending is not None:
            task.attempts.append(ending)
            task.outcome, _, _, task.error = ending
        return task

    def take(self, first: int, results: list[Any], failed: int) -> None:
        """Take what came of items that travelled together.

        Args:
            first: The index of the first.
            results: What came of each.
            failed: How many of them failed, and are heard of again.
        """
        self._keep(first, results)
        self._count(_SUCCEEDED, len(results) - failed)

    def end(self, task: Task) -> None:
        """Take note of the end of an item, or of a batch that left nothing."""
        if isinstance(task, Batch):
            if not task.has_left:
                first, count = task.load.first, len(task.items)
                self._count(Outcome.CANCELLED, count)
                if self._action.keep_results:
                    indexes = range(first, first + count)
                    self._outcomes.update(dict.fromkeys(indexes, Outcome.CANCELLED))
            return
        index, outcome = int(str(task.key)), task.outcome or Outcome.CANCELLED
        keeps = self._action.keep_results
        if outcome is _SUCCEEDED:
            self._keep(index, [task.output])
        elif keeps or len(self._outcomes) < _MOST_REMEMBERED:
            self._outcomes[index] = outcome
            if task.error is not None:
                self._errors[index] = task.error
                self._keep(index, [task.error])
        self._failures += task.error is not None
        is_notable = outcome is not _SUCCEEDED or len(task.attempts) > 1
        is_undone = task.child is not None and self._has_compensations
        if keeps:
            is_recorded = is_notable or is_undone or index < _MOST_RECORDED
        else:
            is_recorded = is_undone or (
                is_notable and len(self._visits) < _MOST_REMEMBERED
            )
        if is_recorded:
            self._visits[index] = task.visit(str(index))
        self._count(outcome, 1)

    def _keep(self, first: int, results: list[Any]) -> None:
        if self._action.keep_results:
            missing = first - len(self._results)
            if missing > 0:  # of those that have begun before and not ended yet
                self._results += [None] * missing
            self._results[first : first + len(results)] = results

    def _count(self, outcome: Outcome, count: int) -> None:
        self._counts[outcome] += count
        self._done += count
        if self._news is not None and perf_counter() - self._told >= _BETWEEN_NEWS:
            self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._told = perf_counter()
            self._news.progressed(self._done, self._total)

    def is_enough(self, task: Task) -> bool:
        """Say, after a failed item, whether the others are to be stopped."""
        # It is counted when it has ended.
        return self._action.stop_on_failure and self._failures + 1 > self._tolerated

    @property
    def _tolerated(self) -> float:
        tolerated = self._action.tolerated
        if isinstance(tolerated, str):
            return inf if self._total is None else share(tolerated, self._total)
        return tolerated

    def visit(self) -> Visit:
        """Make one visit of what came of all items."""
        self._tell()
        failure = None
        if self._errors:
            outcomes: Mapping[int, Outcome] = self._outcomes
            if self._action.keep_results:
                outcomes = ItemOutcomes(self._taken, outcomes)
            failure = parallel_failure(
                self.step,
                f"{self._failures} of {self._taken} items",
                outcomes,
                ItemResults(self._results, self._outcomes),
                self._errors,
            )
            if self._failures > self._tolerated:
                return self.broken_visit(Outcome.FAILED, failure)
        has_ended = self._done == self._counts[_SUCCEEDED] + self._failures
        if not (self._has_all and has_ended):
            return self.broken_visit(Outcome.CANCELLED)
        output: Any = dict(self._counts)
        if self._action.keep_results:
            output = self._results._tolerate(failure)
        return Visit(self.step, _SUCCEEDED, output=output, tasks=self.visits())

    def broken_visit(
        self, outcome: Outcome, error: BaseException | None = None
    ) -> Visit:
        """Make one visit where the step has not succeeded.

        Its output, which no record shows, is what may have to be undone.
        """
        results = ItemResults(self._results, self._outcomes)
        return Visit(self.step, outcome, (), results, error, self.visits())

    def visits(self) -> tuple[Visit, ...]:
        """Give the visits of the items that have one."""
        return tuple(self._visits[index] for index in sorted(self._visits))


def items_of(value: Any, items: Any) -> Iterable[Any]:
    """Give the items of a map step.

    Args:
        value: Its input.
        items: What the step says of where they are in it.

    Raises:
        LookupError: If the input has no such key.
        TypeError: If there is nothing to take items from.
        BaseException: What a callable raises.
    """
    found, origin = value, "the input"
    if callable(items):
        found, origin = answer(items, value), "what items= gives"
    elif items is not None:
        origin = f"the input's {items!r}"
        try:
            found = value[items]
        except (LookupError, TypeError) as error:
            raise LookupError(
                f"items={items!r} is to be a key of the map step's input, but that is "
                f"{short_repr(value)}"
            ) from error
    is_one = isinstance(found, str | bytes | bytearray | Mapping)
    if isinstance(found, Iterable) and not is_one:
        return found
    hint = "give items= a key of it, or a callable that gives an iterable"
    if items is not None:
        hint = "let items= be a callable that gives an iterable, as a dict's .items()"
    raise TypeError(
        f"{origin} of a map step is items, not {short_repr(found)}; {hint}"
        if items is None
        else f"{origin} is to be items, not {short_repr(found)}; {hint}"
    )
