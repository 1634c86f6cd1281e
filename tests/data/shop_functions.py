"""A module whose functions documents name by import strings."""

import os
from functools import partial
from os import path as paths
from pathlib import Path


def charge(order):
    return order


def scale(value, factor=1):
    return value * factor


class Till:
    @staticmethod
    def open(order):
        return order

    @classmethod
    def close(cls, order):
        return order

    @property
    def drawer(self):
        raise AssertionError("loading looks up nothing that runs code")

    def count(self, order):
        return order


class Declined(Exception):
    pass


class Loud(type):
    def __getattr__(cls, name):
        raise AssertionError("loading looks up nothing that runs code")


class Alarm(metaclass=Loud):
    pass


till = Till()
triple = partial(scale, factor=3)
silent = lambda order: order
RATE = 3
join, system, home = paths.join, os.system, Path


def __getattr__(name):
    if name.startswith("__"):  # as the import itself asks for
        raise AttributeError(name)
    raise AssertionError("loading looks up nothing that runs code")
