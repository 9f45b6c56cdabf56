"""The allowlist: exact entries and prefixes, grants, and errors that name the line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Kind
from midstreamer.security import allowlist
from tests.support.identity_builders import who

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


GRANTS = """
client/*
client/quant-*   universes=stocks,fx   # two of them
client/quant-1   universes=load
client/feed      universes=fx
agent/*
"""


@pytest.mark.parametrize(
    ("text", "id", "granted"),
    [
        ("client/u*", "u1", "every universe"),
        ("client/u1 universes=*", "u1", "every universe"),
        ("client/u*  universes=stocks,fx", "u1", "fx, stocks"),
        ("client/u* universes=fx\nclient/u1 universes=load", "u1", "fx, load"),
        ("client/u* universes=fx\nclient/u1", "u1", "every universe"),
        ("client/u1 universes=fx\nclient/u1 universes=load", "u1", "fx, load"),
        ("client/u1 universes=fx", "u2", "none"),
        (GRANTS, "quant-1", "every universe"),
        (GRANTS.replace("client/*", ""), "quant-1", "fx, load, stocks"),
    ],
)
def test_a_client_may_append_to_what_any_entry_naming_it_grants(
    text: str, id: str, granted: str
) -> None:
    assert str(allowlist.parse(text).grant(who(Kind.CLIENT, id))) == granted


@pytest.mark.parametrize(
    ("text", "drains", "universes"),
    [
        ("client/*", False, "every universe"),
        ("client/ops-*  drain", True, "every universe"),
        ("client/ops-1  drain  universes=load", True, "load"),
        ("client/ops-1  universes=load  drain", True, "load"),
        ("client/ops-*  drain\nclient/ops-1", True, "every universe"),
        ("client/ops-2  drain\nclient/ops-1", False, "every universe"),
        ("client/ops-1  universes=drain", False, "drain"),
    ],
)
def test_only_a_client_with_the_word_behind_its_entry_may_ask_members_to_drain(
    text: str, drains: bool, universes: str
) -> None:
    granted = allowlist.parse(text).grant(who(Kind.CLIENT, "ops-1"))
    assert (granted.drain, str(granted)) == (drains, universes)


def test_only_clients_are_granted_anything() -> None:
    assert not allowlist.parse("agent/*").grant(who(Kind.AGENT)).covers("stocks")


def test_entries_that_limit_nobody_are_named() -> None:
    assert allowlist.parse(GRANTS).unlimited_clients() == ["client/*"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("client/u1 universes=", "'' in 'universes='"),
        ("client/u1 universes=a,,b", "''"),
        ("client/u1 universes=a, b", "without spaces"),
        ("client/u1 universes=a/b", "'a/b'"),
        ("client/u1 universes=a*", "'a[*]'"),
        ("client/u1 universe=a", "'universe=a' follows client/u1"),
        ("client/u1 u2", "'u2' follows client/u1"),
        ("agent/a1 universes=a", "entries of clients only"),
        ("agent/a1 drain", "'drain' follows agent/a1"),
        ("client/u1 drain drain", "'drain drain' follows client/u1"),
        ("client/u1 drains", "'drains' follows client/u1"),
    ],
)
def test_a_grant_that_cannot_be_read_is_an_error_that_names_its_line(
    line: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"allowed\.txt, line 2: .*{message}"):
        allowlist.parse(f"agent/a1\n{line}\n", source="allowed.txt")
