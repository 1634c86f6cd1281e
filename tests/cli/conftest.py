from __future__ import annotations

import sys

import pytest
from shared.commands import DATA, FACTORIES

from stepfunction.cli import main


@pytest.fixture(autouse=True)
def path_and_folder(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(DATA)
    for name in ("NO_COLOR", "FORCE_COLOR", "ORDERS_STARTED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def misuse(capsys):
    """Give what argparse says of arguments that it cannot read."""

    def misuse(*arguments):
        with pytest.raises(SystemExit) as raised:
            main([str(argument) for argument in arguments])
        assert raised.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return misuse


@pytest.fixture
def script(tmp_path, monkeypatch):
    def script(source, name=None):
        # Each test imports a module of another name.
        path = tmp_path / (name or f"{tmp_path.name.replace('-', '_')}.py")
        path.write_text("from stepfunction import StepFunction\n" + source)
        monkeypatch.chdir(tmp_path)
        return path.name

    yield script
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def factories(tmp_path):
    script = tmp_path / f"factories_{tmp_path.name}.py"
    script.write_text(FACTORIES)
    return script
