"""Load-test plans and shapes are checked, users get identities, and a sustained rate is found."""

import math
from pathlib import Path

import msgspec
import pytest

from loadtests import identities, latency_curve, load_plan, user_requests
from loadtests.load_plan import Plan, Shape
from loadtests.result_counts import Tally
from loadtests.start_times import steady
from midstreamer.domain.errors import BadInput
from midstreamer.protocol import frames
from midstreamer.security import allowlist, files

DOMAIN = "test.local"


def a_plan(**changes: object) -> Plan:
    shape = Shape((steady(1, 5),), users=2)
    usual = Plan(("127.0.0.1:1",), Path("certs"), DOMAIN, shape)
    return msgspec.structs.replace(usual, **changes)


def test_a_plan_survives_being_written(tmp_path: Path) -> None:
    load_plan.write(a_plan(), tmp_path / "plan.json")
    assert load_plan.read(tmp_path / "plan.json") == a_plan()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": {"fly": 1.0}}, "fly"),
        ({"mix": {"match": 0.0}}, "weights"),
        ({"shape": Shape((), users=2)}, "has no stages"),
        ({"shape": Shape((steady(1, 1),), users=0)}, "0 users"),
        ({"shape": Shape((steady(1, 1),), users=1, slow_share=2)}, "slow_share"),
        ({"thresholds": ("fast",)}, "fast"),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_plan.check(a_plan(**changes))


def test_a_shape_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"stages": [{"seconds": 5, "begin": 1, "end": 9}], "users": 3}', "utf-8")
    assert load_plan.shape_of(str(path)).users == 3
    with pytest.raises(BadInput, match="smoke"):
        load_plan.shape_of("nonsense")
    path.write_text('{"stages": 5}', "utf-8")
    with pytest.raises(BadInput, match="mine.json"):
        load_plan.shape_of(str(path))


@pytest.mark.parametrize("name", load_plan.SHAPES)
def test_every_shape_can_be_done(name: str) -> None:
    load_plan.check(a_plan(shape=load_plan.SHAPES[name]))


def test_users_are_let_in_by_one_line_and_append_to_one_universe(tmp_path: Path) -> None:
    files.init_authority(tmp_path, DOMAIN, days=365)
    for _ in range(2):  # a second call gives the same result
        identities.make(tmp_path, 2, DOMAIN)
    text = (tmp_path / "allowlist").read_text("utf-8")
    listed = allowlist.parse(text)
    assert text.count(identities.ENTRY) == 1
    me = identities.trust(tmp_path, identities.user(1, DOMAIN)).me
    assert listed.allows(me)
    assert listed.allows(identities.sdk(DOMAIN))
    assert not listed.allows(identities.stranger(DOMAIN))
    assert listed.grant(me).covers(identities.TICKS)
    assert not listed.grant(me).covers(identities.FOREIGN)


def test_ticks_of_a_user_go_in_order_to_a_series_of_its_own() -> None:
    specification = user_requests.specification()
    asked = user_requests.windows(user_requests.history(), specification.window)
    left, other = (user_requests.Words(name, "r1", asked, specification) for name in ("1", "2"))
    first, second, foreign = (left.frame(kind) for kind in ("append", "append", "refusal"))
    strange = other.frame("append")
    for each in (first, second, foreign, strange):
        assert isinstance(each, frames.Append)
    assert first.columns[0].times_array()[0] < second.columns[0].times_array()[0]  # type: ignore[attr-defined]
    assert first.columns[0].series != strange.columns[0].series  # type: ignore[attr-defined]
    assert foreign.columns[0].series.startswith("foreign/")  # type: ignore[attr-defined]


def test_the_sustained_rate_is_the_last_before_the_first_failure() -> None:
    stages = tuple(stage for rate in (5, 10, 20, 40) for stage in (steady(1, rate), steady(1, 0)))
    tallies = [Tally() for _ in stages]
    for number, seconds in enumerate((0.010, 0.015, 0.021, 0.012)):
        tallies[2 * number].ok("match", latency_s=seconds, service_s=seconds)
    found = latency_curve.points(stages, tallies, "match")
    assert [point["rate"] for point in found] == [5, 10, 20, 40]
    assert latency_curve.borne(found) == 10
    found[0]["failed"] = 1
    assert math.isnan(latency_curve.borne(found))


def test_a_point_is_the_median_of_its_sweeps_and_counts_all_of_them() -> None:
    stages = (steady(1, 5), steady(1, 10)) * 3
    tallies = [Tally() for _ in stages]
    for tally, seconds in zip(tallies, (0.010, 0.5, 0.012, 0.014, 0.3, 0.015), strict=True):
        tally.ok("match", latency_s=seconds, service_s=seconds)
    found = latency_curve.points(stages, tallies, "match")
    assert [(point["rate"], point["count"]) for point in found] == [(5, 3), (10, 3)]
    assert [point["p99_ms"] for point in found] == pytest.approx([12, 15], rel=0.02)
