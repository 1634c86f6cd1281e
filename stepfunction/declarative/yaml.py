"""YAML: documents as people write them. The only file that imports PyYAML.

What is read is what JSON has: texts, numbers, true, false, null, lists and mappings of
texts, as YAML 1.2 has them. What other readers of YAML take for something else, such as
``no``, ``010`` or a date, is refused, and so are tags; nothing is made of any class.

Needs the extra ``yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeAlias

from stepfunction.core.errors import DefinitionError
from stepfunction.core.transcript.parts import Path, place, shown
from stepfunction.core.wording import did_you_mean

try:
    import yaml
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "workflows as YAML need PyYAML: pip install PyYAML",
        name=missing.name,
    ) from missing

Mark: TypeAlias = tuple[int, int]  # a line and a column, from 1
# Of each part what messages begin with that are about it.
Marks: TypeAlias = dict[Path, str]

SUBJECT = "document"
_DEEPEST = 110  # beyond what a document may have
_MOST_REPEATED = 100_000  # values that aliases may stand for

_CONSTANTS = {
    text: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for text in (word, word.capitalize(), word.upper())
} | {"": None, "~": None}
_INT = re.compile("[-+]?(0|[1-9][0-9]*)")
_HEX = re.compile("0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TRUTH = re.compile("yes|no|on|off", re.IGNORECASE)
_NUMERAL = re.compile(
    r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])*(\.[0-9_]*)?"
    r"([eE][-+]?[0-9]+)?|\.[0-9_]+([eE][-+]?[0-9]+)?)"
)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
    r"(([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}[0-9.:zZ+\- \t]*)?"
)
_QUOTED = re.compile("[yYnN]|<<|=")  # what some take for more than a text
_TEXT_TAG = "tag:yaml.org,2002:str"


def read(text: str | bytes | bytearray) -> tuple[Any, Marks]:
    """Give the data of a YAML text, and where each part of it stands.

    A mapping that is the ``branch`` of a step may have other keys than texts, and is
    given as a list then, as in JSON.

    Raises:
        DefinitionError: If it is no YAML, or JSON has not what it says, with lines and
            columns.
    """
    reader = _Reader()
    if not isinstance(text, str):
        text = _decoded(bytes(text))
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            reader.take(event)
    except yaml.reader.ReaderError as error:
        mark = _mark_in(text, error.position)
        code = ord(text[error.position])
        refuse(f"the character U+{code:04X} cannot stand in YAML; leave it out", mark)
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(text, error)
    if reader.problems:
        raise DefinitionError(SUBJECT, reader.problems)
    return reader.root, reader.marks


def write(document: Any) -> str:
    """Give JSON data as a YAML text that every reader of YAML reads alike."""
    written: Any = yaml.emit(
        _events(document),
        Dumper=yaml.SafeDumper,
        allow_unicode=True,
        width=10**9,  # no line is broken
    )
    return str(written)


def refuse(problem: str, mark: Mark | None = None) -> NoReturn:
    """Refuse the text.

    Raises:
        DefinitionError: Always.
    """
    raise DefinitionError(SUBJECT, [problem if mark is None else at(mark, problem)])


def at(mark: Mark, problem: str = "") -> str:
    """Give a problem with the line and the column where it is."""
    return f"line {mark[0]}, column {mark[1]}: {problem}"


# --- reading ------------------------------------------------------------------------


class _Open:
    """A list or a mapping that is being read."""

    def __init__(self, path: Path, anchor: str | None, is_list: bool) -> None:
        self.path = path
        self.anchor = anchor
        self.is_list = is_list
        self.size = 1
        self.parts: list[tuple[Any, Any]] = []
        self.key: Any = _NO_KEY
        self.lines: dict[tuple[type, Any], Mark] = {}


_NO_KEY = object()


class _Reader:
    """Makes data of what a parser tells, one event after another."""

    def __init__(self) -> None:
        self.root: Any = _NO_KEY
        self.marks: Marks = {}
        self.problems: list[str] = []
        self._open: list[_Open] = []
        self._anchored: dict[str, tuple[Any, int]] = {}
        self._repeated = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        mark = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                text = "a second document begins; give each a file of its own"
                refuse(f"{text}, or leave the line out", mark)
        elif isinstance(event, yaml.StreamEndEvent):
            if not self._documents:
                refuse("there is nothing in it; a workflow begins with its format")
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), mark)
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, mark)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()

    def _begin(self, event: Any, mark: Mark) -> None:
        path = self._place_of(mark)
        if self._takes_key():
            refuse(self._said(path, "a key is a text, no list and no mapping"), mark)
        self._refuse_tag(event, path, mark)
        if len(self._open) >= _DEEPEST:
            refuse(f"it is nested more than {_DEEPEST} deep", mark)
        is_list = isinstance(event, yaml.SequenceStartEvent)
        self._open.append(_Open(path, event.anchor, is_list))
        if event.anchor is not None:
            self._anchored.pop(event.anchor, None)  # an alias inside is of itself

    def _end(self) -> None:
        ended = self._open.pop()
        made: Any
        if ended.is_list:
            made = [part for _, part in ended.parts]
        elif all(type(key) is str for key, _ in ended.parts):
            made = dict(ended.parts)
        else:
            made = []
            for index, (key, part) in enumerate(ended.parts):
                mark = self.marks[(*ended.path, key)]
                self.marks[(*ended.path, index)] = mark
                made.append({"result": key, "step": part})
        self._add(made, ended.size, ended.anchor)

    def _scalar(self, event: Any, mark: Mark) -> None:
        path = self._place_of(mark)
        self._refuse_tag(event, path, mark)
        text = event.value
        is_plain = event.style is None and event.implicit[0]
        if self._takes_key():
            key = _value_of(text) if is_plain else text
            if event.anchor is not None:
                self._anchored[event.anchor] = key, 1
            self._key(key, text, mark)
            if is_plain and text == "<<":
                problem = "<< merges nothing here; write the keys themselves"
                self._note((*path, text), mark, problem)
            elif is_plain and key is text and _NUMERAL.fullmatch(text):
                self._note((*path, text), mark, _doubt(text))
            return
        value = text
        if is_plain:
            value = _value_of(text)
            if value is text and not (path[-1:] == ("until",) and text[4:5] == "-"):
                problem = _doubt(text)
                if problem:
                    self._note(path, mark, problem)
        self._add(value, 1, event.anchor)

    def _alias(self, name: str, mark: Mark) -> None:
        path = self._place_of(mark)
        if any(it.anchor == name for it in self._open):
            refuse(self._said(path, f"*{name} stands inside what it names"), mark)
        if name not in self._anchored:
            hint = did_you_mean(name, self._anchored)
            problem = f"nothing before it has the anchor &{name}{hint}"
            refuse(self._said(path, problem), mark)
        value, size = self._anchored[name]
        self._repeated += size
        if self._repeated > _MOST_REPEATED:
            most = f"more than {_MOST_REPEATED:,} values"
            refuse(f"aliases as *{name} repeat {most}; write less of them", mark)
        if self._takes_key():
            if type(value) is str:
                self._key(value, value, mark)
                return
            refuse(self._said(path, f"*{name}, a key, is no text"), mark)
        self._add(value, size, None)

    def _key(self, key: Any, text: str, mark: Mark) -> None:
        inside = self._open[-1]
        path = inside.path
        self.marks[(*path, key)] = at(mark)
        if type(key) is not str and not _is_branch(path):
            problem = f'the key {text} is no text; quote it: "{text}"'
            self._note(path, mark, problem if text else "a key is missing")
        earlier = inside.lines.setdefault((type(key), key), mark)
        if earlier is not mark:
            problem = f"this key is there already, in line {earlier[0]}"
            self._note((*path, key), mark, f"{problem}; leave one out")
        inside.key = key

    def _add(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchored[anchor] = value, size
        if not self._open:
            self.root = value
            return
        inside = self._open[-1]
        inside.size += size
        inside.parts.append((inside.key, value))
        inside.key = _NO_KEY

    def _takes_key(self) -> bool:
        """Whether what comes is a key."""
        if not self._open:
            return False
        inside = self._open[-1]
        return not inside.is_list and inside.key is _NO_KEY

    def _place_of(self, mark: Mark) -> Path:
        """Give the path of what comes, and note where it stands; of a key its owner."""
        if not self._open:
            self.marks[()] = at(mark)
            return ()
        inside = self._open[-1]
        if not inside.is_list:
            return inside.path if self._takes_key() else (*inside.path, inside.key)
        path = (*inside.path, len(inside.parts))
        self.marks[path] = at(mark)
        return path

    def _refuse_tag(self, event: Any, path: Path, mark: Mark) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            return
        if tag == _TEXT_TAG and isinstance(event, yaml.ScalarEvent):
            return
        self._note(path, mark, f"the tag {shown(tag)} is not read here; leave it out")

    def _note(self, path: Path, mark: Mark, problem: str) -> None:
        self.problems.append(at(mark, self._said(path, problem)))

    def _said(self, path: Path, problem: str) -> str:
        where = place(path)
        return f"{where}: {problem}" if where else problem


def _is_branch(path: Path) -> bool:
    """Tell the branch of a step, whose keys are results."""
    is_branch = path[-1:] == ("branch",) and path[-3:-2] == ("steps",)
    return is_branch and len(path) in (3, 5)  # of the workflow, or a nested one


def _value_of(text: str) -> Any:
    """Give what a plain text is as YAML 1.2 and JSON have it."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _INT.fullmatch(text):
            return int(text)
        if _HEX.fullmatch(text):
            return int(text, 16)
        if _FLOAT.fullmatch(text):
            plain = text.lower().replace(".inf", "inf").replace(".nan", "nan")
            return float(plain)
    except ValueError:  # of more digits than Python reads
        pass
    return text


def _doubt(text: str) -> str:
    """Say why a plain text is not to stand there: others take it for something else."""
    if _TRUTH.fullmatch(text):
        truth = "true" if text.lower() in ("yes", "on") else "false"
        meaning = f'{truth} to some and a text to others; write {truth}, or "{text}"'
        return f"{text} is {meaning} in quotes"
    if _NUMERAL.fullmatch(text):
        return (
            f"{shown(text)} is not the same number to all; write it plainly, or in "
            "quotes if it is a text"
        )
    if _MOMENT.fullmatch(text):
        hint = f'JSON has none; write "{text}" in quotes'
        return f"{text} is a date to some, and {hint}"
    return ""


def _decoded(data: bytes) -> str:
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "replace")
        mark = _mark_in(before, len(before))
        byte = data[error.start]
        refuse(f"byte 0x{byte:02x} is not UTF-8; save it as UTF-8", mark)


def _mark_in(text: str, index: int) -> Mark:
    before = text[:index]
    return before.count("\n") + 1, index - before.rfind("\n")


def _refuse_syntax(text: str, error: Any) -> None:
    """Say where a text is no YAML, and what mostly helps there."""
    found = error.problem_mark or error.context_mark
    line = text.split("\n")[found.line : found.line + 1] or [""]
    here = text[found.index : found.index + 1]
    hint = ""
    if "\t" in line[0][: found.column + 1]:
        hint = "; indent by spaces, not by tabs"
    elif here in ("", ":"):
        hint = "; close what is open, and quote a text that has a colon"
    elif here in "@`%*&!|>{}[]\"'#,":
        hint = f"; quote a text that has {here}"
    problem = " ".join(it for it in (error.context, error.problem) if it)
    problem = problem.replace(r"character '\t'", "a tab")
    refuse(f"it is no YAML: {problem}{hint}", (found.line + 1, found.column + 1))


# --- writing ------------------------------------------------------------------------


def _events(document: Any) -> Iterator[Any]:
    yield yaml.StreamStartEvent()
    yield yaml.DocumentStartEvent(explicit=False)
    yield from _of(document)
    yield yaml.DocumentEndEvent(explicit=False)
    yield yaml.StreamEndEvent()


def _of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield yaml.MappingStartEvent(None, None, True, flow_style=not value)
        for key, part in value.items():
            yield _text(key)
            yield from _of(part)
        yield yaml.MappingEndEvent()
    elif isinstance(value, list):
        yield yaml.SequenceStartEvent(None, None, True, flow_style=not value)
        for part in value:
            yield from _of(part)
        yield yaml.SequenceEndEvent()
    elif isinstance(value, str):
        yield _text(value)
    else:
        yield yaml.ScalarEvent(None, None, (True, False), _constant(value))


def _constant(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    # To some a number has a point where it has an exponent, which has a sign.
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return text


def _text(text: str) -> Any:
    style = None
    if text.isprintable():
        if _value_of(text) is not text or _doubt(text) or _QUOTED.fullmatch(text):
            style = '"'
    elif text[0].isalnum() and text.replace("\n", "").isprintable():
        style = "|"
    else:
        style = '"'
    return yaml.ScalarEvent(None, None, (True, True), text, style=style)
