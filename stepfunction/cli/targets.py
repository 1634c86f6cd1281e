"""Targets: what a command line calls a workflow, and how it is found.

``package.module:workflow`` or ``path/file.py:workflow``. What stands behind the colon
is a ``StepFunction``, or a function without required parameters that returns one; with
nothing there, the only workflow of the module is meant. Or a document,
``path/file.yaml`` or ``path/file.json``, whose functions are in a registry.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, TypeAlias

from stepfunction.cli.complaints import is_theirs
from stepfunction.core.errors import DefinitionError
from stepfunction.core.raised import is_a
from stepfunction.core.step_function import StepFunction
from stepfunction.core.wording import closest, did_you_mean, error_text

Source: TypeAlias = "StepFunction | Callable[[], object]"
_DOCUMENTS = (".json", ".yaml", ".yml")


class TargetError(Exception):
    """A target leads to no workflow.

    Where that is for an error in the user's code, it is the ``__cause__``.
    """


class Places:
    """Where targets are looked for: in modules and files.

    Attributes:
        registry: Where the functions of documents are: ``"package.module:registry"`` or
            ``"path/file.py:registry"``; None for no registry.
        allow_imports: The packages that documents may import functions from.
    """

    registry: str | None = None
    allow_imports: Sequence[str] = ()

    def load(self, target: str) -> StepFunction:
        """Import a target's module and give its workflow.

        Args:
            target: ``"package.module:workflow"`` or ``"path/file.py:workflow"``;
                without ``":workflow"`` if the module has only one. Or a document.

        Raises:
            TargetError: If there is no such module, no such workflow, or several.
        """
        found = self.expand(target)
        if len(found) > 1:
            listed = ", ".join(found)
            text = f"{target} has {len(found)} workflows; name one: {listed}"
            raise TargetError(text)
        return self.one(found[0])

    def one(self, target: str) -> StepFunction:
        """Give the workflow of a target that ``expand`` gave.

        Raises:
            TargetError: If there is none.
        """
        place, name = _split(target)
        if not _is_document(place):
            return build(target, _attribute(import_place(place), place, name))
        if name:
            text = f"{place} is one workflow; leave {':' + name!r} out"
            raise TargetError(text)
        return self._read(place)

    def expand(self, target: str) -> list[str]:
        """Give the target itself if it names a workflow, else all in its module.

        Raises:
            TargetError: If it is a module that has none, or cannot be imported.
        """
        place, name = _split(target)
        if name or _is_document(place):
            return [target]
        found = list(self.inside(place))
        if not found:
            raise TargetError(f"{place} has no workflow at its top level")
        return found

    def inside(self, place: str) -> dict[str, Source]:
        """Give the targets of a module, and what each stands for.

        Raises:
            TargetError: If it cannot be imported, or read.
        """
        if _is_document(place):
            return {place: self._read(place)}
        found = sources(import_place(place))
        return {f"{place}:{name}": source for name, source in found.items()}

    def _read(self, place: str) -> StepFunction:
        """Give the workflow of a document."""
        path = Path(place)
        if not path.is_file():
            raise TargetError(f"there is no file {place!r}{_near(path)}")
        look_first_in(os.getcwd())
        registry = None if self.registry is None else _registry(self.registry)
        is_json = path.suffix.lower() == ".json"
        read = StepFunction.from_json if is_json else StepFunction.from_yaml
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TargetError(f"{place} cannot be read: {error_text(error)}") from error
        try:
            return read(data, registry, self.allow_imports)
        except DefinitionError as error:
            raise TargetError(f"{place}: {error}") from error
        except ModuleNotFoundError as error:  # which says what to install
            raise TargetError(str(error)) from None


def _split(target: str) -> tuple[str, str]:
    place, colon, name = target.rpartition(":")
    if not colon or "/" in name or "\\" in name:  # as in C:\orders.py
        return target, ""
    return place, name


def _is_document(place: str) -> bool:
    return place.lower().endswith(_DOCUMENTS)


def _registry(target: str) -> Mapping[str, Any]:
    """Give the functions that documents may name.

    Raises:
        TargetError: If the target is no registry.
    """
    from stepfunction.declarative.registry import FunctionRegistry

    place, name = _split(target)
    module = import_place(place)
    known = {
        its_name: value
        for its_name, value in vars(module).items()
        if is_a(value, FunctionRegistry) and not its_name.startswith("_")
    }
    if not name:
        if len({id(value) for value in known.values()}) != 1:
            what = f"several: {', '.join(known)}" if known else "none"
            text = f"{place} is to have one FunctionRegistry, and has {what}"
            raise TargetError(f"{text}; name one, as in {place}:registry")
        name = next(iter(known))
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        hint = did_you_mean(name, known) or did_you_mean(name, vars(module))
        raise TargetError(f"{place} has no {name!r}{hint}") from None
    if not is_a(found, Mapping):
        raise TargetError(
            f"{target} is no registry but {_a(found)}; name a FunctionRegistry, or a "
            "mapping of name to function"
        )
    return found


def import_place(place: str) -> ModuleType:
    """Import a module by its name, or by the path of its file.

    The folder of the file, or for a name the current one, becomes the first place to
    import from, in worker processes too.

    Raises:
        TargetError: If there is none, or its import fails.
    """
    is_path = place.endswith((".py", *_DOCUMENTS)) or place.startswith(".")
    is_path = is_path or "/" in place or os.sep in place
    if is_path or ("." in place and Path(place).is_file()):
        return _import_file(place)
    look_first_in(os.getcwd())
    return _import(place, place)


def _import_file(place: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        raise TargetError(f"there is no file {place!r}{_near(Path(place))}")
    if _is_document(place):
        raise TargetError(f"{place!r} is a document, and a registry is in Python code")
    if path.suffix != ".py" or "." in path.stem:
        raise TargetError(
            f"{place!r} cannot be imported: a file of Python code is called name.py, "
            "without another dot; a document is name.yaml or name.json"
        )
    look_first_in(str(path.parent))
    module = _import(path.stem, place)
    file = getattr(module, "__file__", None)
    if file is None or not os.path.samefile(file, path):
        raise TargetError(
            f"{place!r} is imported as {path.stem!r}, and another module of that name "
            f"is here already: {file or 'a part of Python'}; rename one of the files"
        )
    return module


def _near(path: Path) -> str:
    """Say which file may be meant by the name of none."""
    # By their stems, for many of them end in the same.
    endings = (*_DOCUMENTS, ".py", path.suffix)  # the latter before all others
    here = [it for it in path.parent.glob("*") if it.is_file()]
    files = [it for end in endings if end for it in here if it.name.endswith(end)]
    near = {it.stem: it for it in files}
    meant = closest(path.stem, near)
    return "" if meant is None else f" (did you mean '{near[meant]}'?)"


def look_first_in(folder: str) -> None:
    """Make a folder the first place to import from."""
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)


def _import(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise TargetError(_missing(name, error.name)) from None
        raise TargetError(f"{place} cannot be imported: {error_text(error)}") from error
    except SystemExit as error:
        raise TargetError(
            f"{place} ends the program when it is imported ({error_text(error)}); put "
            'what the script does under: if __name__ == "__main__":'
        ) from None
    except Exception as error:
        hint = ""
        if "attempted relative import" in str(error):
            hint = "; name it as package.module:workflow, from the folder above"
        frames = extract_tb(error.__traceback__)
        *_, last = [it for it in frames if is_theirs(it.filename)] or frames
        where = f" ({last.filename}, line {last.lineno})"
        text = f"{place} cannot be imported: {error_text(error)}{where}{hint}"
        raise TargetError(text) from error


def _missing(name: str, part: str) -> str:
    """Say which module is missing, and what may have been meant."""
    parent, _, last = part.rpartition(".")
    text = f"there is no module {part!r}"
    if not parent:
        known = [module.name for module in pkgutil.iter_modules([os.getcwd()])]
        return text + did_you_mean(last, known)
    package = sys.modules.get(parent)
    if part == name and last in vars(package):
        return f"{text} (did you mean '{parent}:{last}'?)"
    paths: Iterable[str] = getattr(package, "__path__", ())
    known = [f"{parent}.{module.name}" for module in pkgutil.iter_modules(paths)]
    return text + did_you_mean(part, known)


def _attribute(module: ModuleType, place: str, name: str) -> Any:
    try:
        return attrgetter(name)(module)
    except AttributeError:
        found = sources(module)
        meant = closest(name, found) or closest(name, vars(module))
        text = f"{place} has no {name!r}"
        if meant is not None:
            text += f" (did you mean {meant!r}?)"
        if found:
            text += f"; its workflows: {', '.join(found)}"
        raise TargetError(text) from None


def build(target: str, source: Any) -> StepFunction:
    """Give the workflow that a target stands for, calling what returns it.

    Raises:
        TargetError: If it is something else, or cannot be built.
    """
    if is_a(source, StepFunction):
        return source
    if not callable(source):
        raise TargetError(
            f"{target} is no workflow but {_a(source)}; name a StepFunction, or a "
            "function that returns one"
        )
    required = _required(source)
    if required is None:
        raise TargetError(f"{target} is called for its workflow, but nobody knows how")
    if required:
        raise TargetError(
            f"{target} is called for its workflow, without arguments, but it requires "
            f"some: {', '.join(required)}"
        )
    try:
        built = source()
    except (Exception, SystemExit) as error:
        raise TargetError(f"{target}() failed: {error_text(error)}") from error
    if not is_a(built, StepFunction):
        raise TargetError(f"{target}() returned {_a(built)}, not a StepFunction")
    return built


def _a(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__!r}"


def _required(function: Callable[..., Any]) -> list[str] | None:
    """Give the parameters that must be given; None if nobody knows."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        it.name
        for it in parameters
        if it.default is it.empty and it.kind not in variable
    ]


def sources(module: ModuleType) -> dict[str, Source]:
    """Give the workflows of a module by name, in the order of the module.

    These are its StepFunctions, and its own functions that can be called without
    arguments and are annotated to return one. What begins with ``_`` is left out.
    """
    found: dict[str, Source] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or any(value is known for known in found.values()):
            continue
        if is_a(value, StepFunction) or _builds(value, module):
            found[name] = value
    return found


def _builds(value: Any, module: ModuleType) -> bool:
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    returned = value.__annotations__.get("return")
    is_meant = returned is StepFunction
    if isinstance(returned, str):
        is_meant = returned.rpartition(".")[2].strip("'\"") == StepFunction.__name__
    return is_meant and not _required(value)
