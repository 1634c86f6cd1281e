"""Fixtures of all rooms; where CI=true, a skip not on the list fails the run."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from stepfunction import ProcessLanes

pytest_plugins = ["pytester"]
_WITHOUT_CLOUDPICKLE = str(Path(__file__).parent / "data" / "without_cloudpickle")


@pytest.fixture(autouse=True)
def plain_pickle(request, monkeypatch):
    """Hide cloudpickle, here and in new processes, from tests not marked for it."""
    if request.node.get_closest_marker("cloudpickle"):
        pytest.importorskip("cloudpickle")
        return
    for name in list(sys.modules):
        if name.partition(".")[0] == "cloudpickle" or name.endswith(".by_value"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(_WITHOUT_CLOUDPICKLE)
    paths = filter(None, (_WITHOUT_CLOUDPICKLE, os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture(scope="module")
def lanes():
    with ProcessLanes(2) as lanes:
        yield lanes


@pytest.fixture(scope="module")
def quiet():
    """Keep what random workflows log to themselves."""
    logger = logging.getLogger("stepfunction")
    logger.disabled = True
    yield
    logger.disabled = False


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true":
        allowed = read_allowed(config.rootpath / ".ci" / "allowed-skips.txt")
        config.pluginmanager.register(AllowedSkips(allowed))


def read_allowed(path: Path) -> set[str]:
    allowed = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        nodeid, _, reason = line.partition("  # ")
        if not reason.strip():
            raise pytest.UsageError(f"{path.name}: no reason given in {line!r}")
        allowed.add(nodeid.strip())
    return allowed


class AllowedSkips:
    def __init__(self, allowed: set[str]) -> None:
        self.allowed = allowed
        self.offending: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too, and is none.
        if not hasattr(report, "wasxfail"):
            self.see(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.see(report)

    def see(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and report.nodeid not in self.allowed:
            self.offending[report.nodeid] = None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.offending and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        if self.offending:
            terminalreporter.section("skips that .ci/allowed-skips.txt does not list")
            for nodeid in self.offending:
                terminalreporter.line(nodeid, red=True)
