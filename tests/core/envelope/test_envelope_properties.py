from __future__ import annotations

import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shared.calls import Oops
from shared.random_workflows import examples, plain

from stepfunction import RemoteError
from stepfunction.core.envelope.envelope import pack, unpack
from stepfunction.core.errors import RemoteTraceback


class TwoIn(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class ByKeyword(Exception):
    def __init__(self, *, text: str) -> None:
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text


class Coded(OSError):
    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(code, reason)


class Locked(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Unwilling(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no")


class Changing(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(f"<{text}>")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda items: st.lists(items, max_size=3)
    | st.tuples(items)
    | st.dictionaries(st.text(max_size=3), items, max_size=3),
    max_leaves=8,
)
ERRORS = st.one_of(
    st.builds(Oops, PLAIN, PLAIN),
    st.builds(KeyError, PLAIN),
    st.builds(OSError, st.integers(0, 99), st.text()),
    st.builds(lambda text: UnicodeDecodeError("utf-8", b"!", 0, 1, text), st.text()),
    st.builds(TwoIn, st.text(), st.integers()),
    st.builds(lambda text: ByKeyword(text=text), st.text()),
    st.builds(lambda code, text: Coded(code, reason=text), st.integers(), st.text()),
    st.builds(Locked, st.text()),
    st.builds(Unwilling, st.text()),
    st.builds(Changing, st.text()),
).map(raised)


@examples(100)
@given(PLAIN)
def test_a_value_comes_out_of_the_envelope_as_it_went_in(value):
    assert unpack(pack(value)) == value


@examples(100)
@given(ERRORS)
def test_an_exception_comes_out_with_its_class_text_and_traceback(error):
    came = unpack(pack(error))
    assert type(came) is type(error)
    assert str(came) == str(error)
    assert isinstance(came.__cause__, RemoteTraceback)
    assert "in raised\n" in str(came.__cause__)


@examples(50)
@given(st.text())
def test_an_exception_of_a_class_that_cannot_be_imported_comes_out_as_text(text):
    class Local(Exception):
        pass

    came = unpack(pack(raised(Local(text))))
    assert type(came) is RemoteError
    assert came.text == text
    assert came.type_name.endswith("<locals>.Local")
    assert "in raised\n" in str(came.__cause__)


@examples(50)
@given(st.lists(ERRORS, min_size=1, max_size=3), PLAIN)
def test_exceptions_inside_a_value_come_out_in_their_places(errors, value):
    sent = {"task": errors[0], "tasks": [{"a": value}, *errors]}
    assert plain(unpack(pack(sent)), races=False) == plain(sent, races=False)
