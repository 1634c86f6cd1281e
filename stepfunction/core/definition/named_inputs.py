"""Named inputs: whether every path that leads to a step has what the step takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from stepfunction.core.definition.branch import Arrow
from stepfunction.core.definition.dominance import Dominance
from stepfunction.core.wording import closest, did_you_mean

# Each takes a walk over the whole workflow, and nobody reads thousands.
_MOST_PATHS = 100
_LONGEST_PATH = 8


def input_problems(
    inputs: Mapping[str, Sequence[tuple[str, str]]],
    start: str | None,
    arrows: Mapping[str, Sequence[Arrow]],
) -> Iterator[str]:
    """Say which named inputs are not there whenever their step is performed.

    A named step must be on every path that leads to the step, and have succeeded
    there: who leaves it by a failure arrow has no output of it. Where there are loops
    its latest visit counts. That needs no other check: had a path failed at a later
    visit, another would have failed at the first.

    Args:
        inputs: The steps that have any, by name, to pairs of parameter and the name of
            the step whose output it takes.
        start: The step that an execution begins with; None if it is not known.
        arrows: The names of all steps to the arrows that leave them.
    """
    checked = []
    for name, pairs in inputs.items():
        for parameter, source in pairs:
            what = f"step {name!r}: inputs[{parameter!r}]"
            if source not in arrows:
                hint = did_you_mean(source, arrows)
                yield f"{what} names {source!r}, which is no step{hint}"
            elif source == name:
                yield f"{what} names the step itself; name an earlier one"
            else:
                checked.append((what, name, source))
    if start is not None and start in arrows:
        yield from _Paths(start, _mended(arrows)).problems(checked)


def _mended(arrows: Mapping[str, Sequence[Arrow]]) -> Mapping[str, Sequence[Arrow]]:
    """Lead mistyped arrows to what they resemble: those have been told of already."""
    if all(arrow.target in arrows for leaving in arrows.values() for arrow in leaving):
        return arrows
    mended = {}
    for name, leaving in arrows.items():
        found = []
        for arrow in leaving:
            known = arrow.target in arrows
            target = arrow.target if known else closest(arrow.target, arrows)
            if target is not None:
                found.append(arrow._replace(target=target))
        mended[name] = found
    return mended


class _Paths:
    """All paths of a workflow from its start."""

    def __init__(self, start: str, arrows: Mapping[str, Sequence[Arrow]]) -> None:
        self.start = start
        self.arrows = arrows
        self.without: dict[str, dict[str, str | None]] = {}

    def problems(self, checked: Sequence[tuple[str, str, str]]) -> Iterator[str]:
        """Say what is wrong with steps and what they take the output of."""
        numbers = {name: number for number, name in enumerate(self.arrows)}
        sources = dict.fromkeys(source for _, _, source in checked)
        succeeded = {name: len(numbers) + at for at, name in enumerate(sources)}
        dominance = Dominance(self.numbered(numbers, succeeded), numbers[self.start])
        for what, name, source in checked:
            is_reached = dominance.reaches(numbers[name])
            # What no path leads to is a problem of its own, which is told of already.
            if is_reached and dominance.reaches(numbers[source]):
                if not dominance.holds(succeeded[source], numbers[name]):
                    yield f"{what} takes the output of {source!r}, but " + (
                        self.reason(name, source)
                    )

    def numbered(
        self, numbers: Mapping[str, int], succeeded: Mapping[str, int]
    ) -> list[list[int]]:
        """Give the arrows between numbers, of sources also from where they succeed."""
        graph: list[list[int]] = [[] for _ in range(len(numbers) + len(succeeded))]
        for name, leaving in self.arrows.items():
            number = numbers[name]
            after = succeeded.get(name, number)
            if after != number:
                graph[number].append(after)
            for kind, _, target in leaving:
                graph[number if kind == "failure" else after].append(numbers[target])
        return graph

    def reason(self, name: str, source: str) -> str:
        """Say how a step is reached without the output of another."""
        if name == self.start:
            return "an execution begins here; let a step that gives it come first"
        path = self.path(name, source)
        if path is None:
            return (
                "not every path that leads here has it; name a step that has succeeded "
                "on all of them"
            )
        if source in path:
            hint = "a step that failed has no output"
        else:
            hint = (
                f"lead every path through {source!r}, or name a step that is on all "
                "of them"
            )
        return f"{self.text(path, source)} leads here without it; {hint}"

    def path(self, name: str, source: str) -> list[str] | None:
        """Give a shortest path to a step on which another has not succeeded."""
        if source not in self.without:
            if len(self.without) == _MOST_PATHS:
                return None
            self.without[source] = self.walk_without(source)
        path: list[str] = []
        before: str | None = name
        while before is not None:
            path.append(before)
            before = self.without[source][before]
        return path[::-1]

    def walk_without(self, source: str) -> dict[str, str | None]:
        """Give the steps that are reached although one never succeeds.

        Returns:
            The name of each to that of the step before; None for the start.
        """
        found: dict[str, str | None] = {self.start: None}
        waiting = deque([self.start])
        while waiting:
            name = waiting.popleft()
            for kind, _, target in self.arrows[name]:
                if target not in found and (name != source or kind == "failure"):
                    found[target] = name
                    waiting.append(target)
        return found

    def text(self, path: list[str], source: str) -> str:
        """Write a path, of a long one its ends and where it misses the source."""
        last = len(path) - 1
        shown = set(range(last + 1))
        if last >= _LONGEST_PATH:
            shown = {0, 1, last - 2, last - 1, last}
            if source in path:
                shown |= {path.index(source), path.index(source) + 1}
        words: list[str] = []
        for place, name in enumerate(path):
            if place not in shown:
                if words[-1] != "…":
                    words.append("…")
                continue
            has_failed = place < last and not self.is_led_on(name, path[place + 1])
            mark = " (failed)" if has_failed or name == source else ""
            words.append(f"{name!r}{mark}")
        return " → ".join(words)

    def is_led_on(self, name: str, target: str) -> bool:
        """Tell whether a step can lead to another without failing."""
        arrows = self.arrows[name]
        return any(to == target and kind != "failure" for kind, _, to in arrows)
