"""Read the rows of a Parquet file for `market.feeds`. Only this module imports pyarrow.

Columns: ``time`` (timestamp of any unit, date, ISO 8601 text or whole microseconds), ``series``
(text) and ``value`` (any number). Other columns are ignored. Rows are numbered from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as files

from midstreamer.domain.errors import BadInput
from midstreamer.domain.series import qualified
from midstreamer.market.tick_rows import HEADER, Row, instant_of, number_of

BATCH_ROWS = 65_536
"""Number of rows read at a time."""
SHOWN_CHARACTERS_MAX = 200
"""Maximum characters of an error from pyarrow that a message quotes."""


def rows(path: Path) -> Iterator[Row]:
    """Yield every row, each checked on its own."""
    try:
        with files.ParquetFile(path) as opened:
            missing = [name for name in HEADER if name not in opened.schema_arrow.names]
            if missing:
                raise BadInput(
                    f"{path}: no column {missing[0]!r}; the columns are"
                    f" {', '.join(opened.schema_arrow.names)[:200]}"
                )
            line = 0
            for batch in opened.iter_batches(BATCH_ROWS, columns=list(HEADER)):
                yield from _batch(batch, line, path)
                line += batch.num_rows
    except (arrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        # For a damaged file, pyarrow raises an ArrowException or a built-in exception of Python,
        # such as OSError. So all these types are caught.
        shown = str(error)[:SHOWN_CHARACTERS_MAX]
        raise BadInput(f"{path}: not a readable Parquet file: {shown}") from error


def _batch(batch: Any, before: int, path: Path) -> Iterator[Row]:
    """Yield the rows of one batch; ``before`` is the number of rows before the batch."""
    times = _times(batch.column("time"), path).to_pylist()
    names: dict[str, str] = {}
    cells = zip(
        times, batch.column("series").to_pylist(), batch.column("value").to_pylist(), strict=True
    )
    for line, (time, series, value) in enumerate(cells, start=before + 1):
        try:
            if time is None or series is None or value is None:
                raise BadInput("a cell is empty; leave the row out when there is no value")
            name = names.get(series) or names.setdefault(series, qualified(str(series)))
            moment = instant_of(time) if isinstance(time, str) else int(time)
            yield Row(line, name, moment, number_of(str(value), name))
        except BadInput as error:
            raise BadInput(f"{path}: row {line}: {error.message}") from error


def _times(values: Any, path: Path) -> Any:
    """Return the times as whole microseconds, or as text that is still to be parsed."""
    kind = values.type
    if arrow.types.is_date(kind) or arrow.types.is_timestamp(kind):
        zone = getattr(kind, "tz", None)
        return values.cast(arrow.timestamp("us", tz=zone), safe=False).cast(arrow.int64())
    if (
        arrow.types.is_integer(kind)
        or arrow.types.is_string(kind)
        or arrow.types.is_large_string(kind)
    ):
        return values
    raise BadInput(
        f"{path}: column time is {kind}; use a timestamp, a date, ISO 8601 text or microseconds"
    )
