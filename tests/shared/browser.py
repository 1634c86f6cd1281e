"""A browser without a screen, of which tests read what a person would see."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@contextmanager
def new_window(folder):
    """Open a window, whose profile is kept in a folder; skip where there is none."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("there is no chromedriver; .ci/browser installs it")
    options = Options()
    for argument in QUIET:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def choose_theme(browser, theme):
    """Have pages be light or dark, as the system of a person says."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def luminance(colour):
    """Give how bright a colour is that the browser names."""
    channels = colour.split("(")[1].strip(")").split(",")[:3]
    shares = [float(channel) / 255 for channel in channels]
    red, green, blue = (
        it / 12.92 if it <= 0.03928 else ((it + 0.055) / 1.055) ** 2.4 for it in shares
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
