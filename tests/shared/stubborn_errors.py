"""Exceptions that refuse what one asks of exceptions, or answer with something else."""

from __future__ import annotations


def refuse(*given, **named):
    raise RuntimeError("refused")


REFUSALS = {
    "takes no traceback": {"with_traceback": refuse},
    "has no with_traceback": {"with_traceback": None},
    "is frozen": {"__setattr__": refuse},
    "has no attribute": {"__getattribute__": refuse},
    "has no text": {"__str__": refuse, "__repr__": refuse},
    "is no text": {"__str__": lambda self: 7, "__repr__": lambda self: None},
    "has no truth": {"__bool__": refuse, "__len__": refuse},
    "is false": {"__bool__": lambda self: False},
    "is equal to nothing": {"__eq__": refuse, "__ne__": refuse, "__hash__": refuse},
    "cannot be hashed": {"__hash__": None},
    "has no class": {"__class__": property(refuse)},
    "says it is an interrupt": {"__class__": property(lambda self: KeyboardInterrupt)},
    "says it is a number": {"__class__": property(lambda self: int)},
    "has no causes": {
        name: property(refuse)
        for name in ("__cause__", "__context__", "__traceback__", "__notes__")
    },
    "has a traceback of its own": {"__traceback__": property(lambda self: "none")},
    "takes no notes": {"__notes__": 7, "add_note": None},
    "has no arguments": {"args": property(refuse)},
    "cannot be pickled": {"__reduce__": refuse, "__reduce_ex__": refuse},
    "has no format": {"__format__": refuse},
    "has slots": {"__slots__": ()},
}


class Unnamed(type):
    """The class of a class that does not tell its name."""

    __name__ = property(refuse)
    __repr__ = refuse
    __instancecheck__ = refuse
    __subclasscheck__ = refuse


def stubborn(how):
    """Give an exception that refuses one thing."""
    if how == "is of a class without a name":
        return Unnamed("Stubborn", (Exception,), {})("stubborn")
    if how == "comes from itself":
        error, other = ValueError("stubborn"), ValueError("other")
        error.__cause__, other.__cause__ = other, error
        error.__context__, other.__context__ = other, error
        return error
    return type("Stubborn", (Exception,), dict(REFUSALS[how]))("stubborn")


STUBBORN = [*REFUSALS, "is of a class without a name", "comes from itself"]
