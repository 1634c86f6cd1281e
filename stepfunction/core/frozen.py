"""Frozen: the base of public values, which have names for their parts and no order.

The parts are kept in one tuple, so that a value is made and copied in one move, and
nothing has to be generated when a class is defined, which the import would pay for.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Frozen:
    """A value whose fields, the annotations of its class, cannot be set again.

    It is no tuple: it has no length and no order, and cannot be unpacked. Two are equal
    if they are of the same class and their fields are. Defaults stand in the class, as
    in a dataclass.
    """

    __slots__ = ("_values",)
    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[tuple[Any, ...]] = ()  # of the last fields

    _values: tuple[Any, ...]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        kinds: Mapping[str, Any] = cls.__dict__.get("__annotations__", {})
        names = [it for it, kind in kinds.items() if not kind.startswith("ClassVar")]
        cls._defaults += tuple(vars(cls)[name] for name in names if name in vars(cls))
        for at, name in enumerate(names, len(cls._fields)):
            # A class may keep its fields in slots of its own.
            get: Any = attrgetter(f"_{name}") if f"_{name}" in vars(cls) else None
            setattr(cls, name, property(get or _getter(at), doc="See the class."))
        cls._fields += tuple(names)

    def __init__(self, *values: Any, **named: Any) -> None:
        if named or len(values) != len(self._fields):
            values = self._completed(values, named)
        self._values = values

    @classmethod
    def _of(cls, values: tuple[Any, ...]) -> Self:
        """Give the value of all its fields, in their order; the quickest way."""
        made = cls.__new__(cls)
        made._values = values
        return made

    def replace(self, **fields: Any) -> Self:
        """Give a value like this one with other values of some fields.

        Raises:
            TypeError: If it has no such field.
        """
        self._refuse_unknown(fields)
        values = dict(zip(self._fields, self._values)) | fields
        return type(self)(*values.values())

    def _completed(
        self, values: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Give the values of all fields, of some by position and some by name."""
        fields, name = self._fields, type(self).__name__
        lacking = len(fields) - len(values)
        if not named and 0 < lacking <= len(self._defaults):
            return values + self._defaults[-lacking:]
        if len(values) > len(fields):
            raise TypeError(
                f"{name}() takes {len(fields)} arguments, but {len(values)} were given"
            )
        self._refuse_unknown(named)
        given = dict(zip(fields, values))
        found = dict(zip(reversed(fields), reversed(self._defaults))) | given | named
        for field in fields:
            if field in given and field in named:
                raise TypeError(f"{name}() was given {field!r} twice")
            if field not in found:
                raise TypeError(f"{name}() was not given {field!r}")
        return tuple(map(found.__getitem__, fields))

    @classmethod
    def _refuse_unknown(cls, named: dict[str, Any]) -> None:
        for field in named:
            if field not in cls._fields:
                from stepfunction.core.wording import did_you_mean

                raise TypeError(
                    f"{cls.__name__} has no field {field!r}"
                    f"{did_you_mean(field, cls._fields)}"
                )

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values == other._values

    def __hash__(self) -> int:
        return hash((type(self), self._values))

    def __repr__(self) -> str:
        facts = zip(self._fields, self._values)
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in facts)})"

    def __reduce__(self) -> Any:
        return type(self), self._values

    def __copy__(self) -> Self:
        return self


def _getter(at: int) -> Any:
    def get(self: Frozen) -> Any:
        return self._values[at]

    # A code of its own, for what the interpreter learns of it is of one class then.
    get.__code__ = get.__code__.replace()
    return get
