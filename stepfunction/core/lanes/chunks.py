"""Chunks: how ``map`` sends its calls, and in which order it gives what they return."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Any
from weakref import ref

from stepfunction.core.clock import perf_counter
from stepfunction.core.wording import label_of

Arguments = tuple[Any, ...]


class Each:
    """Makes several calls of a function, one after the other.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__qualname__ = label_of(function)  # in messages

    def __call__(self, chunk: list[Arguments]) -> list[Any]:
        """Give what it returns for each of these arguments."""
        return [self._function(*args) for args in chunk]


def results(
    executor: Executor,
    function: Callable[..., Any],
    calls: Iterator[Arguments],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
) -> Iterator[Any]:
    """Submit calls, and give their results in the order of these.

    Args:
        executor: Where to submit them; its own ``submit`` is used.
        function: What to call.
        calls: The arguments of each.
        timeout: How many seconds from now on it may take; None for any.
        chunksize: How many calls are submitted as one.
        buffersize: How many of what is submitted may wait to be asked for; None to
            submit all of it now.
    """
    if chunksize == 1:
        chunks: Iterator[Arguments] = calls
        call = function
    else:
        chunks = ((chunk,) for chunk in _chunked(calls, chunksize))
        call = Each(function)
    last = None if timeout is None else perf_counter() + timeout
    submitted: deque[Future[Any]] = deque()
    try:
        for args in islice(chunks, buffersize):
            submitted.append(executor.submit(call, *args))
    except BaseException:
        _cancel(submitted)
        raise
    # Who asks for results keeps no executor alive that nobody else holds.
    more = None if buffersize is None else _Source(executor, call, chunks)
    found = _in_order(submitted, last, more)
    return found if chunksize == 1 else _flat(found)


class _Source:
    """What is submitted only when there is room for it."""

    def __init__(
        self, executor: Executor, call: Callable[..., Any], chunks: Iterator[Arguments]
    ) -> None:
        self._executor = ref(executor)
        self._call = call
        self._chunks = chunks

    def submit_next(self, submitted: deque[Future[Any]]) -> None:
        executor = self._executor()
        if executor is not None:
            for args in islice(self._chunks, 1):
                submitted.append(executor.submit(self._call, *args))


def _in_order(
    submitted: deque[Future[Any]], last: float | None, more: _Source | None
) -> Iterator[Any]:
    try:
        while submitted:
            if more is not None:
                more.submit_next(submitted)
            # Neither the future nor its result is kept here.
            if last is None:
                yield _result(submitted.popleft())
            else:
                yield _result(submitted.popleft(), last - perf_counter())
    finally:
        _cancel(submitted)


def _result(future: Future[Any], timeout: float | None = None) -> Any:
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        del future  # which its error would keep alive by this frame


def _flat(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def _chunked(calls: Iterator[Arguments], size: int) -> Iterator[list[Arguments]]:
    while chunk := list(islice(calls, size)):
        yield chunk


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()
