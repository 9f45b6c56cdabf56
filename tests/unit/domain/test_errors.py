"""The error classes: each has its own code, and a code from a frame gives its class."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.one_of(st.text(), st.binary(), st.lists(st.text())), st.sampled_from([1, 300, 5000]))
def test_a_quoted_value_has_at_most_200_characters(value: Any, times: int) -> None:
    assert len(errors.quoted(value * times)) <= errors.QUOTED_CHARACTERS_MAX


def test_a_short_value_is_quoted_whole() -> None:
    assert errors.quoted("a'b") == repr("a'b")


def test_no_message_is_longer_than_its_bound_even_when_a_peer_wrote_it() -> None:
    error = errors.from_code("bad_input", "x" * 1_000_000)
    assert len(error.message) == len(str(error)) == errors.MESSAGE_CHARACTERS_MAX
    assert error.message.endswith("(1,000,000 characters)")
    assert len(errors.Refused("no", reason="y" * 1_000_000).reason) <= 200
