from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "docs" / "durable.md")
}
SNIPPET = re.compile(
    r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SNIPPETS = [
    pytest.param(match["code"], match["output"], id=f"{name}-{number}")
    for name, text in PAGES.items()
    for number, match in enumerate(SNIPPET.finditer(text))
]


def test_every_python_snippet_of_the_pages_is_followed_by_its_output() -> None:
    count = sum(text.count("```python\n") for text in PAGES.values())
    assert count == len(SNIPPETS) > 0


@pytest.mark.parametrize(("code", "output"), SNIPPETS)
def test_the_pages_show_what_their_snippets_print(
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
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", PAGES["README.md"])
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
