"""The pictures of README and site are those that their script makes."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from shared.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import pictures  # noqa: E402

KEPT = {
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT / "docs" / "pictures", ROOT / "examples")
    for path in folder.iterdir()
    if path.suffix in (".svg", ".png")
}
DRAWN = sorted(name for name in KEPT if name.endswith(".svg"))


def drawn(path: Path) -> tuple[list[str], Counter[tuple[str, ...]]]:
    """Give what a picture says, and of which parts it is: no times, and no places.

    Where all stands is for Graphviz to say, whose versions differ.
    """
    texts: list[str] = []
    parts: Counter[tuple[str, ...]] = Counter()
    for element in ElementTree.parse(path).iter():
        facts = [element.get(name, "") for name in ("fill", "stroke", "class")]
        parts[(element.tag.partition("}")[2], *facts)] += 1
        if element.text and element.text.strip():
            texts.append(re.sub(r"[\d.]+ [nmµ]?s\b", "5 ms", element.text.strip()))
    return sorted(texts), parts


def test_every_picture_is_made_by_the_script() -> None:
    assert KEPT == set(pictures.PICTURES)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_as_the_script_makes_it(name: str, tmp_path: Path) -> None:
    pictures.make([name], tmp_path)
    assert drawn(ROOT / name) == drawn(tmp_path / name), "make pictures makes it anew"


def test_the_report_is_shown_whole() -> None:
    head = (ROOT / pictures.REPORT).read_bytes()[:24]
    width, height = (int.from_bytes(head[it : it + 4], "big") for it in (16, 20))
    size = next(it for it in pictures.AS_A_BROWSER_SHOWS_IT if "size" in it)
    assert size.endswith(f"={width},{height}")


CODE = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "stepfunction").rglob("*.py")
}
LABELS = re.sub(r"\\.", " ", pictures.HOW_A_VALUE_TRAVELS)
NAMED = sorted(set(re.findall(r"\b([A-Za-z_]+)\.(\w+)", LABELS)))


@pytest.mark.parametrize(("home", "name"), NAMED)
def test_what_is_named_in_how_it_works_is_there(home: str, name: str) -> None:
    """Is there a function of a module, or a method of a class, of that name?"""
    found = [
        path
        for path, code in CODE.items()
        if path.stem == home or re.search(rf"^class {home}\b", code, re.M)
    ]
    # What a class does not say itself one that it is made of says.
    codes = CODE.values() if home[0].isupper() else map(CODE.__getitem__, found)
    assert found
    assert any(re.search(rf"def {name}\b", code) for code in codes)


def test_what_the_page_of_how_it_works_names_is_there() -> None:
    page = ROOT / "docs" / "explanation" / "how_it_works.md"
    more = [*(ROOT / "tests").rglob("*.py"), ROOT / "Makefile", ROOT / "setup.cfg"]
    words = set()
    for text in (*CODE.values(), *(path.read_text(encoding="utf-8") for path in more)):
        words |= set(re.findall(r"\w+", text))
    named = re.findall(r"`([\w./]+)(?:\(\))?`", page.read_text(encoding="utf-8"))
    lasting = {re.split(r"[./]", it.strip("/"))[-1] for it in named}
    assert sorted(lasting - words - {""}) == []
