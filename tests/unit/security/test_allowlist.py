"""The allowlist: two forms of entry, and errors that name their line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Kind
from midstreamer.security import allowlist
from tests.support.security import who

TEXT = """
# the fleet
coordinator/c1
agent/a*          # every agent of the first room
operator/*
sync/prod/s-*
"""


@pytest.mark.parametrize(
    ("kind", "id", "allowed"),
    [
        (Kind.COORDINATOR, "c1", True),
        (Kind.COORDINATOR, "c12", False),
        (Kind.AGENT, "a1", True),
        (Kind.AGENT, "b1", False),
        (Kind.CLIENT, "a1", False),
        (Kind.OPERATOR, "anybody", True),
        (Kind.SYNC, "prod/s-0", True),
        (Kind.SYNC, "test/s-0", False),
    ],
)
def test_an_entry_names_one_identity_or_a_prefix(kind: Kind, id: str, allowed: bool) -> None:
    assert allowlist.parse(TEXT).allows(who(kind, id)) is allowed


def test_an_empty_list_allows_nobody() -> None:
    assert not allowlist.parse("").allows(who(Kind.AGENT))


@pytest.mark.parametrize(
    "entry",
    ["agent", "agent/", "wizard/w1", "agent/a*b", "agent/**", "*", "/a1", "agent/a b", "agent/*a"],
)
def test_anything_else_is_an_error_that_names_its_line(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed\.txt, line 3"):
        allowlist.parse(f"agent/a1\n\n{entry}\n", source="allowed.txt")


@given(st.text())
def test_any_text_is_a_list_or_a_named_error(text: str) -> None:
    try:
        allowlist.parse(text)
    except ConfigError as error:
        assert "line" in error.message  # noqa: PT017 - either outcome is right
