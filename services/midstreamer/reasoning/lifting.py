"""Layouts of a stored value: old bytes are lifted to the newest, new bytes stay as old as possible.

    bytes = number of the layout (one byte) | msgpack of the positional fields

A new layout is a new class and one `Step` at the end of the table.  `Layouts.decode` lifts: it
applies every step from the layout of the bytes up to the newest.  `Layouts.encode` lowers: it
undoes steps from the newest down as long as the value holds nothing that only the newer layout can
say.  So a value that uses nothing new has the same bytes as before, and an older process that runs
beside this one can read it.

Fields are plain lists here, as msgpack gives them, because the class of an old layout is gone.
Steps are pure functions, and a step that has been released is never changed.
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
    """From one layout to the next, and back."""

    lift: Callable[[list[Any]], list[Any]]
    """The fields in the next layout."""
    lower: Callable[[list[Any]], list[Any] | None]
    """The fields in the layout before; None when it cannot say what these say."""


class Layouts(Generic[_Value]):
    """Values of one kind to bytes and back, in every layout that there was."""

    def __init__(
        self, kind: type[_Value], steps: Sequence[Step] = (), *, name: str = "state"
    ) -> None:
        self._name = name
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._steps = tuple(steps)

    @property
    def newest(self) -> int:
        """Number of the layout that the class has now."""
        return FIRST + len(self._steps)

    def encode(self, value: _Value) -> bytes:
        """The value in the oldest layout that holds all of it; equal values give equal bytes."""
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
        """The value of such bytes; BadInput when they are something else."""
        number = data[0] if data else 0
        if not FIRST <= number <= self.newest:
            raise BadInput(
                f"{self._name} format {data[:1].hex() or 'none'}: this version reads"
                f" {FIRST:02x} to {self.newest:02x}. A higher number was written by a newer"
                " version: use that one"
            )
        try:
            return self._decoder.decode(self._lifted(number, memoryview(data)[1:]))
        except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
            raise BadInput(f"{len(data)} B are no learning {self._name}: {error}") from error

    def _lifted(self, number: int, body: memoryview) -> bytes | memoryview:
        steps = self._steps[number - FIRST :]
        if not steps:
            return body
        fields = msgspec.msgpack.decode(body)
        for step in steps:
            fields = step.lift(fields)
        return _encode(fields)
