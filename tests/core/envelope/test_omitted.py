from __future__ import annotations

import pickle
import threading

import pytest

from stepfunction import Omitted, StepFunction


def test_what_stands_for_a_value_is_found_in_a_pickled_execution():
    lock = threading.Lock()
    workflow = StepFunction("W").add_step("Give", lambda: lock).set_start_step("Give")
    copy = pickle.loads(pickle.dumps(workflow.execute()))
    assert copy.output == Omitted(repr(lock))
    assert copy.output.text == repr(lock)


def test_it_can_be_pickled_itself():
    assert pickle.loads(pickle.dumps(Omitted("<it>"))) == Omitted("<it>")


def test_its_repr_says_what_it_stands_for():
    assert repr(Omitted("<it>")) == "Omitted(text='<it>')"


def test_it_is_no_tuple():
    with pytest.raises(TypeError):
        tuple(Omitted("<it>"))
