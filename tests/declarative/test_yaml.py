from __future__ import annotations

import json
import subprocess
import sys

import pytest
from shared.documents import FORMAT, REGISTRY

from stepfunction import DefinitionError, StepFunction

HEAD = f"""\
format: {FORMAT}
name: W
start: A
steps:
  A:
    func: scale
"""


def read(text, **options):
    return StepFunction.from_yaml(text, **{"registry": REGISTRY, **options})


def problems(text):
    with pytest.raises(DefinitionError) as caught:
        read(text)
    return caught.value.problems


def branch_of(text):
    branch = read(HEAD + text).steps["A"].branch
    return [result for result, _ in branch.table.values()]


def params_of(text):
    return dict(read(HEAD + text).steps["A"].action.params)


FLOW = """\
# What a person writes.
format: stepfunction/1
name: Checkout
start: Size
steps:
  Size:
    type: pass
    branch:
      small: Pay
      large: Review
  Pay:
    func: charge
    executor: thread
    retry: &patiently
      max_attempts: 5
      interval: 1e-2
  Review:
    type: wait
    until: 2030-01-31T08:00:00+01:00
    next_step: Refund
  Refund: {func: charge, retry: *patiently}
"""


def test_yaml_is_the_same_as_json():
    flow = read(FLOW)
    assert flow.compile() == StepFunction.from_json(
        flow.to_json(REGISTRY), REGISTRY
    ).compile()
    assert flow.execute("small").output == "small"
    assert flow.steps["Refund"].retry == flow.steps["Pay"].retry


def test_it_is_written_for_people():
    flow = StepFunction("Long\nname", max_steps=9)
    flow.add_step("no", REGISTRY["scale"], params={"factor": [1, {}, None, 1e300]})
    flow.add_pass_step("Say", "two\nlines\n", branch={True: "no", "010": "Say"})
    assert flow.to_yaml(REGISTRY) == """\
format: stepfunction/1
name: |-
  Long
  name
max_steps: 9
steps:
  "no":
    func: scale
    params:
      factor:
      - 1
      - {}
      - null
      - 1.0e+300
  Say:
    type: pass
    result: |
      two
      lines
    branch:
    - result: true
      step: "no"
    - result: "010"
      step: Say
"""


def test_yes_and_no_are_texts_as_keys():
    assert branch_of("    branch: {yes: B, no: B, On: B, off: B}\n") == [
        "yes",
        "no",
        "On",
        "off",
    ]


def test_a_step_may_be_called_no_or_a_date():
    steps = "  no: {func: scale}\n  2030-01-31: {func: scale}\n"
    text = f'{HEAD}    next_step: "no"\n{steps}'
    assert list(read(text).steps) == ["A", "no", "2030-01-31"]


def test_a_branch_may_have_keys_that_are_no_texts():
    text = "    branch: {true: B, false: B, 7: B, 2.5: B, ~: B, 'true': B}\n"
    found = branch_of(text)
    assert [json.dumps(it) for it in found] == [
        "true",
        "false",
        "7",
        "2.5",
        "null",
        '"true"',
    ]


def test_a_branch_in_a_nested_workflow_may_have_such_keys_too():
    text = f"""\
format: {FORMAT}
name: W
steps: {{A: {{type: workflow, workflow: V}}}}
workflows:
  V:
    steps:
      A: {{type: pass, branch: {{true: A}}}}
"""
    nested = read(text).steps["A"].action.nested
    assert nested.steps["A"].branch.choose(True) == "A"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("null", None),
        ("~", None),
        ("", None),
        ("True", True),
        ('"no"', "no"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("y", "y"),
        ("1.2.3", "1.2.3"),
        ("a b # c", "a b"),
        ("|\n        a\n        b", "a\nb\n"),
    ],
)
def test_values_are_those_of_yaml_1_2(written, value):
    found = params_of(f"    params:\n      factor: {written}\n")["factor"]
    assert (type(found), found) == (type(value), value)


PARAM = HEAD + "    params: {factor: %s}\n"
REFUSED = [
    ("", "there is nothing in it; a workflow begins with its format"),
    ("# only\n", "there is nothing in it; a workflow begins with its format"),
    ("null", "line 1, column 1: a workflow is an object, not None"),
    ("flow.yaml", "'flow.yaml' is a name; of a file give its content"),
    ("name: W\nsteps: {}", f"line 1, column 1: format: it is missing; give '{FORMAT}'"),
    (
        HEAD + "\tb: 1",
        "line 7, column 1: it is no YAML: while scanning for the next token found a ",
    ),
    (
        "a: b: c",
        "line 1, column 5: it is no YAML: mapping values are not allowed here; close",
    ),
    (
        "a: [1, 2",
        "line 1, column 9: it is no YAML: while parsing a flow sequence expec",
    ),
    ("a: @x", "line 1, column 4: it is no YAML: while scanning for the next token fou"),
    ("a: \0", "line 1, column 4: the character U+0000 cannot stand in YAML; leave it"),
    (b"a: 1\nb: \xe6\n", "line 2, column 4: byte 0xe6 is not UTF-8; save it as UTF-8"),
    (
        b"\xff\xfea\x00\x00",
        "line 1, column 2: byte 0x00 is not UTF-8; save it as UTF-8",
    ),
    ("--- a\n--- b\n", "line 2, column 1: a second document begins; give each a file"),
    (
        HEAD + "  A: {}",
        "line 7, column 3: steps.A: this key is there already, in line 5;",
    ),
    (
        PARAM % "no",
        "line 7, column 22: steps.A.params.factor: no is false to some and a text to",
    ),
    (
        PARAM % "On",
        "line 7, column 22: steps.A.params.factor: On is true to some and a t",
    ),
    (
        PARAM % "010",
        "line 7, column 22: steps.A.params.factor: '010' is not the same num",
    ),
    (
        PARAM % "08",
        "line 7, column 22: steps.A.params.factor: '08' is not the same numb",
    ),
    (
        PARAM % "1_000",
        "line 7, column 22: steps.A.params.factor: '1_000' is not the sam",
    ),
    (
        PARAM % "12:30",
        "line 7, column 22: steps.A.params.factor: '12:30' is not the sam",
    ),
    (
        PARAM % "2030-01-31",
        "line 7, column 22: steps.A.params.factor: 2030-01-31 is a date to some, and",
    ),
    (
        PARAM % "2030-01-31 08:00:00",
        "line 7, column 22: steps.A.params.factor: 2030-01-",
    ),
    (PARAM % ".inf", "line 7, column 14: steps.A.params.factor: JSON cannot hold inf"),
    (PARAM % ("9" * 5000), "line 7, column 22: steps.A.params.factor: '99999"),
    (
        PARAM % "*b",
        "line 7, column 22: steps.A.params.factor: nothing before it has the anchor ",
    ),
    (
        PARAM % "&b [*b]",
        "line 7, column 26: steps.A.params.factor[0]: *b stands inside",
    ),
    (
        PARAM % "1, <<: {}",
        "line 7, column 25: steps.A.params['<<']: << merges nothing h",
    ),
    (
        PARAM % "!!python/name:os.system x",
        "line 7, column 22: steps.A.params.factor: the tag 'tag:yaml.org,2002:python",
    ),
    (
        PARAM % "!!set {a}",
        "line 7, column 22: steps.A.params.factor: the tag 'tag:yaml.",
    ),
    (
        HEAD + "  1: {func: scale}",
        'line 7, column 3: steps: the key 1 is no text; quote it: "1"',
    ),
    (
        HEAD + "  null: {func: scale}",
        "line 7, column 3: steps: the key null is no text;",
    ),
    (
        HEAD + "  010: {func: scale}",
        "line 7, column 3: steps.010: '010' is not the same",
    ),
    (HEAD + "    ? : {}", "line 7, column 7: steps.A: a key is a text, no list and no"),
    (HEAD + "    '': 1", "line 7, column 5: steps.A['']: this key is not known"),
    (
        HEAD + "  ? [a]\n  : {}",
        "line 7, column 5: steps: a key is a text, no list and n",
    ),
    (
        HEAD + "    branch: {.nan: B}",
        "line 7, column 14: steps.A.branch[0].result: JSON",
    ),
    (
        HEAD + "    next: B",
        "line 7, column 5: steps.A.next: this key is not known (did ",
    ),
    (
        HEAD + "    next_step: 1",
        "line 7, column 5: steps.A.next_step: next_step is the ",
    ),
    (
        HEAD + "    next_step: No",
        "line 7, column 16: steps.A.next_step: No is false to ",
    ),
    (
        HEAD + "    ends: ~",
        "line 7, column 5: steps.A.ends: null is no value for it; le",
    ),
    (
        HEAD + "    stop_on_failure: true",
        "line 7, column 5: steps.A.stop_on_failure: th",
    ),
    (
        HEAD + "  B: {func: chargee}",
        "line 7, column 7: steps.B.func: unknown function ",
    ),
    (
        HEAD + "  B: {type: pass, branch: [{if: scale, step: B}, {if: x, step: B}]}",
        "line 7, column 51: steps.B.branch[1].if: unknown function 'x'",
    ),
    (
        HEAD + "  B: {type: wait, until: 2030-01-31}",
        "line 7, column 19: steps.B.until: '2030-01-31' is no moment; give date, tim",
    ),
]


@pytest.mark.parametrize(("text", "start"), REFUSED)
def test_what_is_wrong_is_told_with_its_line(text, start):
    (problem,) = problems(text)
    assert problem.startswith(start)


def test_all_that_is_wrong_is_told():
    text = HEAD + "    next: B\n  C: {func: nothing}\n  D: {}\n"
    assert [it.partition(":")[0] for it in problems(text)] == [
        "line 7, column 5",
        "line 8, column 7",
        "line 9, column 3",
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000])
def test_what_is_nested_for_ever_is_refused_at_once(text):
    (problem,) = problems(text)
    assert "it is nested more than 110 deep" in problem


def test_aliases_of_aliases_do_not_grow_without_end():
    text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for one, other in zip("abcdefgh", "bcdefghi"):
        text += f"{other}: &{other} [{', '.join(['*' + one] * 10)}]\n"
    (problem,) = problems(text)
    assert "aliases as *d repeat more than 100,000 values; write less" in problem


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_bytes_are_read_too(encoding):
    assert read(HEAD.replace("W", "Ærlig").encode(encoding)).name == "Ærlig"


@pytest.mark.parametrize("given", [None, 3, {"format": FORMAT}])
def test_what_is_no_text_is_refused(given):
    (problem,) = problems(given)
    assert problem.startswith("give the YAML text itself, not")


def test_imports_are_as_in_json(shop):
    text = HEAD.replace("scale", "shop_functions:charge")
    (problem,) = problems(text)
    assert "allow_imports does not name 'shop_functions'" in problem
    read(text, allow_imports=["shop_functions"])


def test_a_subclass_reads_its_own():
    class Mine(StepFunction):
        pass

    assert type(Mine.from_yaml(HEAD, REGISTRY)) is Mine


def test_without_pyyaml_it_is_said_what_to_install():
    code = """\
import sys
sys.modules["yaml"] = None
from stepfunction import StepFunction
for call in (StepFunction("W").to_yaml, lambda: StepFunction.from_yaml("a: 1")):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "workflows as YAML need PyYAML: pip install PyYAML"
    assert done.stdout.count(said) == 2, done.stderr
