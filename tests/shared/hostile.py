"""Values and errors that refuse whatever they are asked."""

from __future__ import annotations


class Asked(RuntimeError):
    """A value was asked for what it has not."""


class Hostile:
    """A value without truth, equality, hash, length, ``repr`` or class of its own."""

    def _refuse(self, *_):
        raise Asked

    __eq__ = __ne__ = __lt__ = __bool__ = __len__ = __hash__ = __contains__ = _refuse
    __iter__ = __index__ = __length_hint__ = __repr__ = __str__ = __format__ = _refuse
    __class__ = property(_refuse)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise Asked(name)


class HostileClass(type):
    """The class of classes of which nothing can be asked."""

    def _refuse(cls, *_):
        raise Asked

    __eq__ = __hash__ = __bool__ = __repr__ = __instancecheck__ = _refuse
    __subclasscheck__ = _refuse
    __name__ = property(_refuse)

    def __getattribute__(cls, name):
        if name == "__mro__":  # for which issubclass() asks
            return type.__getattribute__(cls, name)
        raise Asked(name)


class HostileError(Exception):
    """An exception of which nothing can be asked, and to which nothing can be added."""

    def _refuse(self, *_):
        raise Asked

    __eq__ = __bool__ = __len__ = __hash__ = __str__ = __repr__ = __reduce__ = _refuse
    __getattr__ = __setattr__ = add_note = with_traceback = _refuse
    __class__ = property(_refuse)


class EmptyError(Exception):
    """An exception that is false."""

    def __len__(self):
        return 0


def fail_hostile(*_):
    raise HostileError("boom")


def fail_empty(*_):
    raise EmptyError("boom")
