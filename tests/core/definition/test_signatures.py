from __future__ import annotations

import math
import operator
from functools import partial
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
from shared.called import GIVEN, one, output_of, problems_of, workflow_of, wrapped

from stepfunction import StepExecutionError, StepFunction

# --- the input ----------------------------------------------------------------------


def none():
    return "none"


def with_default(value="default"):
    return value


def two_defaults(value="default", other="other"):
    return value, other


def positional_only(value, /):
    return value


def any_number(*values):
    return values


def one_and_more(value, *more):
    return value, more


def keyword_only(*, value="default"):
    return value


def any_keywords(**keywords):
    return keywords


class Basket:
    def __init__(self, content):
        self.content = content

    def add(self, value):
        return [self.content, value]

    @classmethod
    def of(cls, value):
        return cls.__name__, value

    @staticmethod
    def same(value):
        return value


class Empty:
    pass


class Adder:
    def __call__(self, value):
        return "added", value


class Stamper:
    def __call__(self):
        return "stamped"


def pair(first, second):
    return first, second


@pytest.mark.parametrize(
    "function, output",
    [
        (one, ("one", GIVEN)),
        (none, "none"),
        (with_default, GIVEN),
        (two_defaults, (GIVEN, "other")),
        (positional_only, GIVEN),
        (any_number, (GIVEN,)),
        (one_and_more, (GIVEN, ())),
        (keyword_only, "default"),
        (any_keywords, {}),
        (lambda value: value, GIVEN),
        (lambda: "none", "none"),
        (Basket("old").add, ["old", GIVEN]),
        (Basket.of, ("Basket", GIVEN)),
        (Basket.same, GIVEN),
        (Adder(), ("added", GIVEN)),
        (Stamper(), "stamped"),
        (partial(one), ("one", GIVEN)),
        (partial(pair, "bound"), ("bound", GIVEN)),
        (partial(pair, second="bound"), (GIVEN, "bound")),
        (partial(one, "bound"), ("one", "bound")),
        (partial(Adder()), ("added", GIVEN)),
        (partial(partial(pair, "bound")), ("bound", GIVEN)),
        (wrapped(one), ("one", GIVEN)),
        (wrapped(none), "none"),
    ],
)
def test_the_first_free_positional_parameter_takes_the_input(function, output):
    assert output_of(function) == output


def test_a_class_is_called_like_a_function():
    assert output_of(Basket).content == GIVEN


def test_a_class_that_takes_nothing_is_called_without_the_input():
    assert type(output_of(Empty)) is Empty


@pytest.mark.parametrize(
    "function, output",
    [
        (len, 5),
        (str.upper, "GIVEN"),
        (GIVEN.join, "ggivenigivenvgivenegivenn"),
        (sorted, ["e", "g", "i", "n", "v"]),
        (list, ["g", "i", "v", "e", "n"]),
        (operator.itemgetter(0), "g"),
        (operator.methodcaller("upper"), "GIVEN"),
    ],
)
def test_a_builtin_with_a_signature_is_given_the_input(function, output):
    assert output_of(function) == output


@pytest.mark.parametrize(
    "function, output",
    [(str, GIVEN), (max, "v"), (dict.fromkeys, dict.fromkeys(GIVEN)), (type, str)],
)
def test_a_builtin_without_a_signature_is_given_one_argument(function, output):
    assert output_of(function) == output


def test_a_builtin_without_a_signature_may_be_given_params():
    workflow = workflow_of(int, params={"base": 2})

    assert workflow.execute("101").output == 5


@pytest.mark.parametrize("value", [None, (), (1, 2), {"value": 3}])
def test_the_input_is_one_argument_whatever_it_is(value):
    assert workflow_of(one).execute(value).output == ("one", value)


def test_a_first_step_that_requires_an_input_is_given_none_where_there_is_none():
    assert workflow_of(one).execute().output == ("one", None)


def test_a_default_of_the_first_step_gives_way_to_an_input_of_none():
    assert workflow_of(with_default).execute().output == "default"
    assert workflow_of(with_default).execute(None).output is None


def test_each_step_is_given_the_output_of_the_one_before():
    workflow = StepFunction("Orders").add_step("A", str.upper, next_step="B")
    workflow.add_step("B", one).set_start_step("A")

    assert workflow.execute(GIVEN).output == ("one", "GIVEN")


def test_a_type_error_of_the_function_itself_is_its_failure_and_no_second_call():
    calls = []

    def fails(value):
        calls.append(value)
        raise TypeError("fails() takes 0 positional arguments but 1 was given")

    with pytest.raises(StepExecutionError, match="takes 0 positional"):
        workflow_of(fails).execute(GIVEN)
    assert calls == [GIVEN]


def test_the_signature_is_looked_at_when_the_step_is_added_and_never_again():
    calls = []

    def function(value):
        calls.append(value)

    workflow = workflow_of(function)
    function.__signature__ = None

    workflow.execute(GIVEN)
    assert calls == [GIVEN]


# --- params -------------------------------------------------------------------------


def three(first, second, third="third"):
    return first, second, third


def options(value, **more):
    return value, more


def positional_and_options(value, /, **more):
    return value, more


def items_and_options(*items, **more):
    return items, more


@pytest.mark.parametrize(
    "function, params, output",
    [
        (pair, {"second": 2}, (GIVEN, 2)),
        (pair, {"first": 1}, (1, GIVEN)),
        (pair, {"first": 1, "second": 2}, (1, 2)),
        (three, {"first": 1}, (1, GIVEN, "third")),
        (three, {"first": 1, "third": 3}, (1, GIVEN, 3)),
        (three, {"first": 1, "second": 2}, (1, 2, GIVEN)),
        (three, {"second": 2, "third": 3}, (GIVEN, 2, 3)),
        (with_default, {"value": 1}, 1),
        (keyword_only, {"value": 1}, 1),
        (any_keywords, {"value": 1}, {"value": 1}),
        (options, {"value": 1}, (1, {})),
        (options, {"more": 1}, (GIVEN, {"more": 1})),
        (positional_and_options, {"more": 1}, (GIVEN, {"more": 1})),
        (positional_and_options, {"value": 1}, (GIVEN, {"value": 1})),
        (items_and_options, {"items": 1}, ((GIVEN,), {"items": 1})),
        (Basket("old").add, {"value": 1}, ["old", 1]),
        (partial(three, 1), {"third": 3}, (1, GIVEN, 3)),
        (partial(three, second=2), {"first": 1}, (1, 2, "third")),
        (partial(three, second=2), {"second": 3}, (GIVEN, 3, "third")),
        (sorted, {"reverse": True}, ["v", "n", "i", "g", "e"]),
    ],
)
def test_params_bind_before_the_input(function, params, output):
    assert output_of(function, params=params) == output


def test_params_may_be_changed_once_the_step_is_added():
    params = {"second": 2}
    workflow = workflow_of(pair, params=params)

    params["second"] = 3

    assert workflow.execute(GIVEN).output == (GIVEN, 2)


def test_a_function_that_changes_a_keyword_of_its_own_changes_no_later_call():
    def count(value, **more):
        more["seen"] = more.get("seen", 0) + 1
        return more["seen"]

    workflow = workflow_of(count, params={"start": 0})

    assert [workflow.execute().output for _ in range(2)] == [1, 1]


def test_params_go_to_every_task_of_a_parallel_step():
    workflow = workflow_of(
        {"One": pair, "Two": three, "Three": any_keywords},
        parallel=True,
        params={"second": 2},
    )

    assert workflow.execute(GIVEN).output == {
        "One": (GIVEN, 2),
        "Two": (GIVEN, 2, "third"),
        "Three": {"second": 2},
    }


@pytest.mark.parametrize(
    "function, params, problem",
    [
        (
            pair,
            {"second": 2, "third": 3},
            "params has 'third', but pair has no parameter of that name to give by "
            "keyword",
        ),
        (
            pair,
            {"second": 2, "frist": 3},
            "params has 'frist', but pair has no parameter of that name to give by "
            "keyword (did you mean 'first'?)",
        ),
        (
            none,
            {"value": 3},
            "params has 'value', but none has no parameter of that name to give by "
            "keyword",
        ),
        (
            positional_only,
            {"value": 3},
            "params has 'value', but positional_only has no parameter of that name to "
            "give by keyword",
        ),
        (
            any_number,
            {"values": 3},
            "params has 'values', but any_number has no parameter of that name to give "
            "by keyword",
        ),
        (
            one_and_more,
            {"value": 3},
            "one_and_more takes 'value' before *more, which takes the step's input; "
            "wrap it in a function that says what goes where",
        ),
        (
            partial(pair, 1),
            {"first": 3},
            "params has 'first', but pair has no parameter of that name to give by "
            "keyword",
        ),
    ],
)
def test_params_that_fit_no_parameter_are_refused(function, params, problem):
    assert problems_of(function, params=params) == (problem,)


# --- required parameters that nothing fills -----------------------------------------


def requires_keyword(value, *, rate):
    return value, rate


def requires_positional(value, rate, /):
    return value, rate


class Pricer:
    def __init__(self, prices, rate):
        self.prices = prices

    def __call__(self, value, rate):
        return value, rate

    def price(self, value, rate):
        return value, rate


@pytest.mark.parametrize(
    "function, name",
    [
        (requires_keyword, "requires_keyword"),
        (Pricer, "Pricer"),
        (Pricer({}, 1), "Pricer"),
        (Pricer({}, 1).price, "Pricer.price"),
        (partial(requires_keyword), "requires_keyword"),
        (wrapped(requires_keyword), "requires_keyword"),
    ],
)
def test_a_required_parameter_that_nothing_fills_is_refused(function, name):
    assert problems_of(function) == (
        f"{name} also requires 'rate'; give it with params={{'rate': …}}",
    )


def test_every_required_parameter_that_nothing_fills_is_named():
    assert problems_of(lambda value, rate, tax, *, day: value) == (
        "test_every_required_parameter_that_nothing_fills_is_named.<lambda> also "
        "requires 'rate'; give it with params={'rate': …}",
        "test_every_required_parameter_that_nothing_fills_is_named.<lambda> also "
        "requires 'tax'; give it with params={'tax': …}",
        "test_every_required_parameter_that_nothing_fills_is_named.<lambda> also "
        "requires 'day'; give it with params={'day': …}",
    )


@pytest.mark.parametrize(
    "function, name, parameter",
    [
        (requires_positional, "requires_positional", "rate"),
        (math.pow, "pow", "y"),
        (str.replace, "str.replace", "old"),
    ],
)
def test_a_required_parameter_that_no_keyword_can_fill_is_refused(
    function, name, parameter
):
    assert problems_of(function)[0] == (
        f"{name} also requires {parameter!r}; it is positional only, so wrap the "
        "function in one that gives it"
    )


def test_a_required_parameter_is_no_problem_once_params_fill_it():
    assert output_of(requires_keyword, params={"rate": 2}) == (GIVEN, 2)


# --- mocks --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Mock, MagicMock])
def test_a_mock_is_given_the_input(make):
    mock = make(return_value="mocked")

    assert output_of(mock) == "mocked"
    mock.assert_called_once_with(GIVEN)


@pytest.mark.parametrize(
    "make", [partial(Mock, spec=pair), partial(create_autospec, pair)]
)
def test_a_mock_of_a_function_is_called_as_the_function_would_be(make):
    mock = make(return_value="mocked")

    assert output_of(mock, params={"second": 2}) == "mocked"
    mock.assert_called_once_with(GIVEN, second=2)


def test_an_async_mock_is_awaited_with_the_input():
    mock = AsyncMock(return_value="mocked")

    assert output_of(mock) == "mocked"
    mock.assert_awaited_once_with(GIVEN)
