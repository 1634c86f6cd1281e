from __future__ import annotations

import copy
import pickle
import typing
from functools import partial

import pytest
from shared.called import GIVEN, one, output_of, problems_of, workflow_of, wrapped

import stepfunction
from stepfunction import Context
from stepfunction import Context as Surroundings
from stepfunction import StepExecutionError


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


def test_what_takes_any_keywords_as_context_is_given_none():
    workflow = workflow_of(lambda value, **context: (value, context))

    assert workflow.execute(GIVEN).output == (GIVEN, {})


def test_what_an_annotation_holds_is_not_asked_for_equality():
    class Ambiguous:
        def __eq__(self, other):
            raise ValueError("the truth value is ambiguous")

    def function(value: typing.Annotated[int, Ambiguous()], other=1):
        return value

    assert output_of(function) is GIVEN


def fails_for_an_attribute(context):
    return context.execution_id


def fails_for_a_key(context):
    return context["Fetch"]


def fails_for_a_type(context, /):
    return context + 1


async def fails_later(context):
    return context.execution_id


def fails_for_its_own_reason(context):
    raise OSError("closed")


def fails_beside(order, context):
    return order.price


def note_of(error):
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("executor", ["inline", "process"])
@pytest.mark.parametrize(
    "function, value",
    [
        (fails_for_an_attribute, 17),
        (fails_for_a_key, {"order": 17}),
        (fails_for_a_type, "17"),
        (fails_later, [17]),
        (partial(fails_for_a_key), {}),
    ],
)
def test_what_fails_with_its_input_as_context_says_so(function, value, executor):
    workflow = workflow_of(function, executor=executor)
    with pytest.raises(StepExecutionError) as caught:
        workflow.execute(value)
    (note,) = note_of(caught.value.__cause__)
    name = getattr(function, "func", function).__name__
    kind = type(value).__name__
    assert note == (
        f"{name} was given its input, a value of the class {kind}, as 'context', its "
        "first free parameter; annotate it Context to be given the Context"
    )


def test_the_log_says_that_an_input_was_given_as_context(caplog):
    with pytest.raises(StepExecutionError):
        workflow_of(fails_for_an_attribute).execute(17)
    assert "annotate it Context to be given the Context" in caplog.text


@pytest.mark.parametrize("function", [fails_for_its_own_reason, fails_beside])
def test_what_fails_for_another_reason_says_nothing_of_the_context(function):
    with pytest.raises(StepExecutionError) as caught:
        workflow_of(function).execute(17)
    assert note_of(caught.value.__cause__) == []


def test_a_default_that_no_input_was_given_for_says_nothing_of_the_context():
    def function(context=None):
        return context.step

    with pytest.raises(StepExecutionError) as caught:
        workflow_of(function).execute()
    assert note_of(caught.value.__cause__) == []


def test_a_workflow_whose_input_goes_to_context_is_written_and_copied():
    workflow = workflow_of(fails_for_a_key)
    call = workflow.compile().steps["A"].action
    assert pickle.loads(pickle.dumps(call)) == call
    assert copy.deepcopy(workflow).compile() == workflow.compile()
    assert workflow.execute({"Fetch": 1}).output == 1
