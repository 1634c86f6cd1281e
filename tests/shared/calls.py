"""What steps call, again and again, and how it fails."""

from __future__ import annotations

import threading


def say(text):
    def saying():
        return text

    return saying


def fail_with(error):
    def failing():
        raise error

    return failing


def add_one(value):
    return value + 1


class PaymentError(Exception):
    pass


class Oops(Exception):
    pass


def same(value):
    return value


def double(value):
    return value * 2


def make_lock(value):
    return threading.Lock()


def decline(value):
    raise PaymentError("no money")


def interrupt(value):
    raise KeyboardInterrupt
