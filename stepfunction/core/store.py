"""Store: the port that durability plugs into.

A store keeps executions as rows of JSON text. It knows no SQL here, no values and no
workflows: what a row says is the concern of who writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, TypeAlias

# What a row refers to that is kept apart from it: name to bytes.
Apart: TypeAlias = Mapping[str, bytes]


class Head(NamedTuple):
    """What a store says of an execution before its rows are read.

    Attributes:
        key: The number that the store knows it by.
        id: The execution's ``id``.
        workflow: The name of the workflow.
        status: A ``Status``, as text. That of one that has died is ``"RUNNING"``.
        started: When it began, in seconds since the epoch.
        ended: When it ended; None while it has not.
        graph: The digest of its graph.
        outer: The key of the execution that it is nested in; None for an outermost one.
        visit: How many steps of that had ended before the one that it is nested in.
        part: The task that it is nested in, or the index of the item, as JSON text.
        turn: How many executions have been nested there before.
    """

    key: int
    id: str
    workflow: str
    status: str
    started: float
    ended: float | None
    graph: str
    outer: int | None = None
    visit: int = 0
    part: str = "null"
    turn: int = 0


class Row(NamedTuple):
    """A row of an execution, as it is to be kept.

    Attributes:
        key: The key of the execution.
        number: Which of its rows it is, counted from 0, without a gap.
        text: What it says.
        apart: What it refers to that is kept apart; None for nothing.
    """

    key: int
    number: int
    text: str
    apart: Apart | None = None


class Store(Protocol):
    """What keeps executions. Any thread may call it.

    Whatever is kept is safe when the method returns: it is there after the process has
    died. Each method raises a ``StoreError`` where that cannot be.

    Attributes:
        max_value_bytes: How long a value may be, written as JSON; None for any length.
    """

    max_value_bytes: int | None

    def find(self, id: str) -> Head | None:
        """Give the head of the outermost execution of an ``id``; None without one."""

    def nested(self, key: int) -> list[Head]:
        """Give those nested in an execution, by visit, part and turn."""

    def begin(self, head: Head, graph: str, text: str, apart: Apart | None) -> int:
        """Keep a new execution with its first row, number 0, in one.

        An outermost one is claimed with it, before anybody else can find it.

        Args:
            head: What it is; its ``key`` does not count.
            graph: The text of its graph, which is kept once for all that have it.
            text: What its first row says.
            apart: What that refers to.

        Returns:
            Its key; 0 where there is an outermost one of that ``id`` already, or one
            nested at that very place.
        """

    def claim(self, key: int) -> None:
        """Let nobody else run an execution, until ``release``.

        Such a claim ends with its process, whatever that dies of.

        Raises:
            ExecutionClaimedError: If somebody has it: another process, or this one.
        """

    def release(self, key: int) -> None:
        """Let others run an execution again that this process has claimed."""

    def append(
        self, key: int, number: int, text: str, apart: Apart | None = None
    ) -> None:
        """Keep one row.

        Raises:
            ExecutionClaimedError: If there is a row of that number: somebody else has
                taken the execution over.
        """

    def turn(self, row: Row, status: str, ended: float | None) -> None:
        """Keep a row together with what the execution's status is from then on.

        Raises:
            ExecutionClaimedError: As ``append``.
        """

    def forget(self, row: Row, before: int, visit: int) -> None:
        """Keep a row, and lose others for it, in one.

        Args:
            row: What says all that the lost rows said that is still wanted.
            before: Rows of a lower number are lost, but for the first.
            visit: What is nested in earlier visits than this is lost too.
        """

    def rows(self, key: int) -> Iterator[tuple[int, str]]:
        """Give the rows of an execution, as number and text, in their order.

        Raises:
            StoreError: If one is damaged, or lacks. Between the first and the next
                there is a gap where rows have been lost by ``forget``, and no other.
        """

    def apart(self, key: int, name: str) -> bytes:
        """Give what a row of an execution refers to.

        Raises:
            StoreError: If it is damaged, or lacks.
        """

    def graph(self, digest: str) -> str:
        """Give the text of a graph."""
