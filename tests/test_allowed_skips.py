from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
PASSES = "def test_passes(): pass\n"
SKIPS = "import pytest\n@pytest.mark.skip\ndef test_skips(): pass\n"
SKIPS_IN_ITS_BODY = "import pytest\ndef test_skips(): pytest.skip('why')\n"
SKIPS_ITS_MODULE = "import pytest\npytest.skip('why', allow_module_level=True)\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_fails(): assert False\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source: str, allowed: str = "") -> pytest.RunResult:
        pytester.makeini("[pytest]")
        pytester.makeconftest(CONFTEST)
        pytester.makepyfile(test_it=source)
        pytester.mkdir(".ci").joinpath("allowed-skips.txt").write_text(allowed)
        return pytester.runpytest("--strict-markers")

    return run


@pytest.mark.parametrize("source", [PASSES, EXPECTED_FAILURE])
def test_a_run_without_skips_is_left_alone(run, source):
    assert run(source).ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "source, nodeid",
    [
        (SKIPS, "test_it.py::test_skips"),
        (SKIPS_IN_ITS_BODY, "test_it.py::test_skips"),
        (SKIPS_ITS_MODULE, "test_it.py"),
    ],
)
def test_a_skip_must_be_listed(run, source, nodeid):
    result = run(PASSES + source)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skips that*does not list*", nodeid])


def test_a_listed_skip_is_fine(run):
    listed = "# a comment\n\ntest_it.py::test_skips  # needs another kernel\n"
    result = run(SKIPS, listed)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*skips that*")


def test_a_listed_skip_needs_a_reason(run):
    result = run(SKIPS, "test_it.py::test_skips\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no reason given in 'test_it.py::test_skips'*"])


def test_outside_ci_a_skip_is_just_a_skip(run, monkeypatch):
    monkeypatch.setenv("CI", "false")
    assert run(SKIPS).ret == pytest.ExitCode.OK
