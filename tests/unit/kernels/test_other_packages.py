"""`make conformance` names tests that exist.

Those tests need an environment of their own, so the suite does not run them. Without this test,
nobody would notice that a file has been renamed.
"""

from __future__ import annotations

import pytest

from tests.conformance.other_packages.__main__ import TOP, Part, parts


@pytest.mark.parametrize("part", list(parts()), ids=lambda part: part.name)
def test_each_part_names_tests_that_exist(part: Part) -> None:
    assert [path for path in part.paths if not (TOP / path).exists()] == []
