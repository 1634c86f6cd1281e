"""With the other project of the package index, whose package has the same name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stepfunction

HOME = Path(stepfunction.__file__).parent
REPAIR = (
    "the package index has another project of the name 'stepfunction', and the two "
    "cannot be installed together; take both out, as by 'pip uninstall -y stepfunction "
    "stepfunction-sync', and install stepfunction-sync again\n"
)
WORKFLOW = """\
from stepfunction import StepFunction
workflow = StepFunction("W").add_step("A", print).set_start_step("A")
"""


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages, in which is this one."""
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HOME, tmp_path / "stepfunction", ignore=skipped)
    return tmp_path


def install_other_before(site):
    """Add what is left of the other when this one is installed over it."""
    package = site / "stepfunction" / "core" / "step_function"
    package.mkdir()
    (package / "__init__.py").write_text("class StepFunction: pass\n")


def install_other_after(site):
    """Add what the other has, which is put over what there is."""
    install_other_before(site)
    (site / "stepfunction" / "__init__.py").write_text("")


def take_out_other(site):
    """Take out what the other had put there, the files of this one among them."""
    install_other_before(site)
    shutil.rmtree(site / "stepfunction" / "core" / "step_function")
    (site / "stepfunction" / "__init__.py").unlink()


def note_that_other_is_there(site, *files):
    facts = site / "stepfunction-0.3.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Name: stepfunction\nVersion: 0.3.0\n")
    (facts / "RECORD").write_text("".join(f"{it},,\n" for it in files))


def run(site, *arguments):
    done = subprocess.run(
        [sys.executable, "-S", *arguments],  # what else is installed is not there
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("arguments", [["--version"], ["check", "flow.py"]])
@pytest.mark.parametrize(
    "mix", [install_other_before, install_other_after, take_out_other]
)
def test_the_command_of_a_mixed_package_says_how_to_repair_it(site, mix, arguments):
    mix(site)
    (site / "flow.py").write_text(WORKFLOW)
    found = f"the files in {site}/stepfunction are those of two projects: {REPAIR}"
    said = run(site, "-m", "stepfunction", *arguments)
    assert said == ("", f"stepfunction: {found}", 2)


def test_to_import_from_a_mixed_package_says_how_to_repair_it(site):
    install_other_before(site)
    out, err, code = run(site, "-c", "from stepfunction import StepFunction")
    assert (out, code) == ("", 1)
    assert err.endswith(f"are those of two projects: {REPAIR}")


def test_version_and_check_warn_where_the_other_is_installed_too(site):
    note_that_other_is_there(site, "stepfunction/__init__.py")
    (site / "flow.py").write_text(WORKFLOW)
    warning = f"warning: stepfunction 0.3.0 is installed here too: {REPAIR}"
    out, err, code = run(site, "-m", "stepfunction", "--version")
    said = f"stepfunction-sync {stepfunction.__version__} from {site}/stepfunction\n"
    assert (out, err, code) == (said, warning, 0)
    checked = run(site, "-m", "stepfunction", "check", "flow.py")
    assert checked == ("flow.py:workflow: ok\n", warning, 0)


def test_a_distribution_of_that_name_without_the_package_is_no_matter(site):
    note_that_other_is_there(site, "__editable__.stepfunction-0.1.0.pth")
    assert run(site, "-m", "stepfunction", "--version")[1:] == ("", 0)
