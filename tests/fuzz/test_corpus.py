"""Every test run gives each target its valid inputs, changed valid inputs, and past failures.

The past failures are inputs that once showed a bug. They are kept in the folder `worker.COMMITTED`.
"""

from __future__ import annotations

import pytest

from tests.fuzz import worker
from tests.fuzz.targets import all_targets

TARGETS = all_targets()
QUICK = 200


@pytest.mark.parametrize("name", TARGETS)
def test_kept_and_valid_inputs_are_taken_or_refused_by_name(name: str) -> None:
    kept = [path.read_bytes() for path in sorted((worker.COMMITTED / name).glob("*"))]
    for data in [*kept, *TARGETS[name].seeds()]:
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_edited_inputs_are_taken_or_refused_by_name(name: str) -> None:
    seeds = TARGETS[name].seeds()

    def show(data: bytes) -> None:
        print(f"{name} fails on {data!r}")

    worker.examples(TARGETS[name].run, seeds, count=QUICK, failed=show)


def test_every_target_gets_a_hundred_thousand_inputs_and_all_ten_million() -> None:
    counts = [target.inputs for target in TARGETS.values()]
    assert min(counts) >= 100_000
    assert sum(counts) >= 10_000_000


def test_a_kept_input_belongs_to_a_target() -> None:
    folders = {path.name for path in worker.COMMITTED.iterdir() if path.is_dir()}
    assert folders <= set(TARGETS)
