"""The error tree: one code each, and back again from the wire."""

import pytest

from midstreamer.domain import errors


def test_every_class_has_a_code_of_its_own() -> None:
    named = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in named if issubclass(kind, errors.MidstreamerError)]
    assert sorted(kind.code for kind in kinds) == sorted(errors.BY_CODE)


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_an_error_comes_back_from_its_code(code: str) -> None:
    back = errors.from_code(code, "why", 0.5)
    assert (type(back), str(back), back.retry_after_s) == (errors.BY_CODE[code], "why", 0.5)


def test_an_unknown_code_is_still_an_error() -> None:
    assert type(errors.from_code("new_in_version_9", "why")) is errors.MidstreamerError
