"""Checks of the series that callers pass: one-dimensional, not empty, finite.

Nothing is repaired silently. `table` accepts many series of one length. It refuses series of
different lengths, because only the user knows how to make them equally long.

A comparison with NaN is always false. So a search over NaN could return a distance that looks valid
but is wrong. Therefore NaN is refused, and the message names its position. The check takes one pass
over the array: `numpy.abs` keeps NaN, and `argmax` finds it. Only when a value is refused, the code
searches for the position of that value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.errors import NotFiniteError, ShapeError

# Greatest absolute value of a point, by type. With this limit the sum of a million squared
# differences is still finite.
MAGNITUDE_MAX = {np.dtype(np.float32): 1e15, np.dtype(np.float64): 1e150}

_FLOAT32, _FLOAT64 = MAGNITUDE_MAX

Floats = NDArray[np.float64] | NDArray[np.float32]


def floats(values: ArrayLike, *, name: str, dtype: Any = None) -> Floats:
    """Return `values` as a contiguous float array of shape (n,); n may be 0.

    Parameters
    ----------
    values : array_like, shape (n,)
        float32 stays float32 and everything else becomes float64, unless `dtype` is given.
    name : str
        The name of the series in error messages.
    dtype : numpy dtype, optional
        float32 or float64, the type to return.

    Raises
    ------
    ShapeError
        `values` is not one-dimensional, or does not contain numbers.
    NotFiniteError
        A value is NaN, infinite, or beyond `MAGNITUDE_MAX` of its type. The message names the first
        such position.
    """
    try:
        given = _numbers(values, name)
        wanted: Any = dtype or (given.dtype if given.dtype == _FLOAT32 else _FLOAT64)
        if given.dtype == wanted and given.flags.c_contiguous:
            array: Floats = given
        else:
            with np.errstate(over="ignore"):  # an overflow is refused below, with its position
                array = np.ascontiguousarray(given, dtype=wanted)
    except ShapeError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ShapeError(f"{name} is not a series of numbers: {error}") from None
    if given.ndim != 1:
        raise ShapeError(
            f"{name} has {given.ndim} dimensions, shape {given.shape}: give one dimension"
        )
    if array.size:
        magnitudes = np.abs(array)
        # `argmax` returns the index of the first NaN if there is one, else of the greatest value.
        # So one comparison refuses NaN and values that are too great. `argmax` takes a third of the
        # time of `max`.
        if not magnitudes[magnitudes.argmax()] <= MAGNITUDE_MAX[array.dtype]:
            _refuse(given, array, name)
    return array


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """Return `values` as an array; refuse masked values and types that are not real numbers.

    Raises `ShapeError`. numpy would accept such input: it would use the values under a mask, and
    turn dates into numbers.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        position = int(np.argmax(np.ma.getmaskarray(values)))
        raise ShapeError(f"{name} is masked at position {position}: remove or fill it first")
    given = np.asarray(values)
    # Complex numbers would lose their imaginary part; text and dates would become numbers.
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
    """Return `values` as a contiguous float array of shape (n,), as `floats` does.

    An empty series raises `ShapeError`.
    """
    array = floats(values, name=name, dtype=dtype)
    if not array.size:
        raise ShapeError(f"{name} is empty: give at least one point")
    return array


def table(values: ArrayLike | Sequence[ArrayLike], *, name: str, dtype: Any = None) -> Floats:
    """Return `values` as a contiguous float array of shape (count, n), one series per row.

    Parameters
    ----------
    values : array_like, shape (count, n)
        An array, or a sequence of series of one length. float32 stays float32 and everything else
        becomes float64, unless `dtype` is given.
    name : str
        The name of the table in error messages.
    dtype : numpy dtype, optional
        float32 or float64, the type to return.

    Raises
    ------
    ShapeError
        There are no rows or no points, the rows have several lengths, or they are not numbers.
    NotFiniteError
        A value is NaN, infinite, or beyond `MAGNITUDE_MAX` of its type. The message names the first
        such row and position.
    """
    given: Any = (
        _numbers(values, name) if isinstance(values, np.ndarray) else _stacked(values, name)
    )
    if given.ndim != 2:
        raise ShapeError(
            f"{name} has {given.ndim} dimensions, shape {given.shape}: give two dimensions"
        )
    if not given.size:
        raise ShapeError(f"{name} is empty, shape {given.shape}")
    try:
        flat: Any = floats(given.reshape(-1), name=name, dtype=dtype)
    except NotFiniteError:
        flat = np.stack(  # check row by row, so that the error names row and position
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
                f"{name}[{row}] has {points.ndim} dimensions, shape {points.shape}: "
                "give one dimension"
            )
        if points.size != rows[0].size:
            raise ShapeError(
                f"{name} has rows of several lengths: {rows[0].size} points in row 0, "
                f"{points.size} in row {row}; give rows of one length"
            )
    return np.stack(rows) if rows else np.empty((0, 0))
