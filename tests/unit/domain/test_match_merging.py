"""Merging the matches of several shards gives the same as one sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain import match

rows = st.lists(
    st.builds(
        match.Match,
        series=st.sampled_from(["u/a", "u/b", "u/c"]),
        start=st.integers(0, 50),
        time=st.integers(0, 50),
        distance=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        outcome=st.floats(-3, 3),
    ),
    max_size=30,
    unique_by=lambda row: (row.series, row.start),
)


@given(rows=rows, k=st.integers(1, 10), cuts=st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_merging_parts_is_sorting_the_whole(
    rows: list[match.Match], k: int, cuts: list[int]
) -> None:
    parts = [
        match.from_rows([row for row, cut in zip(rows, cuts, strict=False) if cut == part], k)
        for part in range(4)
    ]
    assert match.merge(parts, k) == match.from_rows(rows, k)


@given(rows=rows)
def test_rows_survive_the_columns(rows: list[match.Match]) -> None:
    matches = match.from_rows(rows)
    assert len(matches) == len(rows)
    assert sorted(matches) == sorted(rows)


def test_ties_go_to_the_earlier_name_then_the_earlier_start() -> None:
    tied = [match.Match("u/b", 0, 9, 1.0, 0.0), match.Match("u/a", 8, 9, 1.0, 0.0)]
    tied.append(match.Match("u/a", 0, 9, 1.0, 0.0))
    assert [(row.series, row.start) for row in match.from_rows(tied, 2)] == [("u/a", 0), ("u/a", 8)]


def test_nothing_merged_is_nothing() -> None:
    assert match.merge([match.Matches(), match.Matches()], 5) == match.Matches()
