"""Batches: items of a map step that travel to a worker together.

A load carries them, and what has come of them; from another process that comes in
parts. What is left of a batch when it has ended is shared out by ``shares``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import Context as Variables
from functools import partial
from types import CoroutineType
from typing import Any, NamedTuple, TypeAlias

from stepfunction.core.clock import perf_counter
from stepfunction.core.context import Context, Line, Noted, context_of_item
from stepfunction.core.definition.callables import stray_coroutine
from stepfunction.core.definition.calls import Call
from stepfunction.core.envelope.answers import unreadable_result, unsent_result
from stepfunction.core.envelope.envelope import pack, pack_each, unpack
from stepfunction.core.outcomes import Outcome
from stepfunction.core.tracebacks import forget_locals, without_our_frames
from stepfunction.core.variables import apart

# A worker process sends what it has done at least so often, in seconds: what it had
# done since is done again if it dies.
_LONGEST_SILENCE = 0.0001
# So many items go on one by one, where one of them cannot be sent or read.
_MOST_ALONE = 1000


class Load:
    """The items of one batch, and what has come of them so far.

    Attributes:
        first: The index of the first item.
        items: The items. To empty the list stops who is working on them.
        results: What came of the first of them; an error in the place of a failure.
        failed: Which of them failed, by position.
        is_sent: Whether this is a copy, of which nothing is known where it comes from.
        is_begun: Whether a call has been made of this very object.
    """

    __slots__ = ("first", "items", "results", "failed", "is_sent", "is_begun")

    def __init__(self, first: int, items: list[Any], is_sent: bool = False) -> None:
        self.first = first
        self.items = items
        self.results: list[Any] = []
        self.failed: list[int] = []
        self.is_sent = is_sent
        self.is_begun = False

    def __reduce__(self) -> Any:
        return Load, (self.first, self.items, True)

    def pack(self, keeps: bool) -> Part:
        """Pack what has come of items, and forget it, but for how many they were."""
        results, failed = self.results, self.failed
        self.first += len(results)
        self.results, self.failed = [], []
        kept = range(len(results)) if keeps else failed
        values = results if keeps else [results[position] for position in kept]
        if _SIMPLE.issuperset(map(type, values)):
            return len(results), pack((failed, values, None))
        unsent: list[int] = []

        def instead(number: int, error: Exception) -> Exception:
            unsent.append(kept[number])
            return unsent_result(values[number], error)

        # One by one, for one that cannot be sent or read is to harm no other.
        packed = pack_each(values, instead)
        return len(results), pack((sorted({*failed, *unsent}), None, packed))

    def unpack(self, part: Part, label: str) -> None:
        """Take over what came of items in another process."""
        count, data = part
        failed, values, packed = unpack(data)
        if values is None:
            values, unread = _opened(packed, label)
            if len(values) == count:  # else only what failed is there
                failed = sorted({*failed, *unread})
        results = values
        if len(values) < count:  # without what nobody wants to keep
            results = [None] * count
            for position, failure in zip(failed, values):
                results[position] = failure
        before = len(self.results)
        self.results += results
        self.failed += (before + position for position in failed)


def _opened(
    packed: tuple[bytes, list[int]], label: str
) -> tuple[list[Any], list[int]]:
    """Give results that were packed one by one, and which of them cannot be read."""
    values: list[Any] = []
    unread: list[int] = []
    data, ends = packed
    for begin, end in zip([0, *ends], ends):
        try:
            values.append(unpack(data[begin:end]))
        except Exception as error:
            unread.append(len(values))
            values.append(unreadable_result(label, error))
    return values, unread


# What can be sent and read whatever it is.
_SIMPLE = frozenset((type(None), bool, int, float, str, bytes))
# How many items have been done, and what came of them, packed.
Part: TypeAlias = tuple[int, bytes]


class BatchCall:
    """The call of a step's function for each item of a load.

    Each call has context variables of its own: a copy of those that all came with.

    Args:
        call: The call for one item.
        stops: Whether the first failure ends it.
        keeps: Whether results are wanted.
        is_timed: Whether to tell of each item as soon as it is done.
        guard: Makes the calls that are made in this process; None for nobody.
        keeps_locals: Whether failures that are gone on after keep their frames.
    """

    guards_itself = True

    def __init__(
        self,
        call: Call,
        stops: bool,
        keeps: bool,
        is_timed: bool,
        guard: Callable[..., Any] | None = None,
        keeps_locals: bool = False,
    ) -> None:
        self.call = call
        self.stops = stops
        self.keeps = keeps
        self.is_timed = is_timed
        self.guard = guard
        self.keeps_locals = keeps_locals

    def __reduce__(self) -> Any:
        return BatchCall, (self.call, self.stops, self.keeps, self.is_timed)

    def __call__(self, load: Load, context: Context | None) -> Part | None:
        """Call, and leave in the load what came of it, or give it packed."""
        # Of the load, for nobody can tell of an executor whether it sends anything.
        load.is_begun = True
        call = self._for_item(load, context)
        if self.guard is not None:
            call = partial(self.guard, call)
        call = apart(call)
        if not load.is_sent:
            self._perform(load, call, Exception)
            return None
        assert context is not None
        if context._line is None:  # somebody else's worker
            self._perform(load, call, BaseException)
        else:
            self._perform_and_report(load, call, context._line)
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
            return call(item, context_of_item(context, index))

        return call_with_context

    def _perform(
        self, load: Load, call: Callable[[Any], Any], catch: type[BaseException]
    ) -> None:
        results, rest, is_over = load.results, iter(load.items), False
        while not is_over:
            variables = Variables()
            is_over = variables.run(
                self._perform_some, load, rest, call, catch, variables
            )
            # All but the first, for nobody is told of them before the last is done;
            # that too where it is to be sent, which its frames cannot be.
            least = 0 if load.is_sent else 1
            if len(load.failed) > least and not self.keeps_locals:
                forget_locals(results[load.failed[-1]])
        # What does so does so whenever it does not fail; to look at each result takes
        # a third longer.
        if load.failed or (results and type(results[0]) is CoroutineType):
            self._refuse_coroutines(load)

    def _perform_some(
        self,
        load: Load,
        rest: Iterator[Any],
        call: Callable[[Any], Any],
        catch: type[BaseException],
        variables: Variables,
    ) -> bool:
        """Make calls until one has failed or set a variable; say whether to end."""
        note = load.results.append
        try:
            for item in rest:
                note(call(item))
                if variables:
                    return False
        except catch as error:
            return self._has_failed(load, error)
        return True

    def _perform_and_report(
        self, load: Load, call: Callable[[Any], Any], line: Line
    ) -> None:
        clock, noted = perf_counter, line.noting()
        # Where nobody can read which had begun, each is told of when it is done.
        is_told = self.is_timed or noted is None
        silence = 0.0 if is_told else _LONGEST_SILENCE
        due = clock() + silence
        rest, is_over = enumerate(load.items, 1), False
        while not is_over:
            variables = Variables()
            is_over = variables.run(
                self._note_some, load, rest, call, noted or [0], variables, due
            )
            if load.failed:
                forget_locals(load.results[load.failed[-1]])
            if clock() > due and not is_over:
                line.report(load.pack(self.keeps))
                due = clock() + silence

    def _note_some(
        self,
        load: Load,
        rest: Iterator[tuple[int, Any]],
        call: Callable[[Any], Any],
        noted: Noted,
        variables: Variables,
        due: float,
    ) -> bool:
        """Make calls as ``_perform_some``, and note each, until they are to be told."""
        clock, append = perf_counter, load.results.append
        try:
            for number, item in rest:
                noted[0] = number
                output = call(item)
                if type(output) is CoroutineType:
                    raise stray_coroutine(output, self.call.name)
                append(output)
                if variables or clock() > due:
                    return False
        except BaseException as error:
            return self._has_failed(load, error)
        return True

    def _has_failed(self, load: Load, error: BaseException) -> bool:
        """Note that the present item failed, and say whether to end with that."""
        load.failed.append(len(load.results))
        load.results.append(without_our_frames(error))
        return self.stops

    def _refuse_coroutines(self, load: Load) -> None:
        for position, result in enumerate(load.results):
            if type(result) is CoroutineType:
                load.results[position] = stray_coroutine(result, self.call.name)
                load.failed.append(position)
        load.failed.sort()


class Shares(NamedTuple):
    """What becomes of the items of a batch that has ended, each by its position.

    Attributes:
        failed: Those that were done, and failed.
        ended: Those that had ended, of which nothing has been heard.
        culprits: Those that the end of the batch counts as an attempt of.
        alone: Those that go on one by one.
        together: Those that go on as another batch.
    """

    failed: Sequence[int] = ()
    ended: range = range(0)
    culprits: range = range(0)
    alone: range = range(0)
    together: range = range(0)


def shares(
    count: int,
    done: int,
    failed: Sequence[int],
    outcome: Outcome,
    begun: int | None,
) -> Shares:
    """Share out the items of a batch that has ended.

    Args:
        count: How many they were.
        done: How many are known to have been done.
        failed: Which of these failed.
        outcome: How the batch ended.
        begun: How many had begun; None if that cannot be known.
    """
    rest = range(done, count)
    if not rest or outcome is Outcome.SUCCEEDED:
        return Shares(failed, together=rest)
    if begun is None:
        # Each may be the one, and none is to be called more often than it may be.
        return Shares(failed, culprits=rest)
    if begun <= done:
        # It came to its end before the next began, as where one cannot be sent: one
        # by one they show it, which those that follow have had no part in.
        alone, together = rest[:_MOST_ALONE], rest[_MOST_ALONE:]
        return Shares(failed, alone=alone, together=together)
    # The last that began, for they begin one after the other.
    ended, culprit = range(done, begun - 1), range(begun - 1, begun)
    return Shares(failed, ended, culprit, together=range(begun, count))
