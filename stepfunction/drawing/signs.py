"""Signs: how what became of a step looks, in signs and words as well as in colours."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from stepfunction.core.outcomes import Outcome, Status

# Lines and text outside boxes are readable on light and on dark backgrounds.
INK, PAPER, LINE, FAILURE, PATH = "#1f2937", "#ffffff", "#7b8794", "#d64550", "#2f7fd0"
_MOST_CHARACTERS = 48


class Sign(NamedTuple):
    """How an outcome looks.

    Attributes:
        name: One word for it, which looks share.
        mark: The character that stands for it.
        line: The colour of borders, and of text that has no box.
        fill: The colour of boxes.
        ink: The colour of the text in them.
        width: How wide borders are.
        style: How borders are drawn; nothing where they are not broken.
    """

    name: str
    mark: str
    line: str
    fill: str
    ink: str
    width: float
    style: str = ""


class Note(NamedTuple):
    """What a picture says became of a step or task.

    Attributes:
        sign: How it looks.
        ended: How it ended, in a few words; nothing where it was not reached.
        items: How many items there were.
        rest: What failed, and what was undone.
        which: Which item is shown inside.
    """

    sign: Sign
    ended: str = ""
    items: str = ""
    rest: tuple[str, ...] = ()
    which: str = ""

    @property
    def lines(self) -> list[str]:
        """All that it says."""
        return [it for it in (self.ended, self.items, *self.rest, self.which) if it]


_DONE = Sign("done", "✓", "#2b8a4b", "#e9f7ee", INK, 1.5)
_FAILED = Sign("failed", "✗", FAILURE, "#fdecec", INK, 3)
_LATE = Sign("late", "◷", "#b07010", "#fff4e0", INK, 3, "dashed")
_STOPPED = Sign("stopped", "⊘", LINE, "#eceef1", INK, 2, "dotted")
_RUNNING = Sign("running", "…", PATH, "#e8f1fb", INK, 2.5)
UNREACHED = Sign("unreached", "", "#9aa5b1", "#f3f4f6", "#5b6470", 0.8, "dashed")
SIGNS: dict[Outcome | None, Sign] = {
    None: _RUNNING,  # of what has not ended yet
    Outcome.SUCCEEDED: _DONE,
    Outcome.FAILED: _FAILED,
    Outcome.CRASHED: _FAILED,
    Outcome.TIMED_OUT: _LATE,
    Outcome.ABANDONED: _LATE,
    Outcome.CANCELLED: _STOPPED,
    Outcome.KILLED: _STOPPED,
    Outcome.SKIPPED: _STOPPED,
}
# What ended so is not named where there is much that ended.
DULL = (Outcome.SUCCEEDED, Outcome.CANCELLED, Outcome.KILLED, Outcome.SKIPPED)
STATUS_MARKS = {
    Status.COMPLETED: "✓",
    Status.FAILED: "✗",
    Status.TIMED_OUT: "◷",
    Status.CANCELLED: "⊘",
}


def word(outcome: Outcome | None) -> str:
    """Give an outcome as a person would say it, with its mark."""
    said = "running" if outcome is None else outcome.lower().replace("_", " ")
    return f"{SIGNS[outcome].mark} {said}"


def shortened(name: str) -> str:
    """Give a name on one line, its middle left out where it is very long."""
    name = " ".join(name.split()) or name
    if len(name) <= _MOST_CHARACTERS:
        return name
    half = _MOST_CHARACTERS // 2
    return f"{name[:half].rstrip()} … {name[-half:].lstrip()}"


def shown(text: str) -> str:
    """Give what a picture shows of a text: U+FFFD for what has no shape, or turns."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isspace():
        return character if character == "\n" else " "
    has_shape = unicodedata.category(character) not in _NO_SHAPE
    return character if has_shape and character not in _TURNS else "\ufffd"


_NO_SHAPE = ("Cc", "Cs", "Cn")
# What has the text after it read from the other side.
_TURNS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
