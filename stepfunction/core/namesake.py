"""Namesake: another project on the package index, whose package has this one's name.

Its distribution is called ``stepfunction`` and this one ``stepfunction-sync``, so pip
installs one over the other: some of the files are then of this, some of that.
"""

from __future__ import annotations

from os.path import dirname, isdir, join

DISTRIBUTION = "stepfunction-sync"

_HOME = dirname(dirname(__file__))
_REPAIR = (
    "the package index has another project of the name 'stepfunction', and the two "
    "cannot be installed together; take both out, as by 'pip uninstall -y "
    f"stepfunction {DISTRIBUTION}', and install {DISTRIBUTION} again"
)


def mixture() -> str | None:
    """Say how to repair a package whose files are partly those of the other.

    Returns:
        The text; None where nothing is mixed.
    """
    import stepfunction

    # Its package of this name comes before the module, and its first file is empty.
    is_hidden = isdir(join(_HOME, "core", "step_function"))
    if is_hidden or not hasattr(stepfunction, "__version__"):
        return f"the files in {_HOME} are those of two projects: {_REPAIR}"
    return None


def neighbour() -> str | None:
    """Say how to repair an environment in which the other is installed too.

    Returns:
        The text; None where it is not.
    """
    from importlib.metadata import PackageNotFoundError, distribution  # dear

    try:
        found = distribution("stepfunction")
    except PackageNotFoundError:
        return None
    # A checkout of this project of when it was called so has none of its files here.
    if "stepfunction/__init__.py," not in (found.read_text("RECORD") or ""):
        return None
    return f"stepfunction {found.version} is installed here too: {_REPAIR}"
