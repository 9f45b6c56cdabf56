"""1-NN classification on public data sets gives exactly the published counts.

The counts are published for the UCR archive, for DTW with the full matrix or within a band. The
data sets are contained in other packages. A single wrong neighbour would change a count.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from midstreamer_kernels import Collection, pairwise
from tests.conformance.other_packages.compared_libraries import aeon, pyts, tslearn

Labels = NDArray[np.str_]


class Part(NamedTuple):
    """Series of equal length, shape (count, points), and their classes."""

    series: NDArray[np.float64]
    labels: Labels


def of_aeon(name: str, part: str) -> Part:
    """Read a `.ts` file of aeon: each line has values with commas, a colon and the class."""
    path = Path(aeon.__file__).parent / f"datasets/data/{name}/{name}_{part}.ts"
    text = path.read_text(encoding="utf-8").partition("@data\n")[2]
    split = [line.rpartition(":") for line in text.split()]
    rows = [np.array(values.split(","), dtype=float) for values, _, _ in split]
    return Part(np.stack(rows), np.array([label for _, _, label in split]))


def of_tslearn(name: str, part: str) -> Part:
    """Read a file of tslearn, which holds arrays."""
    file = np.load(Path(tslearn.__file__).parent / f".cached_datasets/{name}.npz")
    series = file[f"X_{part.lower()}"][:, :, 0].astype(float)
    return Part(series, file[f"y_{part.lower()}"].astype(str))


def of_pyts(name: str, part: str) -> Part:
    """Read a file of pyts: each line has the class, then the values."""
    folder = Path(pyts.__file__).parent / f"datasets/cached_datasets/UCR/{name}"
    table = np.loadtxt(folder / f"{name}_{part}.txt")
    return Part(np.ascontiguousarray(table[:, 1:]), table[:, 0].astype(str))


SETS: list[tuple[str, Callable[[str, str], Part], int | None, int, int]] = [
    ("GunPoint", of_aeon, None, 136, 150),
    ("GunPoint", of_pyts, None, 136, 150),
    ("ItalyPowerDemand", of_aeon, None, 978, 1029),
    ("ArrowHead", of_aeon, None, 123, 175),
    ("OSULeaf", of_aeon, None, 143, 242),
    ("OSULeaf", of_aeon, 25, 145, 242),
    ("Trace", of_tslearn, None, 100, 100),
    ("Coffee", of_pyts, None, 28, 28),
]


@pytest.mark.parametrize(("name", "read", "band", "right", "count"), SETS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_first_neighbour_is_right_as_often_as_published(
    name: str, read: Callable[[str, str], Part], band: int | None, right: int, count: int,
    dtype: type[np.floating],
) -> None:  # fmt: skip
    known, asked = read(name, "TRAIN"), read(name, "TEST")

    distances = pairwise(asked.series.astype(dtype), known.series.astype(dtype), band=band)

    assert len(asked.labels) == count
    assert np.sum(known.labels[distances.argmin(axis=1)] == asked.labels) == right


@pytest.mark.parametrize(("name", "read", "band", "right", "count"), SETS)
def test_a_collection_finds_as_many(
    name: str, read: Callable[[str, str], Part], band: int | None, right: int, count: int
) -> None:
    known, asked = read(name, "TRAIN"), read(name, "TEST")
    rows = Collection(known.series)

    nearest = [rows.nearest(query, band=band).index[0] for query in asked.series]

    assert len(nearest) == count
    assert np.sum(known.labels[nearest] == asked.labels) == right
