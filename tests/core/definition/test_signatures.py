from __future__ import annotations

import asyncio
import functools
import gc
import math
import operator
import threading
import typing
from functools import partial
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest

import stepfunction
from stepfunction import Context
from stepfunction import Context as Surroundings
from stepfunction import DefinitionError, Outcome, StepExecutionError, StepFunction

GIVEN = "given"


def workflow_of(function, **more):
    return StepFunction("Orders").add_step("A", function, **more).set_start_step("A")


def output_of(function, **more):
    return workflow_of(function, **more).execute(GIVEN).output


def problems_of(function, **more):
    with pytest.raises(DefinitionError) as raised:
        workflow_of(function, **more)
    return raised.value.problems


# --- the input ------------------------------------------------------------------


def one(value):
    return ("one", value)


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


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


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


def test_the_first_step_is_given_none_when_the_execution_has_no_input():
    assert workflow_of(with_default).execute().output is None


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


# --- params ---------------------------------------------------------------------


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


# --- required parameters that nothing fills -------------------------------------


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


# --- the context ----------------------------------------------------------------


def by_annotation(value, surroundings: Context):
    return value, surroundings.step


def by_annotation_first(surroundings: Context, value):
    return value, surroundings.step


def by_annotation_alone(surroundings: Context):
    return surroundings.step


def by_annotation_in_the_middle(value, surroundings: Context, other="other"):
    return value, surroundings.step, other


def by_annotation_keyword(value, *, surroundings: Context):
    return value, surroundings.step


def by_annotation_with_default(value, surroundings: Context | None = None):
    return value, surroundings is not None and surroundings.step


def by_annotation_optional(value, surroundings: typing.Optional[Context] = None):
    return value, surroundings is not None and surroundings.step


def by_annotation_dotted(value, surroundings: stepfunction.Context):
    return value, surroundings.step


def by_annotation_renamed(value, surroundings: Surroundings):
    return value, surroundings.step


def by_annotation_called_context(context: Context, value):
    return value, context.step


def by_name(value, context):
    return value, context.step


def by_name_with_default(value, context=None):
    return value, context is not None and context.step


def by_name_keyword(value, *, context):
    return value, context.step


def by_name_after_any_number(*values, context):
    return *values, context.step


def by_name_keyword_alone(*, context):
    return context.step


class Clerk:
    def method(self, value, surroundings: Context):
        return value, surroundings.step

    def __call__(self, value, context):
        return value, context.step


class Receipt(tuple):
    def __new__(cls, value, context):
        return (value, context.step)


@pytest.mark.parametrize(
    "function, output",
    [
        (by_annotation, (GIVEN, "A")),
        (by_annotation_first, (GIVEN, "A")),
        (by_annotation_alone, "A"),
        (by_annotation_in_the_middle, (GIVEN, "A", "other")),
        (by_annotation_keyword, (GIVEN, "A")),
        (by_annotation_with_default, (GIVEN, "A")),
        (by_annotation_optional, (GIVEN, "A")),
        (by_annotation_dotted, (GIVEN, "A")),
        (by_annotation_renamed, (GIVEN, "A")),
        (by_annotation_called_context, (GIVEN, "A")),
        (by_name, (GIVEN, "A")),
        (by_name_with_default, (GIVEN, "A")),
        (by_name_keyword, (GIVEN, "A")),
        (by_name_after_any_number, (GIVEN, "A")),
        (by_name_keyword_alone, "A"),
        (Clerk().method, (GIVEN, "A")),
        (Clerk(), (GIVEN, "A")),
        (Receipt, (GIVEN, "A")),
        (partial(by_annotation), (GIVEN, "A")),
        (partial(by_annotation, "bound"), ("bound", "A")),
        (partial(Clerk()), (GIVEN, "A")),
        (wrapped(by_annotation), (GIVEN, "A")),
    ],
)
def test_a_function_that_asks_for_the_context_is_given_it(function, output):
    assert output_of(function) == output


def function_with(annotation, **names):
    exec("def function(value, asked): return value, asked.step", names)
    names["function"].__annotations__["asked"] = annotation
    return names["function"]


@pytest.mark.parametrize(
    "annotation",
    [
        Context,
        Context | None,
        None | Context,
        typing.Optional[Context],
        typing.Annotated[Context, "where"],
        "Context",
    ],
    ids=str,
)
def test_an_annotation_asks_for_the_context_as_an_object_too(annotation):
    function = function_with(annotation, Context=Context)

    assert output_of(function) == (GIVEN, "A")


@pytest.mark.parametrize(
    "annotation",
    [
        "Context",
        "stepfunction.Context",
        "Context | None",
        "Optional[Context]",
        "typing.Optional[stepfunction.Context]",
    ],
)
def test_an_annotation_that_only_a_type_checker_can_resolve_asks_too(annotation):
    assert output_of(function_with(annotation)) == (GIVEN, "A")


def test_an_annotation_beside_one_that_cannot_be_resolved_asks_too():
    def function(value: Undefined, asked: Context | None):  # noqa: F821
        return value, asked.step

    assert output_of(function) == (GIVEN, "A")


@pytest.mark.parametrize("annotation", ["ContextVar", "dict[str, Context]", "str"])
def test_another_annotation_does_not_ask_for_the_context(annotation):
    (problem,) = problems_of(function_with(annotation, Context=Context))

    assert problem == "function also requires 'asked'; give it with params={'asked': …}"


@pytest.mark.parametrize(
    "function",
    [
        lambda context: context,
        lambda context="default": context,
        lambda context, /: context,
        lambda context, other="other": context,
        lambda context, *, other="other": context,
    ],
)
def test_a_parameter_called_context_that_comes_first_takes_the_input(function):
    assert output_of(function) == GIVEN


def test_a_parameter_called_context_takes_the_context_where_params_take_the_first():
    def function(value, order, context):
        return value, order, context.step

    assert output_of(function, params={"value": 1}) == (1, GIVEN, "A")


def test_params_bind_before_the_context():
    output = output_of(by_name_with_default, params={"context": None})

    assert output == (GIVEN, False)


def test_a_required_context_that_no_keyword_can_give_is_refused():
    def function(value, context, /):
        return value

    assert problems_of(function) == (
        "test_a_required_context_that_no_keyword_can_give_is_refused.function also "
        "requires 'context'; it is positional only, so wrap the function in one that "
        "gives it",
    )


def test_a_context_before_any_number_of_inputs_is_refused():
    def function(asked: Context, *values):
        return values

    assert problems_of(function) == (
        "test_a_context_before_any_number_of_inputs_is_refused.function takes 'asked' "
        "before *values, which takes the step's input; wrap it in a function that says "
        "what goes where",
    )


def test_each_task_that_asks_is_given_a_context_of_its_own():
    def function(value, context):
        return context.step, context.task

    workflow = workflow_of(
        {"One": function, "Two": function, "Three": one}, parallel=True
    )

    assert workflow.execute(GIVEN).output == {
        "One": ("A", "One"),
        "Two": ("A", "Two"),
        "Three": ("one", GIVEN),
    }


# --- async def ------------------------------------------------------------------


async def fetch(value):
    await asyncio.sleep(0)
    return "fetched", value


async def fetch_with_context(value, context):
    await asyncio.sleep(0)
    return value, context.step


async def fetch_nothing():
    return "nothing"


async def fetch_pair(first, second):
    return first, second


class Fetcher:
    async def __call__(self, value):
        await asyncio.sleep(0)
        return "fetched", value

    async def method(self, value):
        return "fetched", value

    @classmethod
    async def of(cls, value):
        return "fetched", value

    @staticmethod
    async def same(value):
        return "fetched", value


ASYNC_FUNCTIONS = [
    (fetch, ("fetched", GIVEN)),
    (fetch_nothing, "nothing"),
    (fetch_with_context, (GIVEN, "A")),
    (Fetcher(), ("fetched", GIVEN)),
    (Fetcher().method, ("fetched", GIVEN)),
    (Fetcher.of, ("fetched", GIVEN)),
    (Fetcher.same, ("fetched", GIVEN)),
    (partial(fetch), ("fetched", GIVEN)),
    (partial(fetch, "bound"), ("fetched", "bound")),
    (partial(fetch_pair, second=2), (GIVEN, 2)),
    (partial(partial(fetch)), ("fetched", GIVEN)),
    (partial(Fetcher()), ("fetched", GIVEN)),
    (partial(Fetcher().method), ("fetched", GIVEN)),
    (AsyncMock(return_value="mocked"), "mocked"),
    (partial(AsyncMock(return_value="mocked")), "mocked"),
    (AsyncMock(spec=fetch, return_value="mocked"), "mocked"),
    (create_autospec(fetch, return_value="mocked"), "mocked"),
]


@pytest.mark.parametrize("function, output", ASYNC_FUNCTIONS)
def test_an_async_function_runs_to_its_end(function, output):
    assert output_of(function) == output


@pytest.mark.parametrize("function, output", ASYNC_FUNCTIONS)
def test_an_async_function_may_be_a_task(function, output):
    assert output_of({"T": function}, parallel=True) == {"T": output}


def test_an_async_function_runs_on_a_thread_that_is_not_the_callers():
    async def name_of_thread():
        return threading.current_thread()

    assert output_of(name_of_thread) is not threading.current_thread()


def test_an_async_function_runs_where_the_caller_has_a_loop_of_its_own():
    async def main():
        return output_of(fetch)

    assert asyncio.run(main()) == ("fetched", GIVEN)


def test_under_aexecute_an_async_function_runs_on_the_callers_loop():
    async def loop_of_step():
        return asyncio.get_running_loop()

    async def main():
        execution = await workflow_of(loop_of_step).aexecute()
        return execution.output is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_the_failure_of_an_async_function_is_its_steps():
    error = ValueError("no such page")

    async def fails(value):
        raise error

    with pytest.raises(StepExecutionError) as raised:
        workflow_of(fails).execute()

    assert raised.value.__cause__ is error


# --- coroutines that nobody expects ---------------------------------------------


def returns_coroutine(value):
    return fetch(value)


class ReturnsCoroutine:
    def __call__(self, value):
        return fetch(value)


@pytest.fixture
def unraisable(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    return seen


STRAYS = pytest.mark.parametrize(
    "function, name",
    [
        (returns_coroutine, "returns_coroutine"),
        (partial(returns_coroutine), "returns_coroutine"),
        (ReturnsCoroutine(), "ReturnsCoroutine"),
        (wrapped(fetch), "fetch"),
    ],
)


@STRAYS
@pytest.mark.parametrize("executor", [None, "inline", "thread"])
def test_a_plain_function_that_returns_a_coroutine_fails_its_step(
    function, name, executor, recwarn, unraisable
):
    with pytest.raises(StepExecutionError) as raised:
        workflow_of(function, executor=executor).execute()

    assert type(raised.value.__cause__) is TypeError
    assert str(raised.value.__cause__) == (
        f"{name} is a plain function but returned a coroutine; define it with "
        "'async def', or await inside it and return the result"
    )
    gc.collect()
    assert not recwarn.list and not unraisable


@STRAYS
def test_a_task_that_returns_a_coroutine_fails(function, name, recwarn, unraisable):
    execution = workflow_of({"T": function}, parallel=True).execute()

    (failure,) = execution.failures
    assert (failure.task, failure.outcome) == ("T", Outcome.FAILED)
    assert str(failure.error) == (
        f"{name} is a plain function but returned a coroutine; define it with "
        "'async def', or await inside it and return the result"
    )
    gc.collect()
    assert not recwarn.list and not unraisable


# --- mocks ----------------------------------------------------------------------


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
