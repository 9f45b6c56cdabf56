"""Identities are parsed from a URI; an error names the part that is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstreamer.domain import identity
from midstreamer.domain.errors import BadInput

parts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(
    domain=parts,
    kind=st.sampled_from(list(identity.Kind)),
    id=st.lists(parts, min_size=1, max_size=4),
)
def test_what_is_written_is_read_back(domain: str, kind: identity.Kind, id: list[str]) -> None:
    named = identity.make(domain, kind, "/".join(id))
    assert identity.parse(named.uri) == named


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "agent/a1",
        "https://local/agent/a1",
        "spiffe://local",
        "spiffe://local/agent",
        "spiffe://local/agent/",
        "spiffe://local/wizard/a1",
        "spiffe:///agent/a1",
        "spiffe://local/agent/../a1",
        "spiffe://local/agent/a b",
        "spiffe://local/agent/a/b/c/d/e",
        "spiffe://local/agent/" + "a" * 300,
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(BadInput):
        identity.parse(uri)


def test_the_label_is_the_last_part_a_person_can_read() -> None:
    pod = "prod/agent-7d9f/0b1c2d3e-0000-4000-8000-0123456789ab"
    assert identity.make("local", identity.Kind.AGENT, pod).label == "agent-7d9f"
    assert identity.make("local", identity.Kind.AGENT, "a1").label == "a1"
