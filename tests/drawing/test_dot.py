from __future__ import annotations

import html
import logging
import os
import re
import sys
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydot
import pytest

from stepfunction import DefinitionError, DrawingError, StepFunction

HOSTILE_NAMES = [
    "node",
    "edge",
    "graph",
    "digraph",
    "subgraph",
    "strict",
    "cluster_s1",
    "s0",
    "a:b",
    "a:b:c",
    "a b",
    "a;b",
    "a->b",
    "a{b}",
    "{a|b}",
    "[label=x]",
    "a,b=c",
    'say "hello"',
    '"',
    '\\"',
    "\\",
    "trailing\\",
    "trailing\\\\",
    "back\\slash",
    "\\N",
    "\\G \\L \\T",
    "\\n",
    "left\\l right\\r",
    "&",
    "a & b",
    "&lt;",
    "&amp;amp;",
    "&#65;",
    "<b>x</b>",
    "<",
    "<>",
    "]]>",
    "<!-- -->",
    "<![CDATA[x]]>",
    "// comment",
    "/* comment */",
    "# hash",
    "%s {} ${x}",
    "007",
    "-1.5",
    "3.",
    "true",
    "two\nlines",
    "Größe",
    "Москва",
    "ไทย",
    "漢字",
    "שלום",
    "e\u0301",
    "🚗",
    "👩\u200d🔧",
    "'single'",
    "`tick`",
    "long " * 400 + "end",
]
# Characters that no picture can show: what is drawn in their place is our affair.
UNSHOWABLE = ["\0", "\x07", "\x1b[31m", "\x7f", "\x85", "\ud800", "\ufffe", "\uffff"]


def step(value=None):
    return value


def chain(*names: str, title: str = "Workflow") -> StepFunction:
    workflow = StepFunction(title)
    for name, follower in zip(names, [*names[1:], None]):
        workflow.add_step(name, step, follower)
    return workflow.set_start_step(names[0])


# --- reading drawings back --------------------------------------------------------


def shown(dot_string: str | None) -> str:
    """Give what Graphviz shows for a DOT string."""
    if dot_string is None:
        return ""
    if not dot_string.startswith('"'):
        return dot_string
    escapes = {"n": "\n", "\\": "\\", '"': '"'}
    plain = re.sub(
        r"\\(.)", lambda found: escapes[found[1]], dot_string[1:-1], flags=re.DOTALL
    )
    return html.unescape(plain)


class Picture:
    """A drawing as pydot reads it back from the DOT text."""

    def __init__(self, workflow: StepFunction) -> None:
        with warnings.catch_warnings():  # pydot's parser uses old names of pyparsing's
            warnings.simplefilter("ignore", DeprecationWarning)
            (self.graph,) = pydot.graph_from_dot_data(workflow.to_dot())
        self.nodes = {
            node.get_name(): node
            for container in (self.graph, *clusters_in(self.graph))
            for node in container.get_nodes()
            if node.get_name() not in ("node", "edge", "graph", '"\\n"')
        }
        self.clusters = {
            cluster.get_name(): cluster for cluster in clusters_in(self.graph)
        }
        self.edges = [
            edge
            for container in (self.graph, *clusters_in(self.graph))
            for edge in container.get_edges()
        ]

    def labels(self) -> list[str]:
        return [shown(node.get_label()) for node in self.nodes.values()]

    def node(self, label: str) -> pydot.Node:
        (node,) = (n for n in self.nodes.values() if shown(n.get_label()) == label)
        return node

    def cluster(self, label: str) -> pydot.Cluster:
        (found,) = (c for c in self.clusters.values() if shown(c.get_label()) == label)
        return found

    def inside(self, label: str) -> list[str]:
        """Give the labels of a cluster's own nodes."""
        return [shown(node.get_label()) for node in self.cluster(label).get_nodes()]

    def arrows(self, *styles: str) -> set[tuple[str, str, str]]:
        """Give where arrows come from, what they say and where they lead."""
        return {
            (self._end(edge, 0), shown(edge.get_label()).strip(), self._end(edge, 1))
            for edge in self.edges
            if not styles or edge.get_style() in styles
        }

    def _end(self, edge: pydot.Edge, side: int) -> str:
        cluster = (edge.get_ltail, edge.get_lhead)[side]()
        if cluster is not None:
            return shown(self.clusters[cluster.strip('"')].get_label())
        node = (edge.get_source, edge.get_destination)[side]()
        return shown(self.nodes[node].get_label())


def clusters_in(container: pydot.Graph) -> Iterator[pydot.Graph]:
    for cluster in container.get_subgraphs():
        yield cluster
        yield from clusters_in(cluster)


def svg_texts(path: str | Path) -> list[str]:
    """Give every line of text that an SVG file draws."""
    root = ElementTree.parse(path).getroot()
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()).replace("\xa0", " ") for text in texts]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_dot(monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def no_graphviz(no_dot, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


@pytest.fixture
def dot_program(folder, monkeypatch):
    """Put a program called dot on PATH, and nothing else."""

    def make(script: str) -> None:
        programs = folder / "programs"
        programs.mkdir()
        program = programs / "dot"
        program.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))

    return make


# --- where the picture goes -------------------------------------------------------

BEGINNINGS = {
    "svg": b"<?xml",
    "png": b"\x89PNG\r\n\x1a\n",
    "pdf": b"%PDF-",
    "dot": b"digraph",
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_suffix_of_the_path_chooses_the_format(kind):
    path = chain("A").visualize(f"picture.{kind}")
    assert Path(path).read_bytes().startswith(BEGINNINGS[kind])


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_format_argument_chooses_the_format(kind):
    path = chain("A", title="Named").visualize(format=kind)
    assert path == f"Named.{kind}"
    assert Path(path).read_bytes().startswith(BEGINNINGS[kind])


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_the_format_argument_counts_more_than_the_suffix(kind):
    path = chain("A").visualize("picture.txt", format=kind)
    assert Path(path).read_bytes().startswith(BEGINNINGS[kind])


def test_a_suffix_may_be_in_capitals():
    path = chain("A").visualize("A.PNG")
    assert Path(path).read_bytes().startswith(BEGINNINGS["png"])


def test_the_default_is_an_svg_named_for_the_workflow(folder):
    assert chain("A", title="Checkout").visualize() == "Checkout.svg"
    assert (folder / "Checkout.svg").read_bytes().startswith(BEGINNINGS["svg"])


def test_a_path_without_suffix_is_written_as_svg():
    assert Path(chain("A").visualize("picture")).read_bytes().startswith(b"<?xml")


def test_visualize_gives_the_path_that_it_was_given(folder):
    assert chain("A").visualize(folder / "a.dot") == str(folder / "a.dot")


def test_a_picture_replaces_an_older_one():
    Path("a.dot").write_text("older", encoding="utf-8")
    chain("A").visualize("a.dot")
    assert Path("a.dot").read_text(encoding="utf-8").startswith("digraph")


@pytest.mark.parametrize(
    "title, file_name",
    [
        ("Car purchase", "Car_purchase.dot"),
        ("a/b\\c", "a_b_c.dot"),
        ("../../etc/passwd", "etc_passwd.dot"),
        ("/absolute", "absolute.dot"),
        (".hidden", "hidden.dot"),
        ("..", "workflow.dot"),
        ("???", "workflow.dot"),
        ("a:b*c?<d>|e", "a_b_c_d_e.dot"),
        ("nul\0and\nnewline", "nul_and_newline.dot"),
        ("v1.2-final", "v1.2-final.dot"),
        ("Größe 漢字", "Größe_漢字.dot"),
        ("🚗", "workflow.dot"),
    ],
)
def test_the_default_file_name_is_safe(folder, title, file_name):
    assert chain("A", title=title).visualize(format="dot") == file_name
    assert os.listdir(folder) == [file_name]


@pytest.mark.parametrize("title", ["x" * 5_000, "漢" * 5_000])
def test_a_long_name_gives_a_file_name_that_the_file_system_takes(title):
    path = chain("A", title=title).visualize(format="dot")
    assert Path(path).exists() and path.startswith(title[:20])


def test_the_dot_file_is_what_to_dot_gives():
    workflow = chain("Größe", "🚗")
    workflow.visualize("a.dot")
    assert Path("a.dot").read_text(encoding="utf-8") == workflow.to_dot()


def test_drawing_twice_gives_the_same_text():
    workflow = chain("A", "B")
    assert workflow.to_dot() == workflow.to_dot()


def test_an_unsound_workflow_is_not_drawn(folder):
    workflow = StepFunction("W").add_step("A", step, "Nowhere").set_start_step("A")
    with pytest.raises(DefinitionError):
        workflow.visualize("a.svg")
    with pytest.raises(DefinitionError):
        workflow.to_dot()
    assert os.listdir(folder) == []


def test_drawing_prints_nothing(capfd):
    chain("A").visualize("a.svg")
    assert capfd.readouterr().out == ""


# --- Graphviz ---------------------------------------------------------------------


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("kind", BEGINNINGS)
def test_without_dot_on_path_pygraphviz_draws(kind):
    path = chain("A").visualize(format=kind)
    assert Path(path).read_bytes().startswith(BEGINNINGS[kind])


@pytest.mark.usefixtures("no_graphviz")
def test_without_graphviz_the_default_is_dot_text(folder):
    assert chain("A", title="Checkout").visualize() == "Checkout.dot"
    assert os.listdir(folder) == ["Checkout.dot"]


@pytest.mark.usefixtures("no_graphviz")
def test_without_graphviz_the_default_says_so_in_one_log_line(caplog):
    with caplog.at_level(logging.DEBUG, "stepfunction"):
        chain("A", title="Checkout").visualize()
    assert caplog.messages == [
        "no Graphviz found, so the drawing of 'Checkout' is written as DOT; "
        "install Graphviz, or the Python package pygraphviz, for SVG"
    ]


def test_with_graphviz_nothing_is_logged_but_what_it_said(caplog):
    with caplog.at_level(logging.DEBUG, "stepfunction"):
        chain("A").visualize()
    own = [it for it in caplog.messages if not it.startswith("Graphviz said: ")]
    assert own == []


WARNS = """
import sys
sys.stderr.write("Fontconfig warning: no fonts here\\n")
sys.stdout.write("drawn")
"""


def test_what_dot_warns_of_is_logged(dot_program, caplog, capfd):
    dot_program(WARNS)
    assert Path(chain("A").visualize("a.svg")).read_bytes() == b"drawn"
    assert caplog.messages == ["Graphviz said: Fontconfig warning: no fonts here"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_dot")
def test_what_the_library_of_graphviz_warns_of_is_logged(
    folder, monkeypatch, caplog, capfd
):
    config = folder / "fonts.conf"
    config.write_text("<fontconfig><nonsense/></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(config))
    assert chain("A")._repr_svg_().startswith("<svg")
    assert 'unknown element "nonsense"' in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("program", ["", "/nowhere/python", "/bin/false"])
def test_where_no_python_can_be_started_pygraphviz_draws_in_this_process(
    monkeypatch, program
):
    monkeypatch.setattr(sys, "executable", program)
    assert Path(chain("A").visualize("a.png")).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("no_graphviz")
@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
@pytest.mark.parametrize("by", ["path", "format"])
def test_without_graphviz_an_asked_for_format_is_an_error(folder, kind, by):
    chosen = {"path": f"a.{kind}"} if by == "path" else {"format": kind}
    with pytest.raises(DrawingError) as caught:
        chain("A").visualize(**chosen)
    assert str(caught.value) == (
        f"drawing {kind.upper()} needs Graphviz, and there is none: "
        "'pip install pygraphviz' brings it along, or install your system's "
        "graphviz; format='dot' needs neither"
    )
    assert os.listdir(folder) == []


@pytest.mark.usefixtures("no_graphviz")
@pytest.mark.parametrize("chosen", [{"path": "a.dot"}, {"format": "dot"}])
def test_dot_text_needs_no_graphviz(chosen, caplog):
    path = chain("A").visualize(**chosen)
    assert Path(path).read_text(encoding="utf-8").startswith("digraph")
    assert caplog.messages == []


@pytest.mark.parametrize(
    "chosen, text",
    [
        ({"format": "sgv"}, "cannot draw 'sgv' (did you mean 'svg'?)"),
        ({"format": "pngg"}, "cannot draw 'pngg' (did you mean 'png'?)"),
        ({"path": "a.pfd"}, "cannot draw 'pfd' (did you mean 'pdf'?)"),
        ({"path": "a.xlsx"}, "cannot draw 'xlsx'"),
    ],
)
def test_an_unknown_format_is_an_error_that_names_the_known_ones(folder, chosen, text):
    with pytest.raises(DrawingError) as caught:
        chain("A").visualize(**chosen)
    assert str(caught.value) == f"{text}; the formats are svg, png, pdf, dot"
    assert os.listdir(folder) == []


RECORDS_ITS_CALL = """
import sys, pathlib
home = pathlib.Path(__file__).parent
(home / "given.dot").write_bytes(sys.stdin.buffer.read())
(home / "arguments").write_text(" ".join(sys.argv[1:]))
sys.stdout.buffer.write(b"drawn by the program \\xff")
"""


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_dot_on_path_is_preferred(dot_program, kind):
    dot_program(RECORDS_ITS_CALL)
    path = chain("A").visualize(format=kind)
    assert Path(path).read_bytes() == b"drawn by the program \xff"
    assert Path("programs/arguments").read_text() == f"-T{kind}"


def test_dot_on_path_is_given_the_whole_drawing(dot_program):
    dot_program(RECORDS_ITS_CALL)
    workflow = chain("Größe", "🚗", title="漢字")
    workflow.visualize("a.svg")
    assert Path("programs/given.dot").read_text(encoding="utf-8") == workflow.to_dot()


def test_dot_on_path_does_without_pygraphviz(dot_program, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    dot_program(RECORDS_ITS_CALL)
    assert Path(chain("A").visualize()).read_bytes() == b"drawn by the program \xff"


def test_dot_on_path_is_not_asked_for_dot_text(dot_program):
    dot_program("raise SystemExit(1)")
    path = chain("A").visualize(format="dot")
    assert Path(path).read_text(encoding="utf-8").startswith("digraph")


FAILS = "import sys; sys.exit('Format: \"png\" not recognized')"


def test_a_dot_that_fails_is_a_drawing_error_with_its_reason(dot_program, folder):
    dot_program(FAILS)
    with pytest.raises(DrawingError, match="(?s)could not draw png.*not recognized"):
        chain("A").visualize("a.png")
    assert not (folder / "a.png").exists()


def test_a_dot_that_fails_makes_nobody_print(dot_program, capfd):
    dot_program(FAILS)
    with pytest.raises(DrawingError):
        chain("A").visualize("a.png")
    assert capfd.readouterr() == ("", "")


def test_a_dot_that_cannot_be_started_is_a_drawing_error(dot_program, folder):
    dot_program("")
    program = folder / "programs" / "dot"
    program.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    with pytest.raises(DrawingError, match="dot cannot be run: .*No such file"):
        chain("A").visualize("a.svg")


# --- names ------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_is_read_back_as_a_label_wherever_it_stands(name):
    workflow = StepFunction(name)
    workflow.add_step("Start", step, branch={name: "Tasks"}, next_step="Nested")
    workflow.add_step("Tasks", {name: step}, parallel=True)
    workflow.add_step("Nested", chain(name, title=name), name)
    workflow.add_step(name, step).set_start_step("Start")
    picture = Picture(workflow)
    assert shown(picture.graph.get_label()) == name
    assert sorted(picture.labels()) == sorted(["", "", "Start", name, name, name])
    assert picture.inside("Tasks") == picture.inside(f"Nested: {name}") == [name]
    assert picture.arrows() == {
        ("", "", "Start"),
        ("Start", name.strip(), "Tasks"),
        ("Start", "otherwise", f"Nested: {name}"),
        (f"Nested: {name}", "", name),
        ("Tasks", "", ""),
    }


def test_any_name_is_drawn_as_text_in_the_svg():
    path = chain(*HOSTILE_NAMES, title="<&\\N>").visualize("a.svg")
    lines = [line for name in HOSTILE_NAMES for line in name.split("\n")]
    assert sorted(svg_texts(path)) == sorted(["<&\\N>", *lines])


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_any_name_can_be_drawn_in_every_format(kind):
    path = chain(*HOSTILE_NAMES[:-1], *UNSHOWABLE).visualize(format=kind)
    assert Path(path).read_bytes().startswith(BEGINNINGS[kind])


@pytest.mark.parametrize("character", UNSHOWABLE)
def test_a_character_that_no_picture_shows_spoils_no_other(character):
    (drawn,) = set(
        svg_texts(chain(f"be{character}fore", title="W").visualize("a.svg"))
    ) - {"W"}
    assert re.fullmatch(r"be.*fore", drawn)
    assert character not in drawn


@pytest.mark.parametrize("space", ["\t", "\u3000", "\u2003", "\u202f", "\xa0"])
def test_spaces_of_all_kinds_are_drawn_as_spaces(space):
    drawn = svg_texts(chain(f"a{space}b", title="W").visualize("a.svg"))
    assert any(re.fullmatch(r"a\s+b", text) for text in drawn), drawn


def test_no_name_becomes_the_name_of_a_node():
    picture = Picture(chain(*HOSTILE_NAMES))
    assert all(re.fullmatch(r"s\d+", name) for name in picture.nodes)


# --- what is drawn ----------------------------------------------------------------


def test_the_start_is_marked_by_a_circle_that_leads_to_the_first_step():
    workflow = StepFunction("W").add_step("B", step).add_step("A", step, "B")
    picture = Picture(workflow.set_start_step("A"))
    start = picture.node("")
    assert start.get_shape() == "circle"
    assert picture.arrows() == {("", "", "A"), ("A", "", "B")}


def test_last_steps_have_a_double_border():
    picture = Picture(chain("A", "B"))
    assert picture.node("A").get_peripheries() is None
    assert picture.node("B").get_peripheries() == "2"


def branching() -> StepFunction:
    workflow = StepFunction("Branching")
    workflow.add_step(
        "Check",
        step,
        branch={"valid": "Yes", 404: "No", None: "No", True: "Yes"},
        next_step="Other",
        on_failure={KeyError: "Look_Up", Exception: "Apologise"},
    )
    for name in ("Yes", "No", "Other", "Apologise"):
        workflow.add_step(name, step)
    workflow.add_step("Look_Up", step, "Apologise")
    return workflow.set_start_step("Check")


def test_branches_are_labelled_with_their_results():
    arrows = Picture(branching()).arrows()
    assert {arrow for arrow in arrows if arrow[2] in ("Yes", "No", "Other")} == {
        ("Check", "valid", "Yes"),
        ("Check", "404", "No"),
        ("Check", "None", "No"),
        ("Check", "True", "Yes"),
        ("Check", "otherwise", "Other"),
    }


def test_a_branch_by_a_callable_leads_to_each_of_its_targets():
    workflow = StepFunction("W")
    workflow.add_step("Check", step, branch=str, branch_targets=["A", "B"])
    workflow.add_step("A", step).add_step("B", step).set_start_step("Check")
    assert Picture(workflow).arrows() == {
        ("", "", "Check"),
        ("Check", "", "A"),
        ("Check", "", "B"),
    }


def test_an_empty_result_has_a_label_too():
    workflow = StepFunction("W").add_step("Check", step, branch={"": "A"})
    picture = Picture(workflow.add_step("A", step).set_start_step("Check"))
    assert ("Check", "''", "A") in picture.arrows()


def test_failure_arrows_are_dashed_and_no_others():
    assert Picture(branching()).arrows("dashed") == {
        ("Check", "KeyError", "Look_Up"),
        ("Check", "Exception", "Apologise"),
    }


def test_an_arrow_for_every_failure_has_no_label():
    workflow = StepFunction("W").add_step("A", step, on_failure="B")
    picture = Picture(workflow.add_step("B", step).set_start_step("A"))
    assert picture.arrows("dashed") == {("A", "", "B")}


def test_failure_steps_are_octagons_and_no_others():
    picture = Picture(branching())
    octagons = {
        shown(node.get_label())
        for node in picture.nodes.values()
        if node.get_shape() == "octagon"
    }
    assert octagons == {"Look_Up", "Apologise"}


def test_a_step_on_the_main_path_that_takes_failures_too_is_no_failure_step():
    workflow = StepFunction("W").add_step("A", step, "B", on_failure="B")
    picture = Picture(workflow.add_step("B", step).set_start_step("A"))
    assert picture.node("B").get_shape() is None


def parallel() -> StepFunction:
    workflow = StepFunction("Parallel")
    workflow.add_step("Before", step, "Update", on_failure="Apologise")
    tasks = {"shipping": step, "payment": step, "inventory": step}
    workflow.add_step("Update", tasks, "After", "Apologise", parallel=True)
    workflow.add_step("After", step).add_step("Apologise", step)
    return workflow.set_start_step("Before")


def test_a_parallel_step_is_a_cluster_of_its_tasks():
    assert Picture(parallel()).inside("Update") == ["shipping", "payment", "inventory"]


def test_arrows_touch_a_parallel_step_at_its_border():
    assert Picture(parallel()).arrows() == {
        ("", "", "Before"),
        ("Before", "", "Update"),
        ("Update", "", "After"),
        ("Before", "", "Apologise"),
        ("Update", "", "Apologise"),
    }


def test_a_parallel_first_step_is_led_to_from_the_start():
    workflow = StepFunction("W").add_step("All", {"a": step}, parallel=True)
    assert Picture(workflow.set_start_step("All")).arrows() == {
        ("", "", "All"),
        ("All", "", ""),  # a box has no double border: it leads to a mark
    }


def nested() -> StepFunction:
    inner, again = (chain("Reserve", "Charge", title="Payment") for _ in range(2))
    workflow = StepFunction("Nested")
    workflow.add_sub_step_function("Pay", inner, "Send", "Apologise")
    workflow.add_step("Send", {"mail": step, "again": again}, parallel=True)
    workflow.add_step("Apologise", step)
    return workflow.set_start_step("Pay")


def test_a_nested_workflow_is_a_cluster_of_its_steps():
    assert Picture(nested()).inside("Pay: Payment") == ["Reserve", "Charge"]


def test_a_nested_workflow_named_as_its_step_is_named_once():
    workflow = StepFunction("W").add_step("Pay", chain("A", title="Pay"))
    assert Picture(workflow.set_start_step("Pay")).inside("Pay") == ["A"]


def test_arrows_touch_a_nested_workflow_at_its_border():
    assert Picture(nested()).arrows() == {
        ("", "", "Pay: Payment"),
        ("Reserve", "", "Charge"),
        ("Pay: Payment", "", "Send"),
        ("Pay: Payment", "", "Apologise"),
        ("Send", "", ""),
    }


def test_a_nested_workflow_as_a_task_is_a_cluster_in_a_cluster():
    picture = Picture(nested())
    (task,) = picture.cluster("Send").get_subgraphs()
    assert shown(task.get_label()) == "again: Payment"
    assert [shown(node.get_label()) for node in task.get_nodes()] == [
        "Reserve",
        "Charge",
    ]


def test_workflows_nested_several_deep_are_drawn_whole():
    workflow = chain("Deepest", title="W0")
    for depth in range(1, 5):
        workflow = StepFunction(f"W{depth}").add_step("Next", workflow)
        workflow.set_start_step("Next")
    picture = Picture(workflow)
    assert [shown(c.get_label()) for c in clusters_in(picture.graph)] == [
        "Next: W3",
        "Next: W2",
        "Next: W1",
        "Next: W0",
    ]
    assert picture.inside("Next: W0") == ["Deepest"]


def test_a_parallel_failure_step_looks_unlike_one_of_the_main_path():
    workflow = StepFunction("W").add_step("A", {"a": step}, "B", "C", parallel=True)
    workflow.add_step("B", {"b": step}, parallel=True)
    workflow.add_step("C", {"c": step}, parallel=True).set_start_step("A")
    picture = Picture(workflow)
    assert picture.cluster("C").get("style") != picture.cluster("B").get("style")


def test_a_loop_is_drawn():
    workflow = StepFunction("Loop", max_steps=10)
    workflow.add_step("A", step, "B").add_step("B", step, branch={1: "A"})
    picture = Picture(workflow.set_start_step("A"))
    assert picture.arrows() == {("", "", "A"), ("A", "", "B"), ("B", "1", "A")}


@pytest.mark.parametrize("build", [branching, parallel, nested])
def test_the_svg_shows_every_label(build):
    workflow = build()
    picture = Picture(workflow)
    labels = [shown(cluster.get_label()) for cluster in picture.clusters.values()]
    labels += [label for _, label, _ in picture.arrows()] + picture.labels()
    drawn = [text.strip() for text in svg_texts(workflow.visualize("a.svg"))]
    assert sorted(drawn) == sorted([workflow.name, *filter(None, labels)])


@pytest.mark.parametrize("build", [branching, parallel, nested])
def test_the_svg_has_no_inline_styles_and_no_scripts(build):
    root = ElementTree.parse(build().visualize("a.svg")).getroot()
    for element in root.iter():
        assert "style" not in element.attrib
        assert not element.tag.endswith(("}style", "}script"))


@pytest.mark.usefixtures("no_dot")
def test_a_parallel_step_that_leads_back_to_itself_is_drawn_in_silence(capfd):
    workflow = StepFunction("Loop", max_steps=10)
    workflow.add_step("Poll", {"a": step, "b": step}, "Poll", parallel=True)
    path = workflow.set_start_step("Poll").visualize("a.svg")
    assert "a" in svg_texts(path)
    assert "cluster" not in capfd.readouterr().err


@pytest.mark.usefixtures("no_dot")
def test_no_two_threads_are_in_graphviz_at_once(monkeypatch):
    # Its library keeps global state: drawing at once gives wrong pictures or crashes.
    meeting, met = threading.Barrier(2), []

    class Layout:
        def __init__(self, **options):
            self.enter()

        def draw(self, **options):
            self.enter()
            return b"drawn"

        def enter(self):
            try:
                met.append(meeting.wait(timeout=0.3))
            except threading.BrokenBarrierError:
                pass  # nobody else came

        def close(self): ...

    monkeypatch.setattr("pygraphviz.AGraph", Layout)
    monkeypatch.setattr(sys, "executable", "")  # so that it draws in this process
    workflow = chain("A")
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(workflow.visualize, ["a.svg", "b.svg"]))
    assert [Path(path).read_bytes() for path in paths] == [b"drawn", b"drawn"]
    assert met == []
