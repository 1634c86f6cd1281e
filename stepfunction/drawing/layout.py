"""Layout: DOT text made into a picture by Graphviz, in whichever form it is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from stepfunction.core.errors import DrawingError
from stepfunction.core.logger import logger
from stepfunction.core.wording import did_you_mean

FORMATS = ("svg", "png", "pdf", "dot")


def has_layouter() -> bool:
    """Whether there is a Graphviz here."""
    return shutil.which("dot") is not None or find_spec("pygraphviz") is not None


def laid_out(text: str, kind: str) -> bytes:
    """Give the picture that a DOT text describes.

    Args:
        text: The DOT text.
        kind: One of ``FORMATS``.

    Raises:
        DrawingError: If Graphviz is missing or fails.
    """
    if kind == "dot":
        return text.encode()
    if shutil.which("dot") is not None:
        return _laid_out_by_program(text, kind)
    library = find_spec("pygraphviz")
    if library is not None:
        if library.origin is None or not sys.executable or hasattr(sys, "frozen"):
            return _laid_out_in_process(text, kind)
        home = os.path.dirname(os.path.dirname(library.origin))
        return _laid_out_by_library(text, kind, home)
    raise _no_layouter(kind)


def _no_layouter(kind: str) -> DrawingError:
    return DrawingError(
        f"drawing {kind.upper()} needs Graphviz, and there is none: "
        "'pip install pygraphviz' brings it along, or install your system's "
        "graphviz; format='dot' needs neither"
    )


def target_of(
    name: str, path: str | os.PathLike[str] | None, format: str | None
) -> tuple[Path, str]:
    """Say which file to write, in which format.

    Args:
        name: The name of the workflow.
        path: As in ``StepFunction.visualize``.
        format: As in ``StepFunction.visualize``.

    Raises:
        DrawingError: If the format is unknown or cannot be had here.
    """
    can_lay_out = has_layouter()
    kind = format.lower() if format is not None else None
    if kind is None and path is not None:
        kind = Path(path).suffix[1:].lower() or "svg"
    if kind is None and not can_lay_out:
        kind = "dot"
        logger().warning(
            "no Graphviz found, so the drawing of %r is written as DOT; "
            "install Graphviz, or the Python package pygraphviz, for SVG",
            name,
        )
    kind = "svg" if kind is None else kind
    if kind not in FORMATS:
        raise DrawingError(
            f"cannot draw {kind!r}{did_you_mean(kind, FORMATS)}; "
            f"the formats are {', '.join(FORMATS)}"
        )
    if kind != "dot" and not can_lay_out:
        raise _no_layouter(kind)
    return Path(path if path is not None else f"{safe_file_name(name)}.{kind}"), kind


def safe_file_name(name: str) -> str:
    """Give a name without what file systems object to."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._")
    return safe.encode()[:100].decode(errors="ignore") or "workflow"


_SECONDS_TO_DRAW = 60


def _laid_out_by_program(text: str, kind: str) -> bytes:
    try:
        run = _run(["dot", f"-T{kind}"], text)
    except OSError as error:
        raise DrawingError(f"Graphviz's dot cannot be run: {error}") from error
    if run.returncode:
        raise DrawingError(
            f"Graphviz's dot could not draw {kind} and ended with exit code "
            f"{run.returncode}: {_said(run)}"
        )
    _log(run)
    return run.stdout


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            timeout=_SECONDS_TO_DRAW,
        )
    except subprocess.TimeoutExpired as error:
        raise DrawingError(
            f"Graphviz's dot has not drawn this in {_SECONDS_TO_DRAW} s; draw the "
            "nested workflows by themselves, or use to_mermaid()"
        ) from error


def _said(run: subprocess.CompletedProcess[bytes]) -> str:
    return run.stderr.decode(errors="replace").strip()


def _log(run: subprocess.CompletedProcess[bytes]) -> None:
    """Log what Graphviz, or what it draws texts with, warned of."""
    said = _said(run)
    if said:
        logger().warning("Graphviz said: %s", said)


def _laid_out_by_library(text: str, kind: str, home: str) -> bytes:
    """Draw in a process of its own, for the library of Graphviz stops all threads.

    What it writes to standard error is seen there, and it can be given up.

    Args:
        text: The DOT text.
        kind: One of ``FORMATS``.
        home: The folder that has pygraphviz.
    """
    command = [sys.executable, "-I", "-S", "-c", _DRAWS, home, kind]
    try:
        run = _run(command, text)
    except OSError:  # as where no process can be started
        return _laid_out_in_process(text, kind)
    if run.returncode == 0:
        _log(run)
        return run.stdout
    if run.returncode == _REFUSES:
        raise DrawingError(f"pygraphviz could not draw {kind}: {_said(run)}")
    if run.returncode < 0:
        raise DrawingError(
            f"pygraphviz could not draw {kind}: its process was ended by signal "
            f"{-run.returncode}"
        )
    # It may not be a Python that was run, or one that finds less than this one.
    return _laid_out_in_process(text, kind)


_REFUSES = 81
_DRAWS = f"""
import sys
sys.path.append(sys.argv[1])
import pygraphviz
drawing = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
try:
    picture = drawing.draw(format=sys.argv[2], prog="dot")
except (OSError, ValueError) as error:
    sys.stderr.write(str(error))
    sys.exit({_REFUSES})
sys.stdout.buffer.write(picture)
"""
_in_graphviz = threading.Lock()  # its library is not made for two threads at once


def _laid_out_in_process(text: str, kind: str) -> bytes:
    try:
        import pygraphviz
    except ImportError as error:
        raise DrawingError(
            f"pygraphviz is installed but cannot be imported: {error}; install it "
            "again, or Graphviz itself"
        ) from error

    with _in_graphviz:
        drawing = pygraphviz.AGraph(string=text)
        try:
            return cast(bytes, drawing.draw(format=kind, prog="dot"))
        except (OSError, ValueError) as error:
            raise DrawingError(f"pygraphviz could not draw {kind}: {error}") from error
        finally:
            drawing.close()
