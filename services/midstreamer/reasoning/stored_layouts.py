"""Layouts of a stored value: decode all old layouts, and encode in the oldest one that suffices.

    bytes = number of the layout (one byte) | msgpack of the positional fields

A new layout is a new class and one `Step` at the end of the table. `Layouts.decode` applies every
step from the layout of the bytes up to the newest. `Layouts.encode` undoes steps from the newest
down, as long as the older layout can hold the whole value. So a value that uses nothing new has the
same bytes as before, and an older process in the same fleet can read them.

Steps work on plain lists of fields, as msgpack gives them, because the class of an old layout no
longer exists. Steps are pure functions, and a released step is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from midstreamer.domain.errors import BadInput

FIRST = 1
"""Number of the first layout."""
_Value = TypeVar("_Value")
_encode = msgspec.msgpack.Encoder().encode


class Step(NamedTuple):
    """The conversion between one layout and the next, in both directions."""

    lift: Callable[[list[Any]], list[Any]]
    """Function that converts the fields of the older layout to those of the newer layout."""
    lower: Callable[[list[Any]], list[Any] | None]
    """Function that converts the fields of the newer layout back to those of the older layout.

    It returns None if the older layout cannot hold them."""


class Layouts(Generic[_Value]):
    """Encode values of one class, and decode them from every layout that this class has had."""

    def __init__(
        self, kind: type[_Value], steps: Sequence[Step] = (), *, name: str = "state"
    ) -> None:
        self._name = name
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._steps = tuple(steps)

    @property
    def newest(self) -> int:
        """Number of the newest layout, which has all fields that this version knows."""
        return FIRST + len(self._steps)

    def encode(self, value: _Value) -> bytes:
        """Return the value in the oldest layout that holds all of it.

        Equal values give equal bytes.
        """
        body = _encode(value)
        if not self._steps:
            return bytes([FIRST]) + body
        number, fields = self.newest, msgspec.msgpack.decode(body)
        for step in reversed(self._steps):
            lowered = step.lower(fields)
            if lowered is None:
                break
            number, fields = number - 1, lowered
        return bytes([number]) + _encode(fields)

    def decode(self, data: bytes) -> _Value:
        """Return the value encoded in ``data``; BadInput when the bytes cannot be decoded."""
        number = data[0] if data else 0
        if not FIRST <= number <= self.newest:
            raise BadInput(
                f"{self._name} format {data[:1].hex() or 'none'}: this version reads"
                f" {FIRST:02x} to {self.newest:02x}. If the format is higher, a newer version"
                " wrote it: use that version"
            )
        try:
            return self._decoder.decode(self._lifted(number, memoryview(data)[1:]))
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
            raise BadInput(
                f"{len(data)} B cannot be decoded as a learning {self._name}: {error}"
            ) from error

    def _lifted(self, number: int, body: memoryview) -> bytes | memoryview:
        """Convert encoded fields from layout ``number`` to the newest one; return them encoded."""
        steps = self._steps[number - FIRST :]
        if not steps:
            return body
        fields = msgspec.msgpack.decode(body)
        for step in steps:
            fields = step.lift(fields)
        return _encode(fields)
