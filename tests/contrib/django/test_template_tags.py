from __future__ import annotations

import re
import threading
from html.parser import HTMLParser

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from django.template import Context, Template
from django.test import override_settings

from stepfunction import DrawingError, StepFunction, StepFunctionError
from stepfunction.drawing import dot

ATTACK = "</script><script>alert(1)</script>{{ 1 }}"


def fail(value):
    raise ValueError(f"no stock for {value}")


def sale(name="Sale", step="Reserve", function=fail):
    return StepFunction(name).add_step(step, function).set_start_step(step)


def ended(workflow, value="a car"):
    try:
        return workflow.execute(value)
    except StepFunctionError as error:
        return error.execution


def render(text, **variables):
    return Template("{% load stepfunction %}" + text).render(Context(variables))


ALL = "{% execution_head e %}{% execution_graph e %}{% execution_steps e %}"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data

    @property
    def ids(self):
        return [it["id"] for _, it in self.tags if "id" in it]

    @property
    def links(self):
        return [it["href"][1:] for tag, it in self.tags if "href" in it]


def test_the_head_tells_how_it_ended():
    text = render("{% execution_head e %}", e=ended(sale()))
    assert "FAILED" in text
    assert "no stock for a car" in text


def test_the_graph_is_a_picture():
    assert "<svg" in render("{% execution_graph e %}", e=ended(sale()))


def test_the_graph_is_a_table_where_there_is_no_graphviz(monkeypatch):
    monkeypatch.setattr(dot, "has_layouter", lambda: False)
    text = render("{% execution_graph e %}", e=ended(sale()))
    assert "<svg" not in text
    assert "<td>✗ failed" in text


def test_the_steps_tell_values_and_errors():
    text = render("{% execution_steps e %}", e=ended(sale()))
    assert "&#x27;a car&#x27;" in text
    assert "Traceback" in text


def test_values_are_cut_where_the_template_says():
    text = render("{% execution_steps e max_chars=20 %}", e=ended(sale(), "x" * 500))
    assert "xxxxxxxxxxxxxxxxxxxxx" not in text


@pytest.mark.parametrize("has_layouter", [True, False])
def test_hostile_texts_are_inert(has_layouter, monkeypatch):
    monkeypatch.setattr(dot, "has_layouter", lambda: has_layouter)
    page = Page(render(ALL, e=ended(sale(ATTACK, ATTACK), ATTACK)))
    assert not any(tag == "script" for tag, _ in page.tags)
    assert ATTACK in page.words
    for _, attributes in page.tags:
        assert not any(it == "style" or it.startswith("on") for it in attributes)


def test_several_executions_in_a_page_share_no_id():
    both = ALL + ALL.replace("e %", "f %")
    page = Page(render(both, e=ended(sale()), f=ended(sale())))
    assert len(page.ids) == len(set(page.ids)) == 2
    assert set(page.links) == set(page.ids)


def test_one_execution_twice_in_a_page_shares_no_id(tmp_path):
    (tmp_path / "part.html").write_text("{% load stepfunction %}" + ALL)
    backend = "django.template.backends.django.DjangoTemplates"
    with override_settings(TEMPLATES=[{"BACKEND": backend, "DIRS": [tmp_path]}]):
        text = render("{% include 'part.html' %}" * 2 + ALL, e=ended(sale()))
    page = Page(text)
    assert len(page.ids) == len(set(page.ids)) == 3
    assert set(page.links) == set(page.ids)


def test_the_ids_of_an_execution_last_from_page_to_page():
    execution = ended(sale())
    assert Page(render(ALL, e=execution)).ids == Page(render(ALL, e=execution)).ids


@pytest.mark.parametrize("tag", ["head", "graph", "steps"])
def test_nothing_stands_where_there_is_no_execution(tag):
    assert render(f"{{% execution_{tag} e %}}", e=None) == ""
    assert render(f"{{% execution_{tag} missing %}}") == ""


def test_what_is_no_execution_is_refused():
    with pytest.raises(DrawingError, match="a report is of an Execution, not of 17"):
        render(ALL, e=17)


def test_a_run_that_is_under_way_can_be_shown():
    begun, release = threading.Event(), threading.Event()

    def work(value):
        begun.set()
        release.wait(30)

    execution = sale(function=work).start(1)
    assert begun.wait(30)
    try:
        text = render(ALL, e=execution)
    finally:
        release.set()
        execution.wait()
    assert "RUNNING" in text
    assert "sf-running" in text


def test_a_report_is_written_into_an_answer():
    response = HttpResponse()
    ended(sale()).report(response)
    assert response.content.startswith(b"<!DOCTYPE html>")


def hide(where, value):
    return "•••" if value == "a car" else value


@pytest.mark.parametrize("given", [hide, f"{__name__}.hide"])
def test_values_are_hidden_as_the_setting_says(given):
    execution = ended(sale(function=str))
    with override_settings(STEPFUNCTION={"REDACT": given}):
        text = render(ALL, e=execution)
    assert "a car" not in text
    assert "•••" in text


def test_a_redaction_that_is_not_there_shows_nothing():
    with override_settings(STEPFUNCTION={"REDACT": "shop.nowhere.hide"}):
        with pytest.raises(ImportError):
            render(ALL, e=ended(sale()))


def test_halves_of_characters_can_be_sent():
    render(ALL, e=ended(sale(), "a\n\ud800")).encode()


def test_style_and_script_are_static_files():
    for name in ("execution.css", "execution.js"):
        assert finders.find(f"stepfunction/{name}")


def test_the_style_touches_nothing_else_in_a_page():
    with open(finders.find("stepfunction/execution.css"), encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read())
    selectors = re.findall(r"([^{};]+)\{", text)
    alien = [
        it.strip()
        for group in selectors
        if not group.strip().startswith("@")
        for it in group.split(",")
        if not re.match(r"(rect)?\.(stepfunction\b|sf-)", it.strip())
    ]
    assert len(selectors) > 50
    assert alien == []
