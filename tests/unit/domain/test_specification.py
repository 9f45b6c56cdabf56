"""The fields of a specification are checked together; its name is the digest of all fields."""

import msgspec
import pytest

from midstreamer.domain import decision, series, specification
from midstreamer.domain.errors import BadInput
from midstreamer.domain.specification import Specification


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"window": 3}, "window = 3"),
        ({"window": 100_000}, "window = 100000"),
        ({"horizon": 0}, "horizon = 0"),
        ({"neighbours": 0}, "neighbours = 0"),
        ({"band": -1}, "band = -1"),
        ({"band": 65}, "band = 65"),
        ({"grid": 0}, "grid = 0"),
        ({"target": 1.0}, "target = 1.0"),
        ({"coverage": float("nan")}, "coverage = nan"),
        ({"universe": ""}, "universe = ''"),
        ({"universe": "a/b"}, "universe = 'a/b'"),
    ],
)
def test_a_field_out_of_its_range_is_named(change: dict[str, object], named: str) -> None:
    wrong = msgspec.structs.replace(Specification("u"), **change)
    with pytest.raises(BadInput, match=named):
        specification.check(wrong)


def test_every_field_is_in_the_digest() -> None:
    base = Specification("u")
    other_words = {
        "universe": "v",
        "measure": "lcss",
        "transform": "identity",
        "scale": "deviation",
    }
    others = [
        msgspec.structs.replace(base, **{field.name: other_words.get(field.name, 7)})
        for field in msgspec.structs.fields(Specification)
    ]
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


def test_a_name_in_plain_text_becomes_the_value_it_names() -> None:
    typed = Specification("u", transform="identity", scale="deviation", measure="lcss")  # type: ignore[arg-type]
    assert typed.transform is specification.Transform.IDENTITY
    assert typed.scale is specification.Scale.DEVIATION
    assert typed.measure is specification.Measure.LCSS


def test_a_name_nobody_knows_is_refused_with_those_known() -> None:
    with pytest.raises(BadInput, match="transform = 'cube' is unknown: use one of identity, log"):
        Specification("u", transform="cube")  # type: ignore[arg-type]


def test_the_same_question_has_one_id() -> None:
    spec = Specification("u")
    window = series.window([1.0, 2.0], series="u/s", time=5)
    again = series.window([9.0, 9.0], series="u/s", time=5)
    later = series.window([1.0, 2.0], series="u/s", time=6)
    assert decision.experience_id(spec, window) == decision.experience_id(spec, again)
    assert decision.experience_id(spec, window) != decision.experience_id(spec, later)
    assert decision.experience_id(spec, window) != decision.experience_id(
        Specification("v"), window
    )


def test_a_window_of_no_series_is_known_by_its_values() -> None:
    spec = Specification("u")
    first, other = series.window([1.0, 2.0]), series.window([1.0, 3.0])
    assert decision.experience_id(spec, first) != decision.experience_id(spec, other)
