from __future__ import annotations

import copy
import inspect
import pickle
import re
from types import FunctionType, ModuleType

import pytest

import stepfunction
from stepfunction import StepFunction
from stepfunction.core.frozen import Frozen

PUBLIC = stepfunction.__all__
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(stepfunction, name))]


def methods_of(cls: type) -> list[str]:
    kinds = (FunctionType, property, classmethod, staticmethod)
    return [
        name
        for name, member in vars(cls).items()
        if not name.startswith("_") and isinstance(member, kinds)
        if name not in fields_of(cls)
    ]


def fields_of(cls: type) -> tuple[str, ...]:
    """Give the fields of a value, which the docstring of its class describes."""
    return cls._fields if issubclass(cls, Frozen) else ()


METHODS = [
    (name, method)
    for name in CLASSES
    for method in methods_of(getattr(stepfunction, name))
]


def docstring(cls: str, method: str | None = None) -> str:
    found = getattr(stepfunction, cls)
    return inspect.getdoc(getattr(found, method) if method else found) or ""


def section(text: str, title: str) -> str:
    """Give a section of a Google-style docstring."""
    found = re.search(rf"^{title}:\n((?: .*\n?|\n)+)", text, re.MULTILINE)
    return found[1] if found else ""


def described(text: str, title: str) -> list[str]:
    return re.findall(r"^    (\w+):", section(text, title), re.MULTILINE)


# --- names ------------------------------------------------------------------------


def test_all_is_sorted_and_names_nothing_twice():
    assert PUBLIC == sorted(set(PUBLIC))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_in_all_is_there(name):
    public = getattr(stepfunction, name)
    assert name == "Listener" or public.__name__ == name


def test_everything_public_is_in_all():
    there = {
        name
        for name, value in vars(stepfunction).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert there - {"TYPE_CHECKING", "Any"} <= set(PUBLIC)


def test_every_error_is_public():
    from stepfunction.core import errors

    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.StepFunctionError)
    }
    assert defined <= set(PUBLIC)


@pytest.mark.parametrize("name", [name for name in CLASSES if name.endswith("Error")])
def test_every_error_derives_from_the_one_base(name):
    assert issubclass(getattr(stepfunction, name), stepfunction.StepFunctionError)


def test_a_star_import_gives_exactly_all():
    names: dict[str, object] = {}
    exec("from stepfunction import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == PUBLIC


def test_both_import_paths_give_one_class():
    from stepfunction.core.step_function import StepFunction as at_home

    assert at_home is StepFunction


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(
        AttributeError, match="^module 'stepfunction' has no attribute 'StepFunktion'$"
    ):
        stepfunction.StepFunktion


def test_dir_names_everything_public():
    assert set(PUBLIC) <= set(dir(stepfunction))


def test_dir_names_nothing_else_but_modules_of_its_own():
    for name in {*dir(stepfunction)} - {*PUBLIC}:
        found = vars(stepfunction)[name]
        ours = isinstance(found, ModuleType) and "stepfunction" in found.__name__
        assert ours or name.startswith("_"), name


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", stepfunction.__version__)


# --- docstrings -------------------------------------------------------------------


def test_the_package_has_a_docstring():
    assert stepfunction.__doc__


@pytest.mark.parametrize("name", sorted({*PUBLIC} - {"Listener"}))  # an alias
def test_every_public_name_has_a_docstring(name):
    public = getattr(stepfunction, name)
    own = vars(public)["__doc__"] if inspect.isclass(public) else public.__doc__
    assert own.strip()


@pytest.mark.parametrize("cls, method", METHODS)
def test_every_public_method_has_a_docstring(cls, method):
    assert docstring(cls, method)


VALUES = [name for name in CLASSES if fields_of(getattr(stepfunction, name))]


@pytest.mark.parametrize("name", VALUES)
def test_every_field_of_a_value_is_described_by_its_class(name):
    fields = list(fields_of(getattr(stepfunction, name)))
    assert described(docstring(name), "Attributes")[: len(fields)] == fields


CALLED = [
    (cls, method)
    for cls, method in METHODS
    if callable(getattr(getattr(stepfunction, cls), method))
]


@pytest.mark.parametrize("cls, method", CALLED)
def test_the_docstring_of_a_method_names_its_arguments_in_order(cls, method):
    signature = inspect.signature(getattr(getattr(stepfunction, cls), method))
    named = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.name != "self"
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    assert described(docstring(cls, method), "Args") == named


@pytest.mark.parametrize("cls, method", CALLED)
def test_the_docstring_of_a_method_says_what_it_returns(cls, method):
    signature = inspect.signature(getattr(getattr(stepfunction, cls), method))
    text = docstring(cls, method)
    says_so_at_once = text.startswith(("Give ", "Tell ", "Say "))
    assert (
        signature.return_annotation in (None, "None")
        or says_so_at_once
        or section(text, "Returns")
        or section(text, "Yields")
    )


@pytest.mark.parametrize("cls", ["StepFunction", "RetryPolicy", "ProcessLanes"])
def test_the_docstring_of_a_class_names_the_arguments_of_its_constructor(cls):
    text = docstring(cls)
    named = described(text, "Args") or described(text, "Attributes")
    assert list(inspect.signature(getattr(stepfunction, cls)).parameters) == named


@pytest.mark.parametrize(
    "name",
    [n for n in CLASSES if hasattr(getattr(stepfunction, n), "_fields")],
)
def test_the_docstring_of_a_record_names_its_fields_in_order(name):
    fields = getattr(stepfunction, name)._fields
    assert tuple(described(docstring(name), "Attributes")) == fields


@pytest.mark.parametrize(
    "cls, method",
    [
        ("StepFunction", "add_step"),
        ("StepFunction", "add_sub_step_function"),
        ("StepFunction", "set_start_step"),
        ("StepFunction", "validate"),
        ("StepFunction", "compile"),
        ("StepFunction", "execute"),
        ("StepFunction", "aexecute"),
        ("StepFunction", "visualize"),
        ("StepFunction", "to_dot"),
        ("Execution", "raise_if_failed"),
        ("TaskResults", "raise_if_failed"),
    ],
)
def test_what_may_fail_says_what_it_raises(cls, method):
    raised = described(docstring(cls, method), "Raises")
    assert raised
    assert all(issubclass(getattr(stepfunction, e), Exception) for e in raised)


@pytest.mark.parametrize("name", ["StepFunction", "RetryPolicy"])
def test_a_class_that_checks_its_arguments_says_what_it_raises(name):
    assert described(docstring(name), "Raises") == ["DefinitionError"]


# --- signatures -------------------------------------------------------------------


def parameters(method: str) -> list[tuple[str, object]]:
    found = inspect.signature(getattr(StepFunction, method)).parameters.values()
    return [(p.name, p.default) for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]


def keywords(method: str) -> dict[str, object]:
    found = inspect.signature(getattr(StepFunction, method)).parameters.values()
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}


REQUIRED = inspect.Parameter.empty


def test_add_step_takes_what_the_specification_says():
    assert parameters("add_step") == [
        ("self", REQUIRED),
        ("name", REQUIRED),
        ("func", REQUIRED),
        ("next_step", None),
        ("on_failure", None),
        ("branch", None),
        ("parallel", False),
        ("stop_on_failure", False),
    ]


def test_all_else_that_add_step_takes_goes_by_name_and_may_be_left_out():
    options = {
        "params",
        "branch_targets",
        "executor",
        "max_workers",
        "tolerated_failures",
        "retry",
        "ends",
    }
    assert options <= keywords("add_step").keys()
    assert set(keywords("add_step").values()) == {None}


def test_add_sub_step_function_takes_what_the_specification_says():
    assert parameters("add_sub_step_function") == [
        ("self", REQUIRED),
        ("name", REQUIRED),
        ("sub_step_function", REQUIRED),
        ("next_step", None),
        ("on_failure", None),
        ("branch", None),
    ]


@pytest.mark.parametrize(
    "method, names",
    [
        ("add_parallel_step", ["self", "name", "tasks"]),
        ("add_map_step", ["self", "name", "func", "items"]),
        ("add_wait_step", ["self", "name"]),
        ("add_pass_step", ["self", "name", "result"]),
        ("add_fail_step", ["self", "name", "error", "cause"]),
        ("to_json", ["self", "registry"]),
    ],
)
def test_what_is_ours_takes_by_position_what_a_step_is_and_does(method, names):
    assert [name for name, _ in parameters(method)] == names


def test_indent_goes_by_name_everywhere():
    for cls in (StepFunction, stepfunction.Execution):
        indent = inspect.signature(cls.to_json).parameters["indent"]
        assert (indent.kind, indent.default) == (indent.KEYWORD_ONLY, None)


CALLING = {"params", "inputs", "executor", "retry", "timeout", "compensate"}
CALLING |= {"heartbeat"}


@pytest.mark.parametrize("method", ["add_step", "add_parallel_step", "add_map_step"])
def test_every_step_that_calls_has_what_makes_sense_for_calls(method):
    assert CALLING <= keywords(method).keys()


def test_a_nested_workflow_has_what_makes_sense_for_it():
    # It is given its input alone, and calls no context.heartbeat().
    found = keywords("add_sub_step_function").keys() & CALLING
    assert found == CALLING - {"params", "heartbeat"}


@pytest.mark.parametrize("method", ["execute", "aexecute"])
def test_execute_takes_an_input_and_its_options_by_name(method):
    (_, of_self), (name, default) = parameters(method)
    assert (of_self, name) == (REQUIRED, "initial_input")
    # Without one a default of the first step stays, which an input of None replaces.
    assert default is not None and repr(default) == "<nothing>"
    assert keywords(method).items() >= {"executor": None, "check": False}.items()


@pytest.mark.parametrize(
    "method, names",
    [
        ("set_start_step", ["self", "name"]),
        ("validate", ["self"]),
        ("visualize", ["self", "path", "format", "execution"]),
        ("to_dot", ["self", "execution"]),
        ("to_mermaid", ["self", "execution"]),
    ],
)
def test_the_other_methods_take_what_the_design_says(method, names):
    assert [name for name, _ in parameters(method)] == names
    assert keywords(method) == {}


@pytest.mark.parametrize("name", ["name", "steps", "last_result", "context", "status"])
def test_a_property_is_read_only(name):
    with pytest.raises(AttributeError):
        setattr(StepFunction("W"), name, None)


def test_the_builder_gives_itself():
    workflow = StepFunction("W")
    nested = StepFunction("N").add_step("A", str).set_start_step("A")
    assert workflow.add_step("A", str, "B") is workflow
    assert workflow.add_sub_step_function("B", nested) is workflow
    assert workflow.set_start_step("A") is workflow


def pickled(value):
    return pickle.loads(pickle.dumps(value))


EXAMPLES = {
    "RetryPolicy": stepfunction.RetryPolicy(max_attempts=2),
    "Step": StepFunction("W").add_step("A", str).steps["A"],
    "Graph": StepFunction("W").add_step("A", str).set_start_step("A").compile(),
}


@pytest.mark.parametrize("cls", CLASSES)
def test_no_public_class_is_a_tuple(cls):
    assert not issubclass(getattr(stepfunction, cls), tuple)


@pytest.mark.parametrize("ask", [len, iter, list, lambda it: it[0], lambda it: it < it])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_has_no_length_no_order_and_no_items(name, ask):
    with pytest.raises(TypeError):
        ask(EXAMPLES[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_cannot_be_changed(name):
    value = EXAMPLES[name]
    for field in type(value)._fields:
        with pytest.raises(AttributeError):
            setattr(value, field, None)
        with pytest.raises(AttributeError):
            delattr(value, field)


@pytest.mark.parametrize("name, field", [*zip(EXAMPLES, ("interval", "name", "name"))])
def test_a_value_is_replaced_by_one_that_differs_in_some_fields(name, field):
    value = EXAMPLES[name]
    other = value.replace(**{field: getattr(value, field) * 2})
    assert type(other) is type(value)
    assert getattr(other, field) == getattr(value, field) * 2
    assert other != value
    assert other.replace(**{field: getattr(value, field)}) == value


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_field_that_a_value_lacks_is_refused_with_a_hint(name):
    field = type(EXAMPLES[name])._fields[-1]
    with pytest.raises(TypeError, match=f"did you mean '{field}'"):
        EXAMPLES[name].replace(**{f"{field}s": None})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_copy_of_a_value_is_equal_to_it(name, copied):
    assert copied(EXAMPLES[name]) == EXAMPLES[name]


def test_what_a_policy_becomes_is_checked_too():
    with pytest.raises(stepfunction.DefinitionError, match="max_attempts is 0"):
        stepfunction.RetryPolicy().replace(max_attempts=0)


def test_the_repr_of_a_step_says_what_it_was_told():
    step = StepFunction("W").add_step("A", str, "B", timeout=1, executor="thread")
    shown = repr(step.steps["A"])
    assert shown.startswith("Step(name='A', action=Call(function=<class 'str'>")
    assert shown.endswith("next_step='B', executor='thread', timeout=1)")


def test_a_builder_has_nothing_of_an_action():
    assert not {"kind", "callees", "nested", "plain", "tasks"} & {*dir(StepFunction)}
