from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
SNIPPET = re.compile(
    r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TEXT = README.read_text(encoding="utf-8")
SNIPPETS = [(match["code"], match["output"]) for match in SNIPPET.finditer(TEXT)]


def test_every_python_snippet_of_the_readme_is_followed_by_its_output() -> None:
    assert TEXT.count("```python\n") == len(SNIPPETS) > 0


@pytest.mark.parametrize(
    ("code", "output"),
    SNIPPETS,
    ids=[f"snippet-{number}" for number in range(len(SNIPPETS))],
)
def test_the_readme_shows_what_its_snippets_print(
    code: str, output: str, tmp_path: Path
) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(code, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (run.stdout, run.stderr, run.returncode) == (output, "", 0)


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEXT)
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
