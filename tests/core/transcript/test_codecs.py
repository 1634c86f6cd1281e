from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from pathlib import PosixPath

import pytest
from shared.pictures import giving, read_back

from stepfunction import (
    Execution,
    Omitted,
    Outcome,
    StoreError,
    TranscriptError,
    UnstorableValueError,
    register_codec,
)
from stepfunction.core.transcript import kinds
from stepfunction.core.transcript.storing import FragmentReader, Fragments, digest_of
from stepfunction.stores import SQLiteStore

Point = namedtuple("Point", "x y")


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Code(str):
    pass


@dataclass(frozen=True)
class Order:
    number: int
    lines: list


class Node:
    def __init__(self, name, following=None):
        self.name = name
        self.following = following


class Loud(type):
    def __eq__(cls, other):
        raise RuntimeError("compared")

    __hash__ = None


class Loudest(metaclass=Loud):
    pass


@pytest.fixture(autouse=True)
def codecs():
    register_codec(Colour, lambda it: it.name, Colour.__getitem__)
    register_codec(Size, lambda it: it.name, Size.__getitem__)
    register_codec(Point, tuple, Point._make)
    register_codec(Order, vars, lambda parts: Order(**parts))
    yield
    kinds._by_name.clear()
    for key, kind in list(kinds._by_type.items()):
        if kind.name:
            del kinds._by_type[key]


def text_of(value):
    return Fragments().value(value)


def read(text, **options):
    return FragmentReader({}.__getitem__, **options).value(json.loads(text))


VALUES = [
    *(Colour.RED, Size.SMALL, Point(1, (2, b"x")), Order(1, [Point(1, 2)])),
    *([Order(1, [Order(2, [])])], {Colour.RED: 1}, {Colour.RED, Size.SMALL, 2}),
    *((1, Size.SMALL), {"$value": Colour.RED}),
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_with_a_codec_comes_back_as_what_it_was(value):
    again = read(text_of(value))
    assert again == value
    assert type(again) is type(value)
    assert digest_of(again) == digest_of(value)


@pytest.mark.parametrize("value", VALUES)
def test_a_transcript_has_it_too(value):
    assert read_back(giving(value).execute()).output == value


def test_a_codec_is_of_its_class_alone():
    register_codec(Code, str, Code)
    sub = type("Sub", (Code,), {})
    with pytest.raises(UnstorableValueError, match="Sub"):
        text_of(sub("a"))


def test_a_class_of_the_standard_library_may_be_given_a_codec():
    register_codec(OrderedDict, lambda it: [*it.items()], OrderedDict)
    value = OrderedDict(b=1, a=2)
    again = read(text_of(value))
    assert (type(again), again) == (OrderedDict, value)


def test_without_a_codec_a_stored_value_is_refused_by_name():
    text = text_of([Colour.RED])
    kinds._by_name.clear()
    with pytest.raises(TranscriptError, match="test_codecs.Colour, of which no codec"):
        read(text)


def test_without_a_codec_one_may_look_all_the_same():
    text = text_of([Order(1, [2])])
    transcript = giving(Order(1, [2])).execute().to_json()
    kinds._by_name.clear()
    stand_in = Omitted(f"{__name__}.Order of {{'number': 1, 'lines': [2]}}")
    assert read(text, is_exact=False) == [stand_in]
    assert Execution.from_json(transcript).output == stand_in


def test_a_codec_that_cannot_encode_says_where():
    register_codec(Node, lambda it: it.missing, Node)
    with pytest.raises(UnstorableValueError, match=r"part \[0\] .* Node .* 'missing'"):
        text_of([Node("a")])
    written = giving(Node("a")).execute().to_dict()["execution"]["output"]
    assert list(written) == ["$repr"]


def test_a_codec_that_gives_what_cannot_be_stored_is_refused():
    register_codec(Node, vars, lambda parts: Node(**parts))
    with pytest.raises(UnstorableValueError, match=r"part \['following'\] is a object"):
        text_of(Node("a", object()))


def test_a_codec_that_never_ends_is_refused():
    register_codec(Node, lambda it: Node(it), Node)
    with pytest.raises(UnstorableValueError, match="more than 100 deep"):
        text_of(Node("a"))


def test_values_that_hold_each_other_are_refused():
    register_codec(Node, vars, lambda parts: Node(**parts))
    first = Node("a", Node("b"))
    first.following.following = first
    with pytest.raises(UnstorableValueError, match="contains itself"):
        text_of(first)


def test_a_codec_that_makes_another_thing_is_refused():
    register_codec(Code, str, str)
    with pytest.raises(TranscriptError, match="has become a str, and no .*Code"):
        read(text_of(Code("a")))


def test_a_codec_that_cannot_decode_is_refused():
    register_codec(Code, lambda it: 1, len)
    with pytest.raises(TranscriptError, match="cannot be made again: TypeError") as it:
        read(text_of(Code("a")))
    assert type(it.value.__cause__) is TypeError


def test_a_class_that_is_registered_again_has_the_later_codec():
    register_codec(Code, lambda it: 1, lambda it: Code("one"))
    register_codec(Code, lambda it: 2, lambda it: Code("two"))
    assert read(text_of(Code("a"))) == "two"


def test_a_class_that_was_defined_again_takes_the_place_of_the_former():
    def define():
        kind = type("Again", (), {"__module__": __name__})
        register_codec(kind, lambda it: 0, lambda _: kind())
        return kind

    former, later = define(), define()
    assert type(read(text_of(later()))) is later
    with pytest.raises(UnstorableValueError):
        text_of(former())


def test_a_class_is_asked_for_no_equality():
    register_codec(Loudest, lambda it: 0, lambda _: Loudest())
    assert type(read(text_of([Loudest()]))[0]) is Loudest


@pytest.mark.parametrize(
    "kind", [int, dict, bytes, datetime, PosixPath, Outcome, ValueError, type(None)]
)
def test_what_is_stored_already_needs_no_codec(kind):
    with pytest.raises(TypeError, match="is stored without a codec"):
        register_codec(kind, str, kind)


@pytest.mark.parametrize("args", [(1, str, str), (Code, None, str), (Code, str, 1)])
def test_what_is_no_codec_is_refused(args):
    with pytest.raises(TypeError):
        register_codec(*args)


def test_what_is_hidden_of_a_value_is_hidden_of_what_it_is_made_of():
    def redact(where, value):
        return "hidden" if value == "4111" else value

    register_codec(Code, str, Code)
    for value in (Order(1, ["4111"]), Code("4111"), {"4111"}, Point("4111", 1)):
        text = giving(value).execute().to_json(redact=redact)
        assert "4111" not in text
        assert "hidden" in text


SCRIPT = """
import json, sys
from enum import Enum
from stepfunction import register_codec
from stepfunction.core.transcript.storing import Fragments, FragmentReader
class Colour(Enum):
    RED = 1
register_codec(Colour, lambda it: it.name, Colour.__getitem__)
if sys.argv[1:]:
    print(FragmentReader(None).value(json.loads(sys.argv[1])))
else:
    print(Fragments().value([Colour.RED]))
"""


def test_a_class_of_a_script_is_known_when_it_runs_again(tmp_path):
    def run(*args):
        done = [sys.executable, str(tmp_path / "script.py"), *args]
        return subprocess.run(done, capture_output=True, text=True, check=True).stdout

    (tmp_path / "script.py").write_text(SCRIPT)
    assert run(run().strip()) == "[<Colour.RED: 1>]\n"


def test_a_stored_execution_may_be_looked_at_without_a_codec_and_not_gone_on_with():
    store = SQLiteStore(":memory:")
    workflow = giving([Colour.RED])
    workflow.execute(store=store, execution_id="one")
    assert store.load("one").output == [Colour.RED]
    kinds._by_name.clear()
    assert store.load("one").output == [Omitted(f"{__name__}.Colour of 'RED'")]
    with pytest.raises(StoreError, match="of which no codec is known here"):
        workflow.execute(store=store, execution_id="one")
