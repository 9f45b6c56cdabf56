"""The leader creates the database's password once and never overwrites an existing password."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest

from midstreamer.domain.errors import Refused
from midstreamer.domain.identity import Kind
from midstreamer_operator import database_password
from midstreamer_operator.resources import passwords
from midstreamer_operator.settings import OperatorSettings
from tests.support.api_server import ApiServer, Caller
from tests.support.operator_builders import NAMESPACE, POLICY, RELEASE

SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def password_in(given: dict[str, Any]) -> str:
    return base64.b64decode(given["data"]["password"]).decode()


async def test_a_missing_password_is_created_once() -> None:
    server = ApiServer()
    assert await database_password.provided(Caller(server), POLICY) == ""
    (secret,) = server.all(SECRETS)
    assert secret["metadata"]["name"] == f"{RELEASE}-postgres"
    assert len(password_in(secret)) == 43
    began = len(server.calls)
    assert await database_password.provided(Caller(server), POLICY) == ""
    assert server.calls[began:] == [("GET", f"{SECRETS}/{RELEASE}-postgres")]
    assert server.all(SECRETS) == [secret]


async def test_no_two_installations_have_the_same_password() -> None:
    several = [ApiServer(), ApiServer()]
    for server in several:
        await database_password.provided(Caller(server), POLICY)
    assert len({password_in(server.all(SECRETS)[0]) for server in several}) == 2


async def test_of_two_concurrent_replicas_the_first_password_stays() -> None:
    server = ApiServer()
    first, other = (database_password.provided(Caller(server), POLICY) for _ in range(2))
    # The replicas take turns, so both find no password before either of them writes one.
    for step in (first, other) * 3:
        with contextlib.suppress(StopIteration):
            step.send(None)
    assert [method for method, _ in server.calls] == ["GET", "GET", "POST", "POST"]
    assert len(server.all(SECRETS)) == 1


@pytest.mark.parametrize("data", [{}, None, {"password": "c2hvcnQ="}, {"password": "§"}])
async def test_a_secret_without_a_usable_password_is_named_and_left(data: Any) -> None:
    server = ApiServer()
    secret = {"metadata": {"name": f"{RELEASE}-postgres"}, "data": data}
    server.put(SECRETS, secret)
    reason = await database_password.provided(Caller(server), POLICY)
    assert "Secret mid-postgres has no password of 16" in reason
    assert "delete the Secret: the operator then makes a new password" in reason
    assert server.all(SECRETS)[0]["data"] == data


async def test_a_password_written_by_hand_is_accepted() -> None:
    server = ApiServer()
    server.put(SECRETS, passwords.secret(RELEASE, "written by hand, long enough"))
    assert await database_password.provided(Caller(server), POLICY) == ""


async def test_an_operator_that_may_not_write_secrets_says_so() -> None:
    server = ApiServer(lambda user, verb, path: verb != "POST")
    with pytest.raises(Refused, match="the role of this service account must allow it"):
        await database_password.provided(Caller(server), POLICY)


@pytest.mark.parametrize(
    ("own", "accounts", "makes"),
    [
        (None, {"mid-postgres": Kind.POSTGRES}, True),
        (None, {"mid-sync": Kind.SYNC}, False),
        (False, {"mid-postgres": Kind.POSTGRES}, False),
        (True, {"mid-sync": Kind.SYNC}, True),
    ],
)
def test_the_operator_makes_the_password_for_its_own_database(
    own: bool | None, accounts: dict[str, Kind], makes: bool
) -> None:
    assert OperatorSettings(own_database=own, accounts=accounts).makes_password is makes
