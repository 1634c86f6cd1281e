"""Tenants: something that a thread keeps for itself, and what carries it elsewhere."""

import threading
from contextlib import contextmanager

from stepfunction import Surroundings

_here = threading.local()
# What has been entered and left in this process.
seen = []


def tenant():
    return getattr(_here, "name", None)


@contextmanager
def as_tenant(name):
    before = tenant()
    _here.name = name
    try:
        yield
    finally:
        _here.name = before


class Tenant(Surroundings):
    """The caller's tenant."""

    def take(self):
        return tenant()

    @contextmanager
    def enter(self, taken):
        seen.append("entered")
        with as_tenant(taken):
            yield
        seen.append("left")


class Marked(Surroundings):
    """What notes its name."""

    def __init__(self, name):
        self.name = name

    @contextmanager
    def enter(self, taken):
        with as_tenant(f"{tenant() or ''}{self.name}"):
            yield


class Refusing(Surroundings):
    """What raises at one of its moments."""

    def __init__(self, moment):
        self.moment = moment

    def take(self):
        if self.moment == "take":
            raise LookupError(self.moment)

    @contextmanager
    def enter(self, taken):
        if self.moment == "enter":
            raise LookupError(self.moment)
        yield
        if self.moment == "leave":
            raise LookupError(self.moment)


class Swallowing(Surroundings):
    """What keeps errors to itself."""

    @contextmanager
    def enter(self, taken):
        try:
            yield
        except ValueError:
            pass


def tell(_=None):
    return tenant()


def fail(_=None):
    raise ValueError("no")


class NeedsTenant:
    """A value that can be unpickled only where there is a tenant."""

    def __reduce__(self):
        return _found, ()


def _found():
    if tenant() is None:
        raise LookupError("nobody")
    return tenant()


def give_back(value):
    return value


class TellsTenant:
    """A value that is pickled as the name of the tenant."""

    def __reduce__(self):
        return str, (tenant(),)


def give_what_tells_tenant(_):
    return TellsTenant()
