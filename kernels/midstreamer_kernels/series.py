"""Series as they enter: one-dimensional, not empty, finite; nothing is silently repaired.

A `table` is many series of one length. Where lengths differ there is no table: what would fill the
gaps is for the user to say.

A NaN would make every comparison false and a distance that looks like a number, so it is refused
with its position. The check is one pass (`numpy.abs` carries NaN along, and `argmax` finds it);
only a refusal looks closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.errors import NotFiniteError, ShapeError

# Squares of differences, summed over a million points, stay finite below these magnitudes.
MAGNITUDE_MAX = {np.dtype(np.float32): 1e15, np.dtype(np.float64): 1e150}

_FLOAT32, _FLOAT64 = MAGNITUDE_MAX

Floats = NDArray[np.float64] | NDArray[np.float32]


def floats(values: ArrayLike, *, name: str, dtype: Any = None) -> Floats:
    """Return `values` as a contiguous float array of one dimension, perhaps empty.

    Parameters
    ----------
    values : array_like, shape (n,)
        float32 stays float32 unless `dtype` says otherwise; everything else becomes float64.
    name : str
        What the message calls it.
    dtype : numpy dtype, optional

    Raises
    ------
    ShapeError
        Not one-dimensional, or not numbers.
    NotFiniteError
        NaN, infinity, or beyond `MAGNITUDE_MAX` of the type; names the first position.
    """
    try:
        given = _numbers(values, name)
        wanted: Any = dtype or (given.dtype if given.dtype == _FLOAT32 else _FLOAT64)
        if given.dtype == wanted and given.flags.c_contiguous:
            array: Floats = given
        else:
            with np.errstate(over="ignore"):  # what overflows is refused below, with its place
                array = np.ascontiguousarray(given, dtype=wanted)
    except ShapeError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ShapeError(f"{name} is not a series of numbers: {error}") from None
    if given.ndim != 1:
        raise ShapeError(f"{name} has {given.ndim} dimensions, shape {given.shape}: give one")
    if array.size:
        magnitudes = np.abs(array)
        # `argmax` finds a NaN before anything larger, in a third of the time that `max` takes.
        if not magnitudes[magnitudes.argmax()] <= MAGNITUDE_MAX[array.dtype]:
            _refuse(given, array, name)
    return array


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """Return `values` as an array, and refuse what numpy would turn into other numbers."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        position = int(np.argmax(np.ma.getmaskarray(values)))
        raise ShapeError(f"{name} is masked at position {position}: remove or fill it first")
    given = np.asarray(values)
    # The rest would lose a part (complex), or be taken for numbers (text, dates).
    if given.dtype.kind not in "biufO":
        raise ShapeError(f"{name} is not a series of numbers: its type is {given.dtype}")
    return given


def _refuse(given: Any, array: Floats, name: str) -> None:
    limit = MAGNITUDE_MAX[array.dtype]
    position = int(np.argmin(np.abs(array) <= limit))
    value = float(array[position] if given[position] is None else given[position])
    if np.isfinite(value):
        raise NotFiniteError(
            f"{name} has {value:g} at position {position}, beyond {limit:g}, the most that can be "
            f"squared and summed in {array.dtype}: scale the series"
        )
    raise NotFiniteError(f"{name} has {value} at position {position}: remove or fill it first")


def filled(values: ArrayLike, *, name: str, dtype: Any = None) -> Floats:
    """Return what `floats` returns, and refuse an empty series."""
    array = floats(values, name=name, dtype=dtype)
    if not array.size:
        raise ShapeError(f"{name} is empty")
    return array


def table(values: ArrayLike | Sequence[ArrayLike], *, name: str, dtype: Any = None) -> Floats:
    """Return `values` as a contiguous float array of two dimensions, a series in each row.

    Parameters
    ----------
    values : array_like, shape (count, n)
        An array, or a sequence of series of one length. float32 stays float32 unless `dtype` says
        otherwise; everything else becomes float64.
    name : str
        What the message calls it.
    dtype : numpy dtype, optional

    Raises
    ------
    ShapeError
        No rows, no points, rows of several lengths, or not numbers.
    NotFiniteError
        NaN, infinity, or beyond `MAGNITUDE_MAX` of the type; names the first row and position.
    """
    given: Any = (
        _numbers(values, name) if isinstance(values, np.ndarray) else _stacked(values, name)
    )
    if given.ndim != 2:
        raise ShapeError(f"{name} has {given.ndim} dimensions, shape {given.shape}: give two")
    if not given.size:
        raise ShapeError(f"{name} is empty, shape {given.shape}")
    try:
        flat: Any = floats(given.reshape(-1), name=name, dtype=dtype)
    except NotFiniteError:
        flat = np.stack(  # row by row the message has the place
            [floats(row, name=f"{name}[{i}]", dtype=dtype) for i, row in enumerate(given)]
        )
    checked: Floats = flat.reshape(given.shape)
    return checked


def _stacked(values: Any, name: str) -> NDArray[Any]:
    try:
        rows = [_numbers(row, f"{name}[{number}]") for number, row in enumerate(values)]
    except ShapeError:
        raise
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name} is not a sequence of series: {error}") from None
    for row, points in enumerate(rows):
        if points.ndim != 1:
            raise ShapeError(
                f"{name}[{row}] has {points.ndim} dimensions, shape {points.shape}: give one"
            )
        if points.size != rows[0].size:
            raise ShapeError(
                f"{name} has rows of several lengths: {rows[0].size} points in the first, "
                f"{points.size} in row {row}"
            )
    return np.stack(rows) if rows else np.empty((0, 0))
