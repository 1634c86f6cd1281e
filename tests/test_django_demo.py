"""The Django demo, as a person uses it: in a shell and in a browser."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait
from shared.browser import choose_theme, luminance, new_window

import stepfunction

MANAGE = Path(__file__).parents[1] / "examples" / "django_project" / "manage.py"
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])
pytestmark = pytest.mark.timeout(120)


def command(*arguments):
    return [sys.executable, str(MANAGE), *arguments]


def environment():
    known = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return {**known, "PYTHONPATH": PACKAGE_HOME, "PYTHONUTF8": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with the demo's database."""
    folder = tmp_path_factory.mktemp("demo")
    migrate = command("migrate", "--verbosity", "0")
    subprocess.run(migrate, cwd=folder, env=environment(), check=True)
    return folder


@pytest.fixture(scope="module")
def manage(folder):
    def manage(*arguments):
        done = subprocess.run(
            command(*arguments),
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=100,
        )
        return done.returncode, done.stdout, done.stderr

    return manage


def test_the_demo_is_a_sound_project(manage):
    assert manage("check", "--fail-level", "WARNING")[0] == 0
    assert manage("makemigrations", "--check")[0] == 0
    assert manage("stepfunction_check", "shop")[0] == 0


def test_the_tests_of_the_demo_pass(manage):
    code, _, err = manage("test", "shop")
    assert code == 0, err
    assert "Ran 4 tests" in err


def test_the_demo_sells_a_car_from_a_shell(manage):
    form = json.dumps({"car": "Flivver", "customer": "Ada", "card": "4242"})
    code, out, err = manage("stepfunction_run", "shop.Checkout", "--input", form)
    assert code == 0, err
    assert json.loads(out)["invoice"].endswith("1 Flivver, 9000 EUR")


def test_the_demo_lists_its_workflows(manage):
    assert manage("stepfunction_list")[1].splitlines() == [
        "shop.Invoice   Invoice   2 steps",
        "shop.Checkout  Checkout  6 steps",
    ]


# --- in a browser -------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(folder):
    """Serve the demo, and give where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            command("runserver", "--noreload", host),
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=log,
        )
        try:
            await_server(host, server)
            yield f"http://{host}/"
        finally:
            server.terminate()
            server.wait()


def await_server(host, server):
    while server.poll() is None:
        try:
            with urlopen(f"http://{host}/"):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail("the server has ended")


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


@pytest.fixture
def buy(browser):
    def buy(card, car="Flivver"):
        Select(browser.find_element("name", "card")).select_by_value(card)
        Select(browser.find_element("name", "car")).select_by_value(car)
        browser.find_element("css selector", "button").click()
        WebDriverWait(browser, 30).until(lambda it: "/run/" in it.current_url)
        return browser

    return buy


def texts(browser, selector):
    return [it.text for it in browser.find_elements("css selector", selector)]


def test_every_page_has_a_strict_policy(address):
    with urlopen(address) as answer:
        assert answer.headers["Content-Security-Policy"] == "default-src 'self'"


def test_a_good_card_buys_a_car(buy):
    browser = buy("4242")
    assert "paid" in texts(browser, "h1")[0]
    assert texts(browser, ".sf-status") == ["✓ COMPLETED"]
    assert browser.find_elements("css selector", ".sf-picture svg text")
    assert "Confirm" in texts(browser, ".sf-name")


def test_a_card_that_is_declined_shows_what_was_undone(buy):
    browser = buy("4000", "Wagon")
    assert texts(browser, ".sf-status") == ["✗ FAILED"]
    assert "the card was declined" in texts(browser, ".sf-alert")[0]
    names = texts(browser, ".sf-name")
    assert {"undo Fulfil / stock", "undo Fulfil / shipping"} <= set(names)


def test_the_script_opens_and_searches_rows(buy):
    browser = buy("4242")
    rows = "css selector", ".sf-row[open]"
    browser.find_element("css selector", ".sf-open").click()
    assert len(browser.find_elements(*rows)) == len(texts(browser, ".sf-row"))
    browser.find_element("css selector", ".sf-search").send_keys("label")
    shown = [name for name in texts(browser, ".sf-name") if name]
    assert shown == ["Label"]


def test_a_link_opens_the_row_that_it_leads_to(buy):
    browser = buy("4000")
    browser.find_element("css selector", ".sf-close").click()
    browser.find_element("css selector", ".sf-alert a").click()
    row = "css selector", ".sf-row[open]"
    WebDriverWait(browser, 30).until(lambda it: it.find_elements(*row))
    assert re.search("#sf-[0-9a-f]{32}-r1$", browser.current_url)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_run_is_light_or_dark_as_the_page_is(buy, theme):
    browser = buy("4242")
    choose_theme(browser, theme)
    part = browser.find_element("css selector", ".sf-steps")
    paper = luminance(part.value_of_css_property("background-color"))
    assert (paper > 0.5) is (theme == "light")
    for selector in (".sf-name", ".sf-took", ".sf-mark"):
        element = part.find_element("css selector", selector)
        ink = luminance(element.value_of_css_property("color"))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, selector


def test_a_run_in_a_light_page_is_light_whatever_the_system_says(buy):
    browser = buy("4242")
    choose_theme(browser, "dark")
    browser.execute_script("document.documentElement.style.colorScheme = 'light'")
    part = browser.find_element("css selector", ".sf-steps")
    assert luminance(part.value_of_css_property("background-color")) > 0.5
