"""Errors that are hard to send from a process to another."""

from __future__ import annotations


class TwoArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class KeywordOnly(Exception):
    def __init__(self, *, field):
        super().__init__(f"bad {field}")
        self.field = field


class LinesAndNumbers(OSError):
    def __init__(self, number, text, line):
        super().__init__(number, text)
        self.line = line


class ReduceRaises(Exception):
    def __reduce__(self):
        raise RuntimeError("no reduce")


def local():
    class Local(Exception):
        pass

    return Local("from inside")
