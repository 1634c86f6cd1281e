from __future__ import annotations

import codecs
import html
import io
import json
import pickle
import re
import sys
import tempfile
import time
from html.parser import HTMLParser

import pytest
from shared.pictures import giving, read_back

from stepfunction import DrawingError, Execution, StepFunction, StepFunctionError
from stepfunction.drawing import dot

ATTACK = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    VOID = ("meta", "input", "br", "rect", "polygon", "ellipse", "path", "polyline")

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.scripts, self.texts = [], [], 0, {}
        self.around = []
        self.feed(path if isinstance(path, str) else path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.around.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while tag not in self.VOID and self.around.pop()[0] != tag:
            pass

    def handle_data(self, data):
        self.words.append(data)
        for tag, attributes in self.around:
            if tag == "details":
                number = attributes["id"]
                self.texts[number] = self.texts.get(number, "") + data

    @property
    def rows(self):
        return {it["data-name"]: it for tag, it in self.tags if tag == "details"}

    def row_text(self, name):
        return self.texts[self.rows[name]["id"]]

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def fail(order):
    raise ValueError(f"no stock for {order}")


def shop():
    inner = StepFunction("Inner").add_step("Find", fail).set_start_step("Find")
    workflow = StepFunction("Shop")
    workflow.add_step("Parse", json.loads, "Update")
    tasks = {"count": len, "stock": inner}
    workflow.add_step(
        "Update", tasks, parallel=True, stop_on_failure=True, executor="inline"
    )
    return workflow.set_start_step("Parse")


def ended(workflow, value=None):
    try:
        return workflow.execute(value)
    except StepFunctionError as error:
        return error.execution


@pytest.fixture
def page(tmp_path):
    def write(execution, **options):
        path = tmp_path / "run.html"
        assert execution.report(path, **options) == str(path)
        return Page(path)

    return write


def test_the_report_goes_by_the_name_of_the_workflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execution = ended(StepFunction("A/B").add_step("A", int).set_start_step("A"))
    assert execution.report() == "A_B.html"
    assert (tmp_path / "A_B.html").is_file()


def test_every_step_and_task_has_a_row_however_deep_it_is_nested(page):
    rows = page(ended(shop(), '["a"]')).rows
    assert list(rows) == [
        "parse",
        "update",
        "update / count",
        "update / stock",
        "update / stock / find",
    ]


def test_a_row_tells_the_input_and_the_output(page):
    text = page(giving({"total": 99}).execute("the order")).row_text("give")
    assert "'the order'" in text
    assert "{'total': 99}" in text


def test_the_row_of_a_failed_step_tells_the_error_and_its_traceback(page):
    text = page(ended(shop(), '["a"]')).row_text("update / stock / find")
    assert "ValueError: no stock for ['a']" in text
    assert "in fail" in text


def test_only_the_innermost_failed_row_is_open(page):
    rows = page(ended(shop(), '["a"]')).rows
    is_open = [name for name, attributes in rows.items() if "open" in attributes]
    assert is_open == ["update / stock / find"]


def test_the_header_links_to_the_failed_rows(page):
    found = page(ended(shop(), '["a"]'))
    links = [it["href"][1:] for it in found.all("a") if "href" in it][:3]
    failed = ["update", "update / stock", "update / stock / find"]
    assert links == [found.rows[name]["id"] for name in failed]


def test_no_row_is_open_where_nothing_failed(page):
    assert not any("open" in it for it in page(giving(1).execute()).rows.values())


def test_the_graph_is_a_picture_where_there_is_a_layouter(page):
    svg = page(giving(1).execute()).all("svg")[0]
    assert "viewbox" in svg


def test_the_graph_is_a_table_where_there_is_no_layouter(page, monkeypatch):
    monkeypatch.setattr(dot, "has_layouter", lambda: False)
    workflow = StepFunction("W")
    workflow.add_step("A", int, branch={1: "B"}, next_step="C", on_failure="C")
    workflow.add_step("B", {"x": int}, parallel=True).add_step("C", giving(1))
    found = page(workflow.set_start_step("A").execute(1))
    assert len(found.all("tr")) == 4
    text = "".join(found.words)
    assert "on 1 → B" in text
    assert "on failure → C" in text
    assert "not reached" in text
    assert "1 task in parallel: x" in text
    assert "workflow Give" in text


def test_a_large_graph_is_a_table(page):
    workflow = StepFunction("Large").set_start_step("0")
    for number in range(600):
        workflow.add_step(f"{number}", int, f"{number + 1}")
    assert len(page(workflow.add_step("600", int).execute(1)).all("tr")) == 602


def test_the_report_of_what_came_without_a_graph_has_its_timeline(page):
    execution = pickle.loads(pickle.dumps(giving(1).execute()))
    assert list(page(execution).rows) == ["give"]


def test_the_report_of_what_was_read_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(dot, "has_layouter", lambda: False)  # the table has no times
    execution = ended(shop(), '["a"]')
    pages = []
    for it in (execution, Execution.from_json(execution.to_json())):
        pages.append((tmp_path / it.report(tmp_path / "run.html")).read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "workflow",
    [
        giving(ATTACK),
        giving({ATTACK: [ATTACK]}),
        giving({1: ATTACK, "x": {ATTACK}}),
        StepFunction(ATTACK).add_step("A", int).set_start_step("A"),
        StepFunction("A").add_step(ATTACK, int).set_start_step(ATTACK),
        StepFunction("A").add_step("A", fail).set_start_step("A"),
        StepFunction("A").add_step("A", {ATTACK: fail}, parallel=True, on_failure="A2")
        .add_step("A2", repr).set_start_step("A"),
    ],
)
@pytest.mark.parametrize("has_layouter", [True, False])
def test_every_text_is_shown_as_text(page, workflow, has_layouter, monkeypatch):
    monkeypatch.setattr(dot, "has_layouter", lambda: has_layouter)
    found = page(ended(workflow, ATTACK))
    assert len(found.all("script")) == 1
    assert ATTACK in "".join(found.words)


def test_the_page_allows_nothing_but_its_own_style_and_script(page, tmp_path):
    found = page(ended(shop(), '["a"]'))
    policy = next(
        it["content"]
        for it in found.all("meta")
        if it.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in found.tags)
    assert not any(
        attribute.startswith("on") for _, them in found.tags for attribute in them
    )
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


@pytest.mark.parametrize(
    "value",
    ["y" * 100_000, ["y"] * 100_000, {n: "y" for n in range(50_000)}, {"y" * 100_000}],
)
def test_long_values_are_cut(page, value, tmp_path):
    page(giving(value).execute(value), max_chars=100)
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert text.count("y") < 3_000


def test_a_cut_text_says_how_much_was_left_out(page):
    text = page(giving("line\n" * 100).execute(), max_chars=300).row_text("give")
    assert "… (200 characters left out)" in text


def test_a_list_that_is_cut_says_how_many_items_were_left_out(page):
    text = page(giving([1] * 1_000).execute(), max_chars=100).row_text("give")
    assert re.search(r"… 9\d\d more", text)


@pytest.mark.parametrize("size", [0, -1, 2.5, None, True])
def test_a_size_that_is_none_is_refused(page, size):
    with pytest.raises(DrawingError, match="max_chars"):
        page(giving(1).execute(), max_chars=size)


def test_what_is_redacted_is_nowhere_in_the_file(page, tmp_path):
    secret = "4111-1111"

    def redact(where, value):
        if isinstance(value, str):
            return value.replace(secret, "•••")
        return value

    page(ended(shop(), json.dumps([secret])), redact=redact)
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert secret not in text
    assert "no stock for [&#x27;•••&#x27;]" in text


@pytest.mark.parametrize("is_read_back", [False, True])
def test_what_is_redacted_of_a_fail_step_is_not_in_the_picture(is_read_back):
    def redact(where, value):
        return value.replace("Doe", "•••") if isinstance(value, str) else value

    workflow = StepFunction("Loan").add_fail_step("Refuse", "Of.Doe", "Doe has none")
    execution = workflow.set_start_step("Refuse").execute()
    if is_read_back:
        execution = Execution.from_json(execution.to_json())
    parts = execution.report_parts(redact=redact)
    for part in (parts.head, parts.graph, parts.steps):
        assert "Doe" not in part
        assert "•••" in part


def test_nothing_is_written_where_the_redaction_fails(page, tmp_path):
    def redact(where, value):
        raise OSError("no key")

    with pytest.raises(OSError, match="no key"):
        page(giving(1).execute(), redact=redact)
    assert not (tmp_path / "run.html").exists()


def test_names_that_are_nothing_but_space_are_seen(page):
    workflow = StepFunction(" ").add_step("  ", int).set_start_step("  ")
    text = "".join(page(workflow.execute(1)).words)
    assert "' '" in text
    assert "'  '" in text


def test_halves_of_characters_can_be_written(page):
    assert "?" in page(giving("a\n\ud800").execute()).row_text("give")


def test_an_execution_that_has_not_begun_has_an_empty_timeline(page):
    written = []
    listener = [lambda event: written.append(event.execution.to_json())]
    giving(1).execute(listeners=listener)
    found = page(Execution.from_json(written[0]))
    assert "Nothing ran." in found.words


def test_bars_lie_within_the_timeline(page):
    found = page(ended(shop(), '["a"]'))
    bars = [it for it in found.all("rect") if "rx" in it]
    assert len(bars) == 5
    for bar in bars:
        left, width = (float(bar[name].rstrip("%")) for name in ("x", "width"))
        assert 0 <= left <= left + width <= 100.01


# --- into a file that is open -------------------------------------------------------


class Both:
    """Takes bytes and texts, as an answer of Django does."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data if isinstance(data, bytes) else data.encode()


def written(make, tmp_path):
    execution = giving("ü\ud800").execute()
    expected = (tmp_path / execution.report(tmp_path / "a.html")).read_bytes()
    with make() as file:
        assert execution.report(file) is None
        file.flush()
        file.seek(0)
        found = file.read()
    return found if isinstance(found, bytes) else found.encode(), expected


@pytest.mark.parametrize(
    "make",
    [
        io.BytesIO,
        io.StringIO,
        tempfile.TemporaryFile,
        lambda: tempfile.NamedTemporaryFile("w+", encoding="utf-8", newline=""),
        lambda: tempfile.SpooledTemporaryFile(mode="w+", encoding="utf-8", newline=""),
        lambda: codecs.StreamReaderWriter(io.BytesIO(), *codecs.lookup("utf-8")[2:]),
    ],
    ids=["bytes", "text", "binary file", "text file", "spooled", "codecs"],
)
def test_a_file_that_is_open_is_given_what_a_path_is(make, tmp_path):
    found, expected = written(make, tmp_path)
    assert found == expected


def test_what_takes_bytes_and_texts_is_given_the_page():
    answer = Both()
    giving(1).execute().report(answer)
    assert answer.data.startswith(b"<!DOCTYPE html>")
    assert answer.data.endswith(b"</html>")


def test_nothing_is_written_into_an_open_file_where_the_redaction_fails():
    answer = Both()
    with pytest.raises(ZeroDivisionError):
        giving(1).execute().report(answer, redact=lambda where, value: 1 / 0)
    assert answer.data == b""


# --- in parts -----------------------------------------------------------------------


def whole(parts):
    return parts.head + parts.graph + parts.steps


def test_the_parts_have_what_the_page_has(page):
    execution = ended(shop(), '["a"]')
    parts = Page(whole(execution.report_parts()))
    assert list(parts.rows) == list(page(execution).rows)
    assert "ValueError" in "".join(parts.words)


def test_the_parts_of_several_executions_share_no_id():
    found = Page(
        "".join(whole(ended(shop(), '["a"]').report_parts()) for _ in range(2))
    )
    ids = [it["id"] for _, it in found.tags if "id" in it]
    assert len(ids) == len(set(ids)) == 10


def test_every_link_of_the_parts_leads_to_one_of_their_rows():
    found = Page(whole(ended(shop(), '["a"]').report_parts(prefix='"<x')))
    ids = {it["id"] for it in found.rows.values()}
    links = [it["href"] for it in found.all("a") if "href" in it]
    assert links
    assert {link[1:] for link in links} <= ids


def test_what_is_redacted_is_in_no_part():
    def redact(where, value):
        return "•••" if value == "secret" else value

    parts = giving("secret").execute("secret").report_parts(redact=redact)
    assert "secret" not in whole(parts)


@pytest.mark.parametrize("has_layouter", [True, False])
def test_the_parts_need_no_style_or_script_in_the_page(has_layouter, monkeypatch):
    monkeypatch.setattr(dot, "has_layouter", lambda: has_layouter)
    workflow = StepFunction(ATTACK)
    workflow.add_step(ATTACK, {ATTACK: fail, "b": shop()}, parallel=True)
    execution = ended(workflow.set_start_step(ATTACK), ATTACK)
    found = Page(whole(execution.report_parts()))
    assert found.all("script") == found.all("style") == []
    for _, attributes in found.tags:
        assert not any(it == "style" or it.startswith("on") for it in attributes)


def test_every_class_of_the_parts_has_the_prefix_of_the_library():
    found = Page(whole(ended(shop(), '["a"]').report_parts()))
    graphviz = {"graph", "node", "edge", "cluster"}
    classes = {it for _, tag in found.tags for it in tag.get("class", "").split()}
    mine = {it for it in classes if it != "stepfunction"} - graphviz
    assert mine
    assert all(it.startswith("sf-") for it in mine)


def test_a_part_that_nobody_asks_for_is_not_made(monkeypatch):
    asked = []
    execution = giving(1).execute()

    def redact(where, value):
        asked.append(where)
        return value

    parts = execution.report_parts(redact=redact)
    assert "<svg" in parts.graph
    assert asked == []


def test_the_graph_of_what_a_pickle_brought_is_no_part():
    execution = pickle.loads(pickle.dumps(giving(1).execute()))
    assert execution.report_parts().graph == ""


def of_value(value, **options):
    page = io.StringIO()
    workflow = StepFunction("W").add_step("A", lambda: value).set_start_step("A")
    workflow.execute().report(page, **options)
    return html.unescape(page.getvalue())


@pytest.mark.parametrize("redact", [None, lambda where, value: value])
def test_of_a_large_value_no_more_is_written_than_is_shown(redact):
    large = [list(range(10))] * 200_000
    began = time.monotonic()
    page = of_value(large, redact=redact)
    assert time.monotonic() - began < 2  # 10 ms, where nothing else runs
    assert len(page) < 60_000
    assert re.search(r"… 199,\d\d\d more", page)


def test_of_a_large_value_no_more_is_to_be_hidden_than_is_shown():
    asked = []
    of_value(list(range(100_000)), redact=lambda at, it: asked.append(at) or it)
    assert len(asked) < 2_000


class Alike:
    def __repr__(self):
        return "alike"


@pytest.mark.parametrize(
    "value", [{Alike(), Alike()}, {Alike(): 1, Alike(): 2}, {(Alike(),), (Alike(),)}]
)
def test_values_that_look_alike_do_not_stop_a_report(value):
    assert "alike" in of_value(value)
    assert read_back(giving(value).execute()).status == "COMPLETED"


def test_a_map_step_with_large_results_has_all_its_counts():
    def work(number):
        if number == 999:
            raise ValueError("the last")
        return list(range(1_000))

    workflow = StepFunction("W").add_map_step("M", work, tolerated_failures=1)
    execution = workflow.set_start_step("M").execute(range(1_000), executor="inline")
    page = io.StringIO()
    execution.report(page)
    assert "1,000 items: 999 succeeded, 1 failed" in page.getvalue()


@pytest.fixture
def without_graphviz(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


@pytest.mark.usefixtures("without_graphviz")
def test_a_notebook_without_graphviz_shows_a_table():
    workflow = StepFunction("W <1>").add_step("A", str, branch={"1": "B"})
    workflow.add_step("B", {"a": str, "b": int}, parallel=True, on_failure="C")
    workflow.add_step("C", str).set_start_step("A")
    table = workflow._repr_html_()
    assert "<b>W &lt;1&gt;</b>" in table
    assert "<td>A</td>" in table
    assert "on 1 → B" in table and "2 tasks in parallel" in table
    assert StepFunction("Unfinished")._repr_html_() is None
    run = workflow.execute("1")._repr_html_()
    assert "✓ succeeded" in run and "not reached" in run


def test_a_notebook_with_graphviz_shows_the_picture_alone():
    workflow = giving(1)
    assert workflow._repr_html_() is workflow.execute()._repr_html_() is None
