"""The operator creates its CA once; other CAs stay in the bundle that it publishes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstreamer.cluster import kubernetes_names
from midstreamer.domain.errors import ConfigError, Refused
from midstreamer.security.authority import Authority, establish
from midstreamer_operator import authority
from midstreamer_operator.resources import authorities
from tests.support.api_server import ApiServer, Caller
from tests.support.operator_builders import AUTHORITY, DOMAIN, NAMESPACE, NOW_S, POLICY, RELEASE

SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


async def test_the_first_start_makes_it_and_the_next_reads_it() -> None:
    api = Caller(ApiServer())
    opened = await authority.opened(api, POLICY, NOW_S)
    again = await authority.opened(api, POLICY, NOW_S + 100.0)
    assert opened.certificate == again.certificate
    assert opened.key.public_key() == again.key.public_key()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=12))
async def test_two_that_start_together_have_one_authority(turns: list[bool]) -> None:
    server = ApiServer()
    running = {turn: authority.opened(Caller(server), POLICY, NOW_S) for turn in (False, True)}
    opened: list[Authority] = []
    for turn in [*turns, *[False, True] * 4]:
        try:
            if turn in running:
                running[turn].send(None)
        except StopIteration as end:
            opened.append(end.value)
            del running[turn]
    assert [each.certificate for each in opened] == [opened[0].certificate] * 2
    assert len(server.all(SECRETS)) == 1


async def test_the_bundle_is_published_and_others_in_it_stay() -> None:
    server = ApiServer()
    before = establish(DOMAIN, now_s=NOW_S).certificate
    await authority.published(Caller(server), POLICY, AUTHORITY)
    server.put(MAPS, authorities.bundle(RELEASE, [before]))
    await authority.published(Caller(server), POLICY, AUTHORITY)
    (found,) = server.all(MAPS)
    assert found["metadata"]["name"] == kubernetes_names.bundle(RELEASE)
    assert authorities.trusted(found) == (before, AUTHORITY.certificate)
    writes = len(server.calls)
    await authority.published(Caller(server), POLICY, AUTHORITY)
    assert server.calls[writes:] == [("GET", f"{MAPS}/mid-trust")]


OTHER = authorities.secret(RELEASE, establish(DOMAIN, now_s=NOW_S))["data"]


def a_secret(**changes: str) -> dict[str, Any]:
    secret = authorities.secret(RELEASE, AUTHORITY)
    return {**secret, "data": {**secret["data"], **changes}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metadata": {"name": "mid-authority"}}, "has no readable tls.key"),
        (a_secret(**{"tls.key": "AAAA"}), "has no readable tls.key"),
        (a_secret(**{"tls.key": "§"}), "has no readable tls.key"),
        (a_secret(**{"tls.key": OTHER["tls.key"]}), "is not the elliptic-curve key of tls.crt"),
    ],
)
def test_a_secret_that_is_no_authority_is_named_with_the_way_out(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        authorities.authority(given, DOMAIN)
    assert "mid-authority" in raised.value.message
    assert "restore it, or delete it" in raised.value.message
    assert "PRIVATE" not in raised.value.message


def test_an_authority_of_another_trust_domain_is_not_used() -> None:
    given = authorities.secret(RELEASE, establish("other.local", now_s=NOW_S))
    with pytest.raises(ConfigError, match="set it to 'other.local'"):
        authorities.authority(given, DOMAIN)


def test_an_authority_reads_as_it_was_written() -> None:
    found = authorities.authority(authorities.secret(RELEASE, AUTHORITY), DOMAIN)
    assert found.certificate == AUTHORITY.certificate
    assert found.key.public_key() == AUTHORITY.key.public_key()


async def test_an_operator_that_may_not_read_the_secret_says_so() -> None:
    server = ApiServer(lambda user, verb, path: "secrets" not in path)
    with pytest.raises(Refused, match="the role of this service account must allow it"):
        await authority.opened(Caller(server), POLICY, NOW_S)


def test_a_bundle_that_cannot_be_read_is_named() -> None:
    given = {"metadata": {"name": "mid-trust"}, "data": {kubernetes_names.BUNDLE_KEY: "garbage"}}
    with pytest.raises(ConfigError, match=r"ConfigMap mid-trust: trust\.pem holds no readable"):
        authorities.trusted(given)
