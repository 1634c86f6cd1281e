"""The parser of pages, on pages of a few lines."""

from __future__ import annotations

import re
import subprocess
import sys
from textwrap import dedent

import pytest
from shared.pages import PART, Link, Page, PageError, commands_of, github_anchor, shows


def page(text: str) -> Page:
    return Page("docs/it.md", dedent(text))


def refused(text: str, why: str) -> None:
    it = page(text)
    with pytest.raises(PageError, match=f"^docs/it.md:{re.escape(why)}"):
        _ = it.snippets, it.programs


WITH_OUTPUT = """\
    # It

    ```python
    print(1)
    ```

    ```text
    1
    ```
    """


def test_the_text_after_a_program_is_its_output():
    (snippet,) = page(WITH_OUTPUT).snippets
    assert (snippet.place, snippet.code, snippet.output) == (
        "docs/it.md:4",
        "print(1)\n",
        "1\n",
    )


def test_a_text_after_words_is_nobodys_output():
    text = WITH_OUTPUT.replace("```text", "As said:\n\n    ```text")
    first, second = page(text).snippets
    assert (first.output, second.language, second.runs) == (None, "text", False)


def test_a_fence_in_a_list_is_read_without_its_indentation():
    (snippet,) = page("* It\n\n  ```python\n  if 1:\n      print(1)\n  ```\n").snippets
    assert (snippet.line, snippet.code) == (4, "if 1:\n    print(1)\n")


def test_a_fence_in_a_fence_is_none():
    (snippet,) = page("````text\n```python\nno\n```\n````\n").snippets
    assert snippet.code == "```python\nno\n```\n"


def test_directives_are_not_snippets():
    assert page("```{toctree}\na\n```\n").snippets == ()


CHAIN = """\
    ```python
    a = 1
    ```

    <!-- continued -->
    ```python
    print(a, __name__)
    ```

    ```text
    1 __main__
    ```

    Another:

    ```python
    print(2)
    ```
    """


def test_continued_snippets_are_one_program():
    first, second = page(CHAIN).programs
    assert [it.line for it in first.snippets] == [2, 7]
    assert [it.line for it in second.snippets] == [17]


def test_a_line_of_a_program_is_that_of_the_page():
    first, second = page(CHAIN).programs
    assert first.source.splitlines()[6] == "print(a, __name__)"
    assert second.source.splitlines()[16] == "print(2)"


def test_the_outputs_of_a_program_are_parted():
    first, _ = page(CHAIN).programs
    done = subprocess.run(
        [sys.executable, "-c", first.source], capture_output=True, text=True
    )
    assert done.stdout.split(PART) == ["", "1 __main__\n"]


def test_a_program_finds_the_files_before_it():
    text = """\
    <!-- file: a.py -->
    ```python
    x = 1
    ```

    ```python
    import a
    ```

    <!-- added to: a.py -->
    ```python
    y = 1
    ```

    <!-- file: b.yaml -->
    ```yaml
    z: 1
    ```

    ```python
    import a
    ```

    <!-- file: c.py -->
    ```python
    ```

    <!-- continued -->
    ```python
    import c
    ```
    """
    first, second = page(text).programs
    assert first.files == {"a.py": "x = 1\n"}
    assert second.files == {"a.py": "x = 1\ny = 1\n", "b.yaml": "z: 1\n", "c.py": ""}
    assert page(text).files == second.files


def test_a_console_finds_the_files_before_it():
    text = """\
    <!-- file: a.py -->
    ```python
    ```

    ```console
    $ python a.py
    ```
    """
    ((snippet, files),) = page(text).consoles
    assert (snippet.line, files) == (6, {"a.py": ""})


@pytest.mark.parametrize("comment", ["continued", "file: a.py", "not run: why"])
def test_a_mark_counts_for_the_fence_below_it_alone(comment):
    text = f"```python\n```\n\n<!-- {comment} -->\n```python\n```\n\n```python\n```\n"
    first, second, third = page(text).snippets
    assert first.runs and third.runs
    assert second.continued or not second.runs


def test_other_comments_are_left_alone():
    assert page("<!-- about nothing -->\n\n```python\n```\n").snippets[0].runs


@pytest.mark.parametrize(
    "text, why",
    [
        ("```py\n```\n", "1: a fence is 'py', not one of console, css,"),
        ("```bash\n```\n", "1: a fence is 'bash'"),
        ("<!-- contiued -->\n```python\n```\n", "1: <!-- contiued --> is none of the"),
        ("<!-- not run: -->\n```python\n```\n", "1: <!-- not run: --> is none of"),
        ("<!-- not run: a -->\n```yaml\n```\n", "1: only python and console snippets"),
        ("<!-- continued -->\n```console\n```\n", "1: only a python snippet can be"),
        ("<!-- continued -->\n```python\n```\n", "2: there is nothing to continue"),
        ("<!-- continued -->\n\n```python\n```\n", "1: no fence follows on <!-- cont"),
        ("<!-- file: /etc/a -->\n```text\n```\n", "1: /etc/a is not in the folder"),
        ("<!-- file: a/../.. -->\n```text\n```\n", "1: a/../.. is not in the folder"),
        ("<!-- added to: a -->\n```text\n```\n", "2: there is no a that could be add"),
        ("```console\n$ a\n```\n\n```text\n```\n", "5: nothing prints this text"),
        (
            "<!-- file: a -->\n```python\n```\n\n```text\n```\n",
            "5: a is saved, and so prints nothing",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, why):
    refused(text, why)


def test_a_file_that_changes_in_the_middle_of_a_program_is_refused():
    file = "<!-- file: a -->\n```text\n%d\n```\n\n"
    go_on = "<!-- continued -->\n```python\n```\n"
    text = file % 1 + "```python\n```\n\n" + file % 2 + go_on
    refused(text, "15: a has another text than where this program begins")


# --- consoles ---------------------------------------------------------------------


def console(text: str):
    (snippet,) = page(f"```console\n{text}```\n").snippets
    return [(it.line, it.command, it.output) for it in commands_of(snippet)]


def test_a_command_shows_what_follows_it():
    assert console("$ a\n1\n2\n$ b\n") == [(2, "a", "1\n2\n"), (5, "b", "")]


def test_a_command_may_go_on_in_the_next_line():
    assert console("$ a \\\n> b\n1\n") == [(2, "a \\\nb", "1\n")]
    assert console("$ a \\\n    b\n1\n") == [(2, "a \\\n    b", "1\n")]


def test_a_console_begins_with_a_command():
    with pytest.raises(PageError, match="^docs/it.md:2: a command begins with"):
        console("a\n")


@pytest.mark.parametrize(
    "expected", ["a\nb\nc", "…\nc", "a\n…", "a\n…\nc", "a\n…\nb\nc\n", "a \nb\nc", "…"]
)
def test_dots_stand_for_any_lines(expected):
    assert shows("a\nb\nc\n", expected)


@pytest.mark.parametrize("expected", ["a\nb", "a\n…\nb", "a\nc", "", "…\nd", "a.b.c"])
def test_what_shows_something_else_is_told(expected):
    assert not shows("a\nb\nc\n", expected)


def test_dots_in_a_line_stand_for_what_is_in_it():
    assert shows("done in 5 ms\n", "done in … ms")
    assert not shows("done in 5\n6 ms\n", "done in … ms")


# --- headings and links -----------------------------------------------------------


@pytest.mark.parametrize(
    "title, anchor",
    [
        ("Where tasks run", "where-tasks-run"),
        ("`on_failure=`, and what it takes", "on_failure-and-what-it-takes"),
        ("What? Why: a/b & c", "what-why-ab--c"),
        ("Größe — *so*", "größe--so"),
        ("A [link](to.md)", "a-link"),
        ("1.2 (three)", "12-three"),
    ],
)
def test_a_heading_has_the_anchor_that_github_gives_it(title, anchor):
    (heading,) = page(f"## {title}\n").headings
    assert heading.anchor == anchor
    myst = pytest.importorskip("myst_parser.slugs")
    assert myst.github_slugify(heading.title) == github_anchor(heading.title)


def test_headings_of_one_text_are_counted():
    found = page("# A\n\n## B\n\n## B\n\n## B 1\n\n## B\n").headings
    assert [it.anchor for it in found] == ["a", "b", "b-1", "b-1-1", "b-2"]


def test_links_and_pictures_are_found_with_their_lines():
    text = """\
    # A [b](c.md)

    One
    [two `three`](d.md#e), ![a **picture**](f.svg)
    <img src="g.png" alt="another"> and
    <a name="here" href="h">i</a>

    | a |
    |---|
    | [x][1] |

    `[no](no)` [1]

    [1]: j
    """
    assert page(text).links == (
        Link(1, "c.md", "b"),
        Link(4, "d.md#e", "two three"),
        Link(4, "f.svg", "a **picture**", is_picture=True),
        Link(5, "g.png", "another", is_picture=True),
        Link(6, "h", ""),
        Link(10, "j", "x"),
        Link(12, "j", "1"),
    )
    assert page(text).anchors == {"a-b", "here"}


def test_what_is_a_comment_or_code_leads_nowhere():
    assert page("<!-- [a](b) <a href='c'> -->\n\n```html\n<img>\n```\n").links == ()
