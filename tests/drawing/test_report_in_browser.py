from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from shared.browser import choose_theme, luminance, new_window

from stepfunction import RetryPolicy, StepFunction

ATTACK = "</script><script>alert(1)</script>"
pytestmark = pytest.mark.timeout(120)


def fail(_):
    raise ValueError("the card was refused")


def shop():
    pay = StepFunction("Payment").add_step("Find", str, "Charge")
    pay.add_step("Charge", fail).set_start_step("Find")
    workflow = StepFunction("Shop")
    workflow.add_step(ATTACK, str, "Update")
    workflow.add_step(
        "Update",
        {"ship": str, "pay": pay},
        parallel=True,
        on_failure="Sorry",
        retry=RetryPolicy(2, interval=0),
    )
    workflow.add_step("Sorry", str)
    return workflow.set_start_step(ATTACK)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.html"
    shop().execute("an order").report(path)
    return path.as_uri()


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with new_window(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(window, report):
    window.get("about:blank")
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    window.get_log("browser")
    window.get(report)
    yield window
    assert window.get_log("browser") == []


def names(browser, selector):
    found = browser.find_elements("css selector", selector)
    return [it.text for it in found if it.is_displayed()]


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)


def focused(browser):
    return browser.switch_to.active_element.text.split("\n")[:2]


def test_the_page_asks_the_network_for_nothing(browser):
    code = "return performance.getEntriesByType('resource').length"
    assert browser.execute_script(code) == 0


def test_a_name_that_is_a_script_is_shown_as_text(browser):
    assert names(browser, ".sf-name")[0] == ATTACK


def test_the_style_is_applied(browser):
    body = browser.find_element("css selector", "body")
    assert body.value_of_css_property("max-width") == "1240px"


def test_the_failing_step_is_open_when_the_page_is_loaded(browser):
    assert names(browser, ".sf-row[open] .sf-name") == ["Charge"]
    errors = names(browser, ".sf-row[open] pre.sf-error")
    assert "the card was refused" in "".join(errors)


def test_the_failing_step_is_found_by_search_and_opened(browser):
    press(browser, "/")
    press(browser, "pay / ch")
    assert names(browser, ".sf-row .sf-name") == ["Charge"]
    assert names(browser, ".sf-count") == ["1 of 7"]
    browser.execute_script("document.querySelector('.sf-row[open]').open = false")
    press(browser, Keys.ENTER)
    assert names(browser, ".sf-row[open] .sf-name") == ["Charge"]
    assert focused(browser)[1] == "Charge"


def test_escape_ends_the_search(browser):
    press(browser, "/")
    press(browser, "charge", Keys.ESCAPE)
    assert len(names(browser, ".sf-row .sf-name")) == 7


def test_what_succeeded_can_be_left_out(browser):
    browser.find_element("css selector", ".sf-only-trouble").click()
    assert names(browser, ".sf-row .sf-name") == ["Update", "pay", "Charge"]


def test_keys_move_between_the_rows_that_are_shown(browser):
    press(browser, "/")
    press(browser, "update", Keys.ARROW_DOWN)
    assert focused(browser)[1] == "Update"
    press(browser, Keys.ARROW_DOWN)
    assert focused(browser)[1] == "ship"
    press(browser, Keys.ENTER)
    assert "ship" in names(browser, ".sf-row[open] .sf-name")
    press(browser, Keys.ARROW_UP)
    assert focused(browser)[1] == "Update"


def test_everything_that_can_be_used_is_reached_with_the_tab_key(browser):
    reached = set()
    for _ in range(30):
        press(browser, Keys.TAB)
        element = browser.switch_to.active_element
        reached.add(element.get_attribute("class") or element.tag_name)
    tools = {"sf-search", "sf-only-trouble", "sf-open", "sf-close"}
    assert {*tools, "summary", "a"} <= reached


def test_a_link_opens_the_row_that_it_leads_to(browser):
    links = browser.find_elements("css selector", ".sf-alert a")
    assert [link.text for link in links] == ["Update", "pay", "Charge"]
    links[0].click()
    # The browser follows the link when the click has been dealt with.
    browser.execute_async_script("setTimeout(arguments[0])")
    assert "Update" in names(browser, ".sf-row[open] .sf-name")


def test_all_rows_can_be_opened_and_closed(browser):
    browser.find_element("css selector", ".sf-open").click()
    assert len(names(browser, ".sf-row[open] .sf-name")) == 7
    browser.find_element("css selector", ".sf-close").click()
    assert names(browser, ".sf-row[open] .sf-name") == []


def test_every_row_is_open_in_print_and_closed_again_after(browser):
    opened = "return document.querySelectorAll('.sf-row[open]').length"
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(opened) == 7
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(opened) == 1


SHADES = (
    ".sf-name",
    ".sf-took",
    ".sf-failed > summary .sf-facts",
    ".sf-said",
    ".sf-mark",
    "a",
)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_the_paper_in_both_themes(browser, theme):
    choose_theme(browser, theme)
    section = browser.find_element("css selector", ".sf-steps")
    paper = luminance(section.value_of_css_property("background-color"))
    assert (paper > 0.5) is (theme == "light")
    for selector in SHADES:
        element = browser.find_element("css selector", f".sf-steps {selector}")
        ink = luminance(element.value_of_css_property("color"))
        contrast = (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)
        assert contrast >= 4.5, selector


def test_a_narrow_window_needs_no_sideways_scrolling(browser):
    browser.set_window_size(500, 900)
    code = "return document.documentElement.scrollWidth - innerWidth"
    assert browser.execute_script(code) <= 0
    browser.set_window_size(1280, 900)
