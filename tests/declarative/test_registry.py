from __future__ import annotations

import copy
import pickle

import pytest
from shared.documents import Till, charge

from stepfunction import DefinitionError, FunctionRegistry


def test_a_function_is_registered_by_its_own_name():
    registry = FunctionRegistry()
    assert registry.register(charge) is charge
    assert dict(registry) == {"charge": charge}


def test_a_decorator_gives_the_function_back():
    registry = FunctionRegistry()

    @registry.register
    def plain(order): ...

    @registry.register("other")
    def named(order): ...

    assert dict(registry) == {"plain": plain, "other": named}


def test_what_has_no_name_is_given_one():
    registry, till = FunctionRegistry(), Till()
    registry.register("is large", lambda order: order > 3)
    registry.register("till", till)
    assert list(registry) == ["is large", "till"]
    assert registry["till"] is till


def test_a_registry_may_begin_with_a_mapping():
    assert dict(FunctionRegistry({"pay": charge})) == {"pay": charge}


@pytest.mark.parametrize("function", [charge, len])
def test_a_name_is_given_once(function):
    registry = FunctionRegistry({"charge": charge})
    with pytest.raises(DefinitionError, match="'charge' is registered already"):
        registry.register("charge", function)
    assert dict(registry) == {"charge": charge}


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((lambda order: order,), "has no name of its own; give it one with register"),
        ((Till(),), "has no name of its own; give it one with register"),
        ((3,), "3 is no name, and no function either"),
        ((3, charge), "the name of a function is a text, not 3"),
        (("", charge), "the name of a function is a text, not ''"),
        (("pay", 3), "'pay' is to be 3, which cannot be called"),
    ],
)
def test_what_cannot_be_registered_is_refused(arguments, text):
    with pytest.raises(DefinitionError, match=text.replace("(", r"\(")):
        FunctionRegistry().register(*arguments)


@pytest.mark.parametrize("functions", [[charge], "charge", 3])
def test_what_is_no_mapping_is_refused(functions):
    with pytest.raises(DefinitionError, match="functions is a mapping of name to"):
        FunctionRegistry(functions)


def test_a_method_is_known_each_time_that_it_is_asked_for():
    till, items = Till(), []
    registry = FunctionRegistry({"open": till.open, "add": items.append, "len": len})
    found = (till.open, items.append, len, Till().open, [].append, sum)
    assert [registry.name_of(it) for it in found] == [
        "open",
        "add",
        "len",
        None,
        None,
        None,
    ]


def test_a_registry_says_what_it_has():
    assert repr(FunctionRegistry()) == "<FunctionRegistry of nothing>"
    assert repr(FunctionRegistry({"a": len, "b": sum})) == "<FunctionRegistry of a, b>"


def remade(registry):
    return pickle.loads(pickle.dumps(registry))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, remade])
def test_a_copy_of_a_registry_is_one_of_its_own(make):
    registry = FunctionRegistry({"charge": charge, "till": Till()})
    made = make(registry)
    made.register("other", len)
    assert (list(registry), list(made)) == (["charge", "till"], [*registry, "other"])
    assert [made.name_of(function) for function in made.values()] == list(made)
