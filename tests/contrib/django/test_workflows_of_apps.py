from __future__ import annotations

import pytest
from shop import workflows

from stepfunction import StepFunction
from stepfunction.contrib.django import get_workflow, get_workflows


def test_the_workflows_of_an_app_are_known_by_its_label_and_their_names():
    assert list(get_workflows()) == ["shop.Quote", "shop.Sale", "shop.Nightly"]
    assert get_workflow("shop.Quote") is workflows.quote


def test_what_a_function_returns_is_always_the_same_workflow():
    assert get_workflow("shop.Nightly") is get_workflow("shop.Nightly")


def test_a_mistyped_name_is_told_what_may_be_meant():
    with pytest.raises(LookupError, match=r"did you mean 'shop\.Quote'\?"):
        get_workflow("shop.Qoute")


def test_what_begins_with_an_underscore_is_not_known(monkeypatch):
    monkeypatch.setattr(workflows, "_inner", StepFunction("Inner"), raising=False)
    assert "shop.Inner" not in get_workflows()


def test_a_function_that_fails_hides_no_other_workflow(monkeypatch):
    def broken() -> StepFunction:
        raise OSError("no key")

    broken.__module__ = workflows.__name__
    monkeypatch.setattr(workflows, "broken", broken, raising=False)
    assert list(get_workflows()) == ["shop.Quote", "shop.Sale", "shop.Nightly"]
