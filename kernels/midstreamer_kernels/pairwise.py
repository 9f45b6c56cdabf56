"""The matrix of distances between many series, computed tile by tile in several threads.

The matrix is divided into tiles that each take some ten milliseconds. Every thread takes one tile
after another and computes it without the GIL. Progress is reported, and Ctrl-C takes effect,
between two tiles. The distances do not depend on the division into tiles or on the threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from midstreamer_kernels.band import half_width
from midstreamer_kernels.engines import DEFAULT, backend
from midstreamer_kernels.errors import OptionError
from midstreamer_kernels.native import distance_matrix, lcss
from midstreamer_kernels.native.distance_matrix import Tile
from midstreamer_kernels.options import (
    checked_distance,
    checked_epsilon,
    checked_measure,
    checked_threads,
)
from midstreamer_kernels.series_checks import Floats, table

CELLS_MAX = 2**26  # greatest number of matrix cells in one tile; they take 10 to 50 milliseconds
TILES_PER_THREAD = 8  # at least so many tiles per thread: then all threads end almost together

Progress = Callable[[int, int], object]


def pairwise(
    rows: ArrayLike | Sequence[ArrayLike],
    columns: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    measure: str = "dtw",
    epsilon: float | None = None,
    band: int | None = None,
    engine: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return the distance of every series in `rows` to every series in `columns`.

    Parameters
    ----------
    rows : array_like, shape (p, n)
        Series of one length; call `dtw` for each pair if lengths differ. Computed in float32 if
        all series are float32, else in float64.
    columns : array_like, shape (q, m), optional
        Series of one length m. None means `rows`: half of the matrix is computed and mirrored.
    measure : {"dtw", "lcss"}
        What `dtw` returns, or ``1 - length / min(n, m)`` with the length that `lcss` returns.
    epsilon : float
        The greatest difference of two points that match by LCSS. Required for "lcss".
    band : int, optional
        Half-width of the band in points: ``|i - j| <= band``. None is the full matrix.
    engine : {"auto", "numba", "wasm"}
    threads : int, optional
        Number of threads, at most 256. None means one for each CPU that this process may use.
    progress : callable, optional
        Called as ``progress(done, total)`` in the calling thread after every tile; counts pairs.
        An exception in it, or Ctrl-C, is raised when each thread has finished its tile.

    Returns
    -------
    ndarray, shape (p, q), float64

    Raises
    ------
    InputError
        `NotFiniteError`, `ShapeError`, `BandError` or `OptionError`; see `errors`.

    Notes
    -----
    O(p * q * n * m) time, with a band O(p * q * n * band). Both engines return the same bits.
    """
    left = table(rows, name="rows")
    right = left if columns is None else table(columns, name="columns")
    width = half_width(band, left.shape[1], right.shape[1])
    # DTW compares one row with many columns, one in each lane. So the larger table becomes the
    # columns. The two tables may be swapped, because DTW distances are symmetric.
    turned = checked_measure(measure) == "dtw" and len(right) < len(left)
    tables = (right, left) if turned else (left, right)
    grid = _grid(*tables, symmetric=columns is None, lcss=measure == "lcss", band=width)
    fill = _filler(grid, measure, _tolerance(measure, epsilon), engine)
    workers = checked_threads(threads)
    if progress is not None and not callable(progress):
        raise OptionError(f"progress is {progress!r}: give a function of two numbers")
    _fill_in(grid, fill, workers, progress)
    return np.ascontiguousarray(grid.distances.T) if turned else grid.distances


@dataclass(frozen=True)
class _Grid:
    """The two tables of series to compare, and the matrix of distances to fill."""

    rows: Floats
    columns: Floats
    symmetric: bool
    band: int
    distances: NDArray[np.float64]

    def first_column(self, tile: Tile, row: int) -> int:
        """Return the first column of `tile` that is compared with `row`.

        For a symmetric matrix only columns after the diagonal are compared.
        """
        return max(tile.left, row + 1) if self.symmetric else tile.left

    def pairs(self, tile: Tile) -> int:
        """Return the number of pairs of series that are compared in `tile`."""
        rows = range(tile.top, tile.bottom)
        return sum(max(0, tile.right - self.first_column(tile, row)) for row in rows)


def _grid(rows: Floats, columns: Floats, *, symmetric: bool, lcss: bool, band: int) -> _Grid:
    # LCSS needs float64, because it compares points by their difference in float64 for every type
    # of series.
    dtype = np.float64 if lcss else np.result_type(rows.dtype, columns.dtype)
    return _Grid(
        rows=rows.astype(dtype, copy=False),
        columns=columns.astype(dtype, copy=False),
        symmetric=symmetric,
        band=band,
        distances=np.zeros((len(rows), len(columns))),
    )


def _tolerance(measure: str, epsilon: float | None) -> float:
    if measure == "lcss":
        return checked_epsilon(epsilon)
    return checked_distance(epsilon, name="epsilon")


def _filler(grid: _Grid, measure: str, epsilon: float, engine: str) -> Callable[[Tile], None]:
    """Return the function that computes one tile."""
    functions = backend(engine)
    if engine in ("auto", DEFAULT):
        return _dtw_tiles(grid) if measure == "dtw" else _lcss_tiles(grid, epsilon)
    if measure == "dtw":
        number = grid.rows.dtype.type
        return _pairs_by(
            grid,
            lambda a, b: np.sqrt(number(functions.dtw_squared(a, b, grid.band, math.inf))),
        )
    most = min(grid.rows.shape[1], grid.columns.shape[1])
    return _pairs_by(
        grid, lambda a, b: 1.0 - functions.lcss_length(a, b, epsilon, grid.band) / most
    )


def _dtw_tiles(grid: _Grid) -> Callable[[Tile], None]:
    def fill(tile: Tile) -> None:
        distance_matrix.dtw_tile(
            grid.rows, grid.columns, grid.band, grid.symmetric, tile, grid.distances
        )

    return fill


def _lcss_tiles(grid: _Grid, epsilon: float) -> Callable[[Tile], None]:
    keys = np.stack([lcss.ordered(column) for column in grid.columns])

    def fill(tile: Tile) -> None:
        distance_matrix.lcss_tile(
            grid.rows, grid.columns, keys, epsilon, grid.band, grid.symmetric, tile, grid.distances,
        )  # fmt: skip

    return fill


def _pairs_by(grid: _Grid, distance: Callable[[Floats, Floats], float]) -> Callable[[Tile], None]:
    def fill(tile: Tile) -> None:
        for row in range(tile.top, tile.bottom):
            for column in range(grid.first_column(tile, row), tile.right):
                found = distance(grid.rows[row], grid.columns[column])
                grid.distances[row, column] = found
                if grid.symmetric:
                    grid.distances[column, row] = found

    return fill


def _fill_in(
    grid: _Grid, fill: Callable[[Tile], None], threads: int, progress: Progress | None
) -> None:
    """Compute every tile, and call `progress` with the number of finished pairs after each."""
    tiles = _tiles(grid, threads)
    done, total = 0, sum(grid.pairs(tile) for tile in tiles)
    for tile in _computed(fill, tiles, threads):
        done += grid.pairs(tile)
        if progress is not None:
            progress(done, total)


def _tiles(grid: _Grid, threads: int) -> list[Tile]:
    """Divide the matrix into tiles of about equal work, without tiles that only mirror others."""
    (p, n), (q, m) = grid.rows.shape, grid.columns.shape
    cells = n * min(m, 2 * grid.band + 1)
    pairs = min(CELLS_MAX // cells, p * q // (TILES_PER_THREAD * threads))
    height = min(p, max(1, math.isqrt(pairs)))
    width = min(q, max(1, pairs // height))
    tiles = [
        Tile(top, min(p, top + height), left, min(q, left + width))
        for top in range(0, p, height)
        for left in range(0, q, width)
    ]
    return [tile for tile in tiles if grid.pairs(tile)]


def _computed(fill: Callable[[Tile], None], tiles: list[Tile], threads: int) -> Iterator[Tile]:
    """Compute the tiles and yield each tile when it is done.

    If the caller stops iterating, for example because of Ctrl-C, waiting tiles are cancelled.
    """
    if threads == 1 or len(tiles) < 2:
        for tile in tiles:
            fill(tile)
            yield tile
        return
    pool = ThreadPoolExecutor(threads)
    try:
        running = {pool.submit(fill, tile): tile for tile in tiles}
        for future in as_completed(running):
            future.result()
            yield running[future]
    finally:
        pool.shutdown(cancel_futures=True)
