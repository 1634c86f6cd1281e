"""How `make docs` builds the site of pages that are plain Markdown, and read well so.

What lies where is said once, in the index pages: their links, in their order, are the
toctrees.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx import addnodes
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import tables  # noqa: E402

import stepfunction  # noqa: E402

project = "stepfunction"
author = "The stepfunction developers"
copyright = author
language = "en"
version = release = stepfunction.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["pictures/README.md"]

# --- Markdown ---------------------------------------------------------------------

myst_heading_anchors = 4
myst_links_external_new_tab = False

# --- what it looks like -----------------------------------------------------------

html_theme = "furo"
html_title = f"stepfunction {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "friendly", "monokai"
# What is copied from a console is what is typed there.
copybutton_prompt_text = "$ "
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
copybutton_line_continuation_character = "\\"

# --- the reference ----------------------------------------------------------------

nitpicky = True
add_module_names = False
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]

PUBLIC = {
    name: home
    for home in (
        "stepfunction",
        "stepfunction.testing",
        "stepfunction.stores",
        "stepfunction.contrib.django",
    )
    for name in importlib.import_module(home).__all__
}
PUBLIC |= {"Tracing": "stepfunction.tracing", "RichProgress": "stepfunction.progress"}


# What nobody makes but the library, so that no signature is of use.
GIVEN = {"Context", "Event", "Execution", "Graph", "MapResults", "Mocks", "Step"}
GIVEN |= {"StepRecord", "TaskResults", "Attempt", "Omitted", "Recovered", "Mock"}
GIVEN |= {"StoredExecution", "SkippedWait", "SkippedWaits", "Mutation", "Unwatched"}
GIVEN |= {"Watch", "Status", "Outcome"}


# How defaults are shown that have no name outside.
DEFAULTS = {"_NONE_GIVEN": "…", "_NONE": "()", "NOTHING": "…", "...": "…"}
DEFAULTS |= {"MappingProxyType({})": "{}"}


def show_signature(
    app: Sphinx, what: str, name: str, found: Any, options: Any, args: str, back: str
) -> tuple[str | None, str | None]:
    if not args:
        return args, back
    if what == "exception" or (what == "class" and name.rpartition(".")[2] in GIVEN):
        return "", None
    for default, shown in DEFAULTS.items():
        args = args.replace(f"={default}", f"={shown}")
    return args, back


def skip_fields(
    app: Sphinx, what: str, name: str, found: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out fields of values, which the docstrings of their classes describe.

    What Python's own classes have, as an ``errno``, is left out too.
    """
    if getattr(getattr(found, "__objclass__", None), "__module__", "") == "builtins":
        return True
    text = getattr(found, "__doc__", None) or ""
    return True if text.startswith(("See the class.", "Alias for field ")) else None


FIELD = re.compile(r"^(    )(\w+)(: )")


def add_types(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """Say of what type the fields are that the docstring of a class describes."""
    if what != "class" or "Attributes:" not in lines:
        return
    types = {k: v for cls in reversed(found.__mro__) for k, v in fields_of(cls).items()}
    for number in range(lines.index("Attributes:") + 1, len(lines)):
        field = FIELD.match(lines[number])
        if field and field[2] in types:
            typed = f"{field[1]}{field[2]} ({types[field[2]]}){field[3]}"
            lines[number] = typed + lines[number][field.end() :]


def fields_of(cls: type) -> dict[str, str]:
    found = vars(cls).get("__annotations__", {}).items()
    return {name: getattr(kind, "__forward_arg__", kind) for name, kind in found}


CODE = re.compile(r"(?<!:)``([A-Za-z_.]+)(\(\))?``")


def link_names(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """Make links of the names in docstrings, which stand there as code."""
    cls = name if what in ("class", "exception") else name.rpartition(".")[0]

    def link(code: re.Match[str]) -> str:
        said, last = code[1] + (code[2] or ""), code[1].rpartition(".")[2]
        if last in PUBLIC and code[1] in (last, f"{PUBLIC[last]}.{last}"):
            path = f"{PUBLIC[last]}.{last}"
        elif f"{cls}.{code[1]}" in ENTRIES:
            path = f"{cls}.{code[1]}"
        else:
            return code[0]
        return code[0] if path == name else f":py:obj:`{said} <{path}>`"

    lines[:] = [CODE.sub(link, line) for line in lines]


def add_docstrings(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname.startswith("reference/"):
        source[0] = tables.with_docstrings(source[0], CLASSES)


CLASSES = tables.classes_apart()
ENTRIES = tables.entries()


# What is no class of its own: a table of the first page says what it is.
HOW_TO_READ = "how-to-read-signatures"
FIRST = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"^\| `(\w+)` \|", FIRST.partition("## How to")[2], re.M))


def lead_on(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Lead from the name of a class, wherever it is defined, to its page.

    What is not ours is shown without a link: a build needs no network.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    name = target.rpartition(".")[2]
    home = PUBLIC.get(name)
    if home and (target == name or target.startswith("stepfunction.")):
        domain = env.get_domain("py")
        found = f"{home}.{name}"
        if found in domain.objects and found != target:
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", found, node, content
            )
    if name in WORDS:
        page = app.builder.get_relative_uri(node["refdoc"], "reference/index")
        return nodes.reference("", "", content, refuri=f"{page}#{HOW_TO_READ}")
    # The types of the engine have no page either.
    is_public = target.rpartition(".")[0] in {*PUBLIC.values(), *CLASSES}
    return None if is_public else content


def show_parameters(app: Sphinx, doctree: nodes.document) -> None:
    """Show ``Callable[[_P], _T]`` as it is written; Sphinx leaves a ``~`` in it."""
    for text in list(doctree.findall(nodes.Text)):
        if "[~_" in text:
            text.parent.replace(text, nodes.Text(text.replace("[~_", "[_")))


# --- toctrees, from the links of the index pages ----------------------------------

LINK = re.compile(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)")


def pages_of(folder: Path, text: str) -> list[str]:
    """Give the pages below an index in the order of its links, then all others."""
    linked = [(folder / it).resolve() for it in LINK.findall(text)]
    here = {it for it in folder.glob("*.md") if it.name != "index.md"}
    for below in sorted(it for it in folder.iterdir() if it.is_dir()):
        index = below / "index.md"
        here |= {index} if index.exists() else {*below.glob("*.md")}
    excluded = {DOCS / it for it in exclude_patterns}
    first = [it for it in dict.fromkeys(linked) if it in here]
    rest = sorted(here - {*first} - excluded)
    return [it.relative_to(folder).with_suffix("").as_posix() for it in first + rest]


def add_toctree(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname.rpartition("/")[2] == "index":
        folder = (DOCS / docname).parent
        pages = "\n".join(pages_of(folder, source[0]))
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


# --- links that leave the site for the repository ---------------------------------


def stay_on_the_site(app: Sphinx, doctree: nodes.document) -> None:
    """Lead from the README's name to the first page, and give other files along.

    A folder of the repository has nothing here that one could be led to.
    """
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link.get("reftype") != "myst":
            continue
        target = link["reftarget"]
        if link["refdomain"] is None:
            if ((DOCS / link["refdoc"]).parent / target).is_dir():
                link.replace_self(link.children)
        elif target == str(ROOT / "README"):
            link["reftarget"], link["reftargetid"] = "index", None
        elif Path(target).is_absolute():
            path = os.path.relpath(f"{target}.md", (DOCS / link["refdoc"]).parent)
            given = addnodes.download_reference(
                "",
                "",
                *link.children,
                refdomain=None,
                reftarget=path,
                refdoc=link["refdoc"],
                reftype="myst",
                refexplicit=True,
            )
            link.replace_self(given)


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", lead_on)
    app.connect("source-read", add_toctree)
    app.connect("source-read", add_docstrings)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", add_types, priority=400)
    app.connect("autodoc-process-docstring", link_names, priority=600)
    app.connect("doctree-read", stay_on_the_site, priority=400)
    app.connect("doctree-read", show_parameters)
    app.add_lexer("mermaid", TextLexer)
