"""Whereabouts: which part of a value it is that cannot be pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepfunction.core.members import members, suffix

_DEEPEST = 50


def locate(value: Any, root: str, pack: Callable[[Any], object]) -> str:
    """Give the way to the innermost part of a value that cannot be packed.

    Args:
        value: What cannot be packed.
        root: What the value is called: ``"input"``.
        pack: Packs a part of it, or raises.

    Returns:
        An expression such as ``"input.connection['lock']"``; the root alone if it is
        the value itself, or if its parts say nothing.
    """
    way, met = root, [value]  # which is kept, for by identity alone they are compared
    for _ in range(_DEEPEST):
        try:
            for key, part in members(value):
                if all(part is not one for one in met) and _fails(part, pack):
                    way, value = way + suffix(key), part
                    met.append(part)
                    break
            else:
                return way
        except Exception:  # a reduce, a repr or a mapping of the user's own fails
            return way
    return root  # nested too deep: that itself is what is wrong


def _fails(part: Any, pack: Callable[[Any], object]) -> bool:
    try:
        pack(part)
    except Exception:
        return True
    return False
