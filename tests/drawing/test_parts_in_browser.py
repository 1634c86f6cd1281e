from __future__ import annotations

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from shared.browser import choose_theme, luminance, new_window
from shared.failures import failure_of

import stepfunction
from stepfunction import StepFunction

ATTACK = "</script><script>alert(1)</script>"
STATIC = Path(stepfunction.__file__).parent / "contrib/django/static/stepfunction"
pytestmark = pytest.mark.timeout(120)

# A page whose own style is for elements and for names that many pages use.
HOST = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Host</title>
<link rel="icon" href="icon.svg"><link rel="stylesheet" href="host.css">
<link rel="stylesheet" href="execution.css">
<script src="execution.js" defer></script><script src="execution.js" defer></script>
</head><body><textarea id="mine"></textarea>
<div class="row" id="row"><p class="name">mine</p></div>{parts}</body></html>
"""
STYLE = """
.row { display: flex; margin: 0 -12px; } .alert, .status { position: fixed; }
.body, .mark, .name, .bar { display: none; } label { display: grid; }
table { width: 20px; } a { text-decoration: overline; } summary { display: list-item; }
"""


class Handler(SimpleHTTPRequestHandler):
    def end_headers(self):
        self.send_header("Content-Security-Policy", "default-src 'self'")
        super().end_headers()

    def log_message(self, *args):
        pass


def fail(value):
    raise ValueError("the card was refused")


def sale(first):
    workflow = StepFunction(ATTACK).add_step(first, str, "Pay").add_step("Pay", fail)
    return failure_of(workflow.set_start_step(first), ATTACK).execution


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    for path in STATIC.iterdir():
        shutil.copy(path, folder)
    found = [sale(first).report_parts() for first in ("Reserve", ATTACK)]
    parts = "".join(it.head + it.graph + it.steps for it in found)
    (folder / "index.html").write_text(HOST.replace("{parts}", parts), "utf-8")
    (folder / "host.css").write_text(STYLE)
    (folder / "icon.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    handler = partial(Handler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with new_window(tmp_path_factory.mktemp("browser")) as window:
        yield window


@pytest.fixture
def browser(window, address):
    window.get("about:blank")
    window.get_log("browser")
    window.get(address)
    yield window
    assert window.get_log("browser") == []


def seen(element, selector):
    found = element.find_elements("css selector", selector)
    return [it.text for it in found if it.is_displayed()]


def reports(browser):
    return browser.find_elements("css selector", ".sf-steps")


def test_each_report_searches_its_own_rows(browser):
    first, second = reports(browser)
    first.find_element("css selector", ".sf-search").send_keys("pay")
    assert seen(first, ".sf-name") == ["Pay"]
    assert seen(second, ".sf-name") == [ATTACK, "Pay"]


def test_each_report_opens_its_own_rows(browser):
    first, second = reports(browser)
    second.find_element("css selector", ".sf-open").click()
    assert len(seen(first, ".sf-row[open]")) == 1
    assert len(seen(second, ".sf-row[open]")) == 2


def test_a_link_leads_to_its_own_report(browser):
    first, second = reports(browser)
    for report in (first, second):
        report.find_element("css selector", ".sf-close").click()
    browser.find_elements("css selector", ".sf-alert a")[1].click()
    browser.execute_async_script("setTimeout(arguments[0])")
    assert len(seen(second, ".sf-row[open]")) == 1
    assert seen(first, ".sf-row[open]") == []


def test_a_slash_is_a_slash_where_somebody_types(browser):
    mine = browser.find_element("id", "mine")
    mine.send_keys("a/b")
    assert mine.get_property("value") == "a/b"


def test_a_slash_goes_to_the_search_of_the_report_that_is_used(browser):
    _, second = reports(browser)
    second.find_element("css selector", "summary").send_keys("/")
    search = second.find_element("css selector", ".sf-search")
    assert browser.switch_to.active_element == search
    search.send_keys(Keys.ESCAPE)


def test_the_page_and_the_report_leave_each_other_alone(browser):
    first, _ = reports(browser)
    row = browser.find_element("id", "row")
    assert row.value_of_css_property("display") == "flex"
    assert seen(row, ".name") == []
    assert seen(first, ".sf-name") == ["Reserve", "Pay"]
    label = first.find_element("css selector", "label")
    assert label.value_of_css_property("display") == "block"  # in a row
    link = browser.find_element("css selector", ".sf-alert a")
    assert "underline" in link.value_of_css_property("text-decoration")
    texts = browser.find_element("css selector", ".sf-picture svg a")
    assert "none" in texts.value_of_css_property("text-decoration")


def test_a_report_in_a_page_without_a_dark_theme_is_light(browser):
    choose_theme(browser, "dark")
    colour = reports(browser)[0].value_of_css_property("background-color")
    assert luminance(colour) > 0.9
    browser.execute_script("document.documentElement.style.colorScheme = 'dark'")
    colour = reports(browser)[0].value_of_css_property("background-color")
    assert luminance(colour) < 0.1


def test_hostile_texts_are_shown_as_texts(browser):
    assert seen(reports(browser)[1], ".sf-name")[0] == ATTACK
