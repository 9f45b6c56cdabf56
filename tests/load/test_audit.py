"""The audit of a load finds lost, changed and duplicated values, and reads client reports."""

from __future__ import annotations

import pytest

from tests.load import audit, client_reports, client_requests
from tests.load.audit import Stored
from tests.load.client_reports import Heard

SERIES = "driven/u1-00"
EXPERIENCE = "aa" * 16


def all_stored(count: int = 4) -> Stored:
    values = client_requests.values_of("u1-00")
    ticks = {
        (SERIES, client_requests.time_at(index)): [float(values[index])] for index in range(count)
    }
    return Stored(ticks, {EXPERIENCE: [0.5]})


def all_heard() -> Heard:
    return Heard(stored=[(SERIES, 0, 4)], decisions={EXPERIENCE: 0.5})


def test_what_is_stored_once_as_acknowledged_is_not_lost() -> None:
    assert audit.lost(all_heard(), all_stored()) == []


def test_an_acknowledged_tick_that_is_missing_changed_or_double_is_lost() -> None:
    found = all_stored()
    del found.ticks[SERIES, client_requests.time_at(1)]
    found.ticks[SERIES, client_requests.time_at(2)][0] += 1.0
    found.ticks[SERIES, client_requests.time_at(3)] *= 2

    lost = audit.lost(all_heard(), found)

    assert [each.partition(":")[0] for each in lost] == [f"tick {n} of {SERIES}" for n in (1, 2, 3)]


@pytest.mark.parametrize("stored", [[], [0.25], [0.5, 0.5]])
def test_an_acknowledged_decision_that_is_missing_changed_or_double_is_lost(
    stored: list[float],
) -> None:
    found = all_stored()
    found.decisions[EXPERIENCE] = stored

    lost = audit.lost(all_heard(), found)

    assert lost == [f"decision {EXPERIENCE}: answered 0.5, stored {stored}"]


def test_a_file_gives_back_what_a_client_told() -> None:
    heard = Heard()
    heard.read(
        "load.jsonl",
        [
            '{"ready": true}\n',
            '{"stored": ["driven/u1-00", 0, 96]}\n',
            '{"retry": "unavailable: gone", "at_s": 1.5}\n',
            f'{{"what": "match", "due_s": 1, "end_s": 3, "error": "", "decision": ["{EXPERIENCE}", 0.5]}}\n',  # noqa: E501
        ],
    )

    assert heard.stored == [("driven/u1-00", 0, 96)]
    assert heard.ticks == 96
    assert heard.decisions == {EXPERIENCE: 0.5}
    assert [each.took_s for each in heard.requests] == [2.0]
    assert [each.error for each in heard.retries] == ["unavailable: gone"]
    assert heard.troubles == []


def test_a_decision_that_was_answered_twice_in_two_ways_is_a_trouble() -> None:
    heard = Heard()
    for probability in (0.5, 0.25):
        report = {"what": "match", "due_s": 1, "end_s": 3, "error": ""}
        heard.take("u1", report | {"decision": [EXPERIENCE, probability]})

    assert heard.troubles == [f"decision {EXPERIENCE} was answered as 0.5 and again as 0.25"]


def test_a_line_without_an_end_is_told_and_what_is_before_it_counts() -> None:
    heard = Heard()
    heard.read("load.jsonl", ['{"stored": ["driven/u1-00", 0, 96]}\n', '{"what": "ma'])

    assert heard.ticks == 96
    assert heard.troubles == ["load.jsonl:2: the last line is incomplete"]


@pytest.mark.parametrize("line", ["no JSON\n", '{"what": "match"}\n', "7\n", '{"stored": 7}\n'])
def test_a_line_that_is_no_record_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(client_reports.BadRecords, match=r"load\.jsonl:1: .* is not a load record"):
        Heard().read("load.jsonl", [line])
