"""Where the links of README and site lead, and what its pictures say."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest
from shared.pages import ROOT, Link, Page, all_pages

PAGES = {page.name: page for page in all_pages()}
SITE = {name: page for name, page in PAGES.items() if name.startswith("docs/")}

each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


OUTSIDE = re.compile(r"https://[\w.-]+\.\w+(/\S*)?")


def is_outside(link: Link) -> bool:
    return re.match(r"[a-z]+:", link.target) is not None


def end_of(page: Page, link: Link) -> tuple[Path, str]:
    """Give the file or folder that a link leads to, and the anchor there."""
    path, _, anchor = link.target.partition("#")
    here = ROOT / page.name
    return (here.parent / unquote(path)).resolve() if path else here, anchor


@each_page
def test_every_link_leads_to_what_is_there(page: Page) -> None:
    missing = [
        f"{page.name}:{link.line}: {link.target}"
        for link in page.links
        if not is_outside(link) and not end_of(page, link)[0].exists()
    ]
    assert not missing, "\n".join(missing)


@each_page
def test_every_anchor_is_on_the_page_that_it_is_of(page: Page) -> None:
    missing = []
    for link in page.links:
        path, anchor = end_of(page, link)
        if is_outside(link) or not anchor or not path.exists():
            continue
        name = path.relative_to(ROOT).as_posix()
        if name not in PAGES or anchor not in PAGES[name].anchors:
            missing.append(f"{page.name}:{link.line}: {link.target}")
    assert not missing, "\n".join(missing)


@each_page
def test_a_link_that_leaves_is_secure_and_whole(page: Page) -> None:
    odd = [
        f"{page.name}:{link.line}: {link.target}"
        for link in page.links
        if is_outside(link) and not OUTSIDE.fullmatch(link.target)
    ]
    assert not odd, "\n".join(odd)


@each_page
def test_every_picture_has_an_alternative_text(page: Page) -> None:
    mute = [
        f"{page.name}:{link.line}: {link.target}"
        for link in page.links
        if link.is_picture and len(link.text.split()) < 2
    ]
    assert not mute, "\n".join(mute)


@each_page
def test_the_site_gives_headings_the_anchors_of_github(page: Page) -> None:
    slugs = pytest.importorskip("myst_parser.slugs")
    known: list[str] = []
    for heading in page.headings:
        known.append(slugs.unique_slug(slugs.github_slugify(heading.title), known))
    assert known == [heading.anchor for heading in page.headings]


@each_page
def test_a_page_has_one_title_and_skips_no_level(page: Page) -> None:
    levels = [heading.level for heading in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))


@each_page
def test_no_heading_is_too_deep_to_have_an_anchor(page: Page) -> None:
    assert max(heading.level for heading in page.headings) <= 4


def test_every_page_is_reached_from_the_first() -> None:
    seen: set[str] = set()
    todo = ["docs/index.md"]
    while todo:
        name = todo.pop()
        if name in SITE and name not in seen:
            seen.add(name)
            page = SITE[name]
            for link in page.links:
                if not is_outside(link):
                    path = end_of(page, link)[0]
                    todo.append(path.relative_to(ROOT).as_posix())
    assert sorted(SITE.keys() - seen) == []


@pytest.mark.parametrize("name", [name for name in SITE if name.endswith("/index.md")])
def test_an_index_links_to_all_beside_it(name: str) -> None:
    page, folder = SITE[name], PurePosixPath(name).parent
    linked = [
        end_of(page, link)[0].relative_to(ROOT).as_posix()
        for link in page.links
        if not is_outside(link)
    ]
    beside = {it for it in SITE if PurePosixPath(it).parent == folder} - {name}
    below = {it for it in SITE if PurePosixPath(it).parent.parent == folder}
    beside |= {it for it in below if it.endswith("/index.md")}
    assert sorted(beside - {*linked}) == []


def test_no_picture_is_left_over() -> None:
    shown = {
        end_of(page, link)[0]
        for page in PAGES.values()
        for link in page.links
        if link.is_picture and not is_outside(link)
    }
    kept = [*(ROOT / "docs" / "pictures").glob("*.*")]
    kept += [*(ROOT / "examples").glob("*.svg"), *(ROOT / "examples").glob("*.png")]
    assert sorted(path.name for path in {*kept} - shown) == []


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert 150 <= PAGES["README.md"].text.count("\n") <= 250


SOUGHT = ["deadline", "maximum wait", "resume", "redrive", "FAQ", "mypy", "timeout"]
SOUGHT += ["cancel", "cron", "idempotency"]


@pytest.mark.parametrize("words", SOUGHT)
def test_what_people_search_for_is_on_the_site(words: str) -> None:
    found = [name for name, page in SITE.items() if words in page.text]
    assert len(found) > 1
