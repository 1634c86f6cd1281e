"""The recipes show examples whole, as they are."""

from __future__ import annotations

import pytest
from shared.pages import ROOT, Page

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_an_example_that_there_is(path):
    files = Page.read(path).files
    assert bool(files) == (path.stem != "index")
    for name, text in files.items():
        assert text == (ROOT / "examples" / name).read_text(encoding="utf-8")
