"""The pages of the documents: what of them is run, and where their links lead.

One parser for all tests of documents. A page is Markdown as GitHub reads it; how its
snippets are marked is said in `tests/docs/README.md`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

# What a fence may be, beside a directive of MyST. What is run has one name each, so
# that nothing stays unrun for being called `sh` or `py`.
LANGUAGES = {"", "console", "css", "html", "ini", "javascript", "json", "mermaid"}
LANGUAGES |= {"python", "text", "toml", "yaml"}
MARK = re.compile(
    r"<!-- (?:(continued)|file: (\S+)|added to: (\S+)|not run: (\S[^\n]*)) -->\n?"
)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class PageError(Exception):
    """What is wrong with a page, and where."""


@dataclass(frozen=True)
class Snippet:
    """A fence of a page.

    Attributes:
        page: The page's name, as ``docs/guides/retry.md``.
        line: The line of the page on which its code begins.
        language: What stands behind the backticks.
        code: What stands between them.
        output: The text fence that follows: what it prints, or None.
        continued: Whether it goes on in the program of those before it.
        file: The name that it is saved under, or None.
        added: Whether it is added to that file, instead of being all of it.
        not_run: Why it is not run, or None.
    """

    page: str
    line: int
    language: str
    code: str
    output: str | None = None
    continued: bool = False
    file: str | None = None
    added: bool = False
    not_run: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        stays = self.file is not None or self.not_run is not None
        return self.language in ("python", "console") and not stays


@dataclass(frozen=True)
class Heading:
    line: int
    level: int
    title: str
    anchor: str


@dataclass(frozen=True)
class Link:
    """Where something of a page leads: a link, or a picture, which has a text."""

    line: int
    target: str
    text: str
    is_picture: bool = False


@dataclass(frozen=True)
class Program:
    """Snippets that run in one process, and the files that they find in its folder."""

    snippets: tuple[Snippet, ...]
    files: dict[str, str]

    @property
    def place(self) -> str:
        return self.snippets[0].place

    @property
    def source(self) -> str:
        """Give one script in which each line of code stands where it does in the page.

        So the line of a traceback is the line of the page. A control character is
        printed where one snippet ends and the next begins.
        """
        return self._joined(PARTING)

    @property
    def text(self) -> str:
        """Give the same script as a reader would write it, for type checkers."""
        return self._joined("")

    def _joined(self, parting: str) -> str:
        lines: list[str] = []
        for number, snippet in enumerate(self.snippets):
            lines += [""] * (snippet.line - 1 - len(lines))
            if number:
                lines[-1] = parting
            lines += snippet.code.splitlines()
        return "\n".join([*lines, ""])


PART = "\x1e"
# Workers of a program import it by another name, and must not print it too.
PARTING = f'__name__ == "__main__" and print({PART!r}, end="", flush=True)'


@dataclass(frozen=True)
class Command:
    """A command of a console, and what it shows."""

    line: int
    command: str
    output: str


@dataclass(frozen=True)
class Page:
    """A page, as its name in the repository and its text.

    Raises:
        PageError: Something in it is not as all pages are, said when it is asked for.
    """

    name: str
    text: str
    _tokens: list[Token] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parser = MarkdownIt("commonmark").enable("table")
        object.__setattr__(self, "_tokens", parser.parse(self.text))

    @classmethod
    def read(cls, path: Path) -> Page:
        name = path.relative_to(ROOT).as_posix()
        return cls(name, path.read_text(encoding="utf-8"))

    def wrong(self, line: int, what: str) -> PageError:
        return PageError(f"{self.name}:{line}: {what}")

    @cached_property
    def snippets(self) -> tuple[Snippet, ...]:
        """Give all fences but directives, and the texts that others print."""
        found: list[Snippet] = []
        before: Token | None = None
        for token in self._tokens:
            if token.type == "fence" and not token.info.startswith("{"):
                self._add(found, token, before)
            elif token.type == "html_block" and MARK.search(token.content):
                self._refuse_a_mark_of_nothing(token)
            before = token
        return tuple(found)

    def _add(self, found: list[Snippet], token: Token, before: Token | None) -> None:
        (first, _), language = _lines(token), token.info.strip()
        if language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES - {""}))
            raise self.wrong(first + 1, f"a fence is {language!r}, not one of {known}")
        if language == "text" and _is_run_until(before, first - 1):
            self._take_output(found, token)
            return
        marks = self._marks(token, before)
        found.append(Snippet(self.name, first + 2, language, token.content, **marks))

    def _take_output(self, found: list[Snippet], token: Token) -> None:
        snippet, line = found[-1], _lines(token)[0] + 1
        if snippet.language != "python" or snippet.output is not None:
            raise self.wrong(line, "nothing prints this text: it follows no program")
        if snippet.file is not None:
            raise self.wrong(line, f"{snippet.file} is saved, and so prints nothing")
        found[-1] = replace(snippet, output=token.content)

    def _marks(self, token: Token, before: Token | None) -> dict[str, object]:
        line = _lines(token)[0]
        if before is None or before.type != "html_block":
            return {}
        if _lines(before)[1] != line or not before.content.startswith("<!--"):
            return {}
        match = MARK.fullmatch(before.content)
        if match is None:
            known = "continued, file: NAME, added to: NAME, not run: REASON"
            comment = before.content.strip()
            raise self.wrong(line, f"{comment} is none of the marks {known}")
        continued, file, added_to, not_run = match.groups()
        if continued and token.info.strip() != "python":
            raise self.wrong(line, "only a python snippet can be continued")
        if not_run and token.info.strip() not in ("python", "console"):
            raise self.wrong(line, "only python and console snippets are run at all")
        name = file or added_to
        if name and (name.startswith(("/", "~")) or ".." in name.split("/")):
            raise self.wrong(line, f"{name} is not in the folder of the page")
        return {
            "continued": continued is not None,
            "file": name,
            "added": added_to is not None,
            "not_run": not_run,
        }

    def _refuse_a_mark_of_nothing(self, token: Token) -> None:
        following = self._tokens[self._tokens.index(token) + 1 :]
        fence = next(iter(following), None)
        end = _lines(token)[1]
        if fence is None or fence.type != "fence" or _lines(fence)[0] != end:
            raise self.wrong(end, f"no fence follows on {token.content.strip()}")

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """Give the python snippets that are run, those continued with their first."""
        chains: list[list[Snippet]] = []
        files: dict[str, str] = {}
        found: list[dict[str, str]] = []
        for snippet in self.snippets:
            if snippet.file is not None:
                self._save(files, snippet)
            elif snippet.language != "python" or not snippet.runs:
                continue
            elif not snippet.continued:
                chains.append([snippet])
                found.append(dict(files))
            elif not chains:
                raise self.wrong(snippet.line - 1, "there is nothing to continue here")
            else:
                self._bring(files, found[-1], snippet)
                chains[-1].append(snippet)
        return tuple(
            Program(tuple(chain), there)
            for chain, there in zip(chains, found, strict=True)
        )

    def _bring(
        self, files: dict[str, str], there: dict[str, str], snippet: Snippet
    ) -> None:
        """Have a program find the files that were made since its first snippet."""
        for name, text in files.items():
            if there.setdefault(name, text) != text:
                what = f"{name} has another text than where this program begins"
                raise self.wrong(snippet.line - 1, what)

    def _save(self, files: dict[str, str], snippet: Snippet) -> None:
        assert snippet.file is not None
        if snippet.added and snippet.file not in files:
            what = f"there is no {snippet.file} that could be added to"
            raise self.wrong(snippet.line - 1, what)
        already = files.get(snippet.file, "") if snippet.added else ""
        files[snippet.file] = already + snippet.code

    @property
    def files(self) -> dict[str, str]:
        """Give the files that the page has made at its end, by their names."""
        files: dict[str, str] = {}
        for snippet in self.snippets:
            if snippet.file is not None:
                self._save(files, snippet)
        return files

    @property
    def consoles(self) -> Iterator[tuple[Snippet, dict[str, str]]]:
        """Yield what is typed, each with the files that the page has made by then."""
        files: dict[str, str] = {}
        for snippet in self.snippets:
            if snippet.file is not None:
                self._save(files, snippet)
            elif snippet.language == "console" and snippet.runs:
                yield snippet, dict(files)

    @cached_property
    def headings(self) -> tuple[Heading, ...]:
        found: list[Heading] = []
        anchors: set[str] = set()
        for token, inline in zip(self._tokens, self._tokens[1:], strict=False):
            if token.type == "heading_open":
                title = "".join(
                    child.content
                    for child in inline.children or ()
                    if child.type in ("text", "code_inline")
                )
                anchor = unique(github_anchor(title), anchors)
                anchors.add(anchor)
                level = int(token.tag[1:])
                found.append(Heading(_lines(token)[0] + 1, level, title, anchor))
        return tuple(found)

    @cached_property
    def anchors(self) -> frozenset[str]:
        """Give what may stand behind a ``#``: of headings, and of names in HTML."""
        named = (anchor for html in self._html for anchor in html.anchors)
        return frozenset([*(heading.anchor for heading in self.headings), *named])

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Give all links and pictures, those in HTML too."""
        found = [link for html in self._html for link in html.links]
        for line, token, rest in self._inline():
            if token.type == "image":
                target = str(token.attrs["src"])
                found.append(Link(line, target, token.content, is_picture=True))
            elif token.type == "link_open":
                found.append(Link(line, str(token.attrs["href"]), _text_of(rest)))
        return tuple(sorted(found, key=lambda link: link.line))

    @cached_property
    def code_spans(self) -> tuple[tuple[int, str], ...]:
        """Give what stands as code between words, with the lines."""
        return tuple(
            (line, token.content)
            for line, token, _ in self._inline()
            if token.type == "code_inline"
        )

    def _inline(self) -> Iterator[tuple[int, Token, list[Token]]]:
        """Yield what stands in lines, with its line and what follows it there."""
        for block in self._tokens:
            if block.type == "inline":
                line = _lines(block)[0] + 1
                children = block.children or []
                for number, token in enumerate(children):
                    yield line, token, children[number + 1 :]
                    line += token.type in ("softbreak", "hardbreak")

    @cached_property
    def _html(self) -> list[_Html]:
        blocks = [
            (_lines(token)[0] + 1, token.content)
            for token in self._tokens
            if token.type == "html_block"
        ]
        blocks += [
            (line, token.content)
            for line, token, _ in self._inline()
            if token.type == "html_inline"
        ]
        return [_Html(line, text) for line, text in blocks]


class _Html(HTMLParser):
    def __init__(self, line: int, text: str) -> None:
        super().__init__()
        self.line, self.links, self.anchors = line, list[Link](), list[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        line = self.line + self.getpos()[0] - 1
        if tag == "img":
            text = given.get("alt", "")
            self.links.append(Link(line, given.get("src", ""), text, is_picture=True))
        elif tag == "source":
            target = given.get("srcset", "")
            self.links.append(Link(line, target, "of the picture", is_picture=True))
        elif tag == "a" and "href" in given:
            self.links.append(Link(line, given["href"], ""))
        self.anchors += [given[name] for name in ("id", "name") if name in given]


def _text_of(following: list[Token]) -> str:
    parts: list[str] = []
    for token in following:
        if token.type == "link_close":
            break
        parts.append(token.content)
    return "".join(parts)


def _lines(token: Token) -> tuple[int, int]:
    assert token.map is not None
    return token.map[0], token.map[1]


def _is_run_until(token: Token | None, line: int) -> bool:
    if token is None or token.type != "fence" or _lines(token)[1] != line:
        return False
    return token.info.strip() in ("python", "console")


def commands_of(snippet: Snippet) -> tuple[Command, ...]:
    """Give what is typed in a console snippet, and what it is said to show."""
    found: list[Command] = []
    for number, line in enumerate(snippet.code.splitlines(), snippet.line):
        unfinished = found and not found[-1].output and _goes_on(found[-1].command)
        if unfinished:
            more = f"{found[-1].command}\n{line.removeprefix('> ')}"
            found[-1] = replace(found[-1], command=more)
        elif line.startswith("$ "):
            found.append(Command(number, line[2:], ""))
        elif found:
            found[-1] = replace(found[-1], output=f"{found[-1].output}{line}\n")
        else:
            raise PageError(f"{snippet.page}:{number}: a command begins with '$ '")
    return tuple(found)


def _goes_on(command: str) -> bool:
    return command.endswith("\\")


def shows(output: str, expected: str) -> bool:
    """Tell whether an output is as expected, where ``…`` is any lines or text."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(f"{line}\n").replace("…", ".*")
        for line in _rstripped(expected)
    )
    return re.fullmatch(pattern, "\n".join([*_rstripped(output), ""])) is not None


def _rstripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def github_anchor(title: str) -> str:
    """Give the anchor that GitHub makes of a heading."""
    kept = (it for it in title.strip().lower() if _stays_in_an_anchor(it))
    return "".join(kept).replace(" ", "-")


def _stays_in_an_anchor(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind[0] in "LNM" or kind == "Pc" or character in " -"


def unique(anchor: str, others: set[str]) -> str:
    """Give an anchor that is no other one's, as GitHub does: with a number."""
    found, number = anchor, 0
    while found in others:
        number += 1
        found = f"{anchor}-{number}"
    return found


def all_pages() -> tuple[Page, ...]:
    """Give the README and the pages of the site, in the order of their names."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return tuple(map(Page.read, paths))
