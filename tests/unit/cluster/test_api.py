"""The client of the Kubernetes API, against a server over HTTPS."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from midstreamer.cluster import api, kubernetes_names, service_account
from midstreamer.cluster.api import Client
from midstreamer.cluster.service_account import Account
from midstreamer.domain.errors import BadInput, ConfigError, Overloaded, Refused, Unavailable
from tests.support.api_over_https import certified, served
from tests.support.api_server import ApiServer

MAPS = "/api/v1/namespaces/fleet/configmaps"


def a_map(name: str, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": data}


async def test_objects_are_created_read_replaced_and_deleted(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        created = (await client.ask("POST", MAPS, a_map("one", a="1"))).checked()
        assert (await client.ask("POST", MAPS, a_map("one"))).status == 409
        created["data"]["a"] = "ä" * 100_000
        (await client.ask("PUT", f"{MAPS}/one", created)).checked()
        assert (await client.ask("PUT", f"{MAPS}/one", created)).status == 409
        found = (await client.ask("GET", f"{MAPS}/one")).checked()
        assert found["data"] == created["data"]
        (await client.ask("DELETE", f"{MAPS}/one")).checked()
        assert (await client.ask("GET", f"{MAPS}/one")).status == 404


async def test_a_connection_serves_one_request_after_the_other(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        for _ in range(5):
            await client.ask("GET", f"{MAPS}/none")
        assert here.connections == 1
        await asyncio.gather(*(client.ask("GET", f"{MAPS}/none") for _ in range(9)))
        assert len(client._idle) <= api.IDLE_MAX


async def test_a_connection_that_the_server_closed_meanwhile_is_not_noticed(
    tmp_path: Path,
) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        await client.ask("GET", f"{MAPS}/none")
        here.breaks.append("close")
        assert (await client.ask("GET", f"{MAPS}/none")).status == 404


async def test_a_post_is_never_sent_twice(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        await client.ask("GET", f"{MAPS}/none")
        here.breaks.append("close")
        with pytest.raises(Unavailable, match=f"POST {MAPS}"):
            await client.ask("POST", MAPS, a_map("one"))
        assert here.server.all(MAPS) == []


async def test_the_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here:
        who = here.account("nobody")
        async with Client(who) as client:
            assert (await client.ask("GET", f"{MAPS}/none")).status == 401
            (who.directory / "token").write_text("admin")
            assert (await client.ask("GET", f"{MAPS}/none")).status == 404


async def test_a_server_without_a_certificate_of_the_clusters_authority_gets_no_request(
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certified(other)
    async with served(ApiServer(), tmp_path) as here:
        who = here.account("admin")
        (who.directory / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
        async with Client(who) as client:
            with pytest.raises(Unavailable, match="not certified by the cluster's authority"):
                await client.ask("GET", f"{MAPS}/none")
        assert here.server.calls == []


async def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here:
        who = here.account("admin")
    async with Client(who) as client:
        with pytest.raises(Unavailable, match=f"https://127.0.0.1:{who.port} cannot be reached"):
            await client.ask("GET", f"{MAPS}/none")


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("500", Unavailable, "answers 500: etcd is away"),
        ("text", Unavailable, "answers 502: <html>bad gateway</html>"),
        ("429", Overloaded, "answers 429: too many requests"),
        ("422", BadInput, "answers 422"),
        ("403", Refused, "the role of this service account must allow it"),
        ("401", Refused, "answers 401"),
    ],
)
async def test_what_is_no_good_answer_is_an_error_that_says_what_was_asked(
    tmp_path: Path, how: str, error: type[Exception], message: str
) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        here.breaks.append(how)
        answer = await client.ask("GET", f"{MAPS}/none")
        with pytest.raises(error, match=message) as raised:
            answer.checked()
        assert f"GET {MAPS}/none" in str(raised.value)
        if how == "429":
            assert answer.retry_after_s == 7.0


async def test_a_watch_begins_with_what_is_there_and_tells_what_changes(tmp_path: Path) -> None:
    server = ApiServer()
    async with served(server, tmp_path) as here, Client(here.account("admin")) as client:
        server.put(MAPS, a_map("one"))
        types = []
        only = {"fieldSelector": "metadata.name=one"}
        async with aclosing(client.watch(MAPS, only, lasts_s=60)) as changes:
            types.append((await anext(changes)).type)
            server.put(MAPS, a_map("two"))
            (await client.ask("PUT", f"{MAPS}/one", a_map("one", a="b"))).checked()
            changed = await anext(changes)
            assert changed.object["data"] == {"a": "b"}
            await client.ask("DELETE", f"{MAPS}/one")
            types += [changed.type, (await anext(changes)).type]
        assert types == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_watch_ends_when_its_time_is_over(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        assert [change async for change in client.watch(MAPS, {}, lasts_s=1.0)] == []


async def test_a_watch_that_is_refused_says_so(tmp_path: Path) -> None:
    async with served(ApiServer(), tmp_path) as here, Client(here.account("admin")) as client:
        here.breaks.append("403")
        with pytest.raises(Refused, match="must allow it"):
            await anext(client.watch(MAPS, {}, lasts_s=60))


async def test_an_answer_beyond_all_bounds_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BODY_BYTES_MAX", 10_000)
    server = ApiServer()
    server.put(MAPS, a_map("one", a="x" * 20_000))
    async with served(server, tmp_path) as here, Client(here.account("admin")) as client:
        with pytest.raises(Unavailable, match="more than 10,000 bytes"):
            await client.ask("GET", f"{MAPS}/one")
        with pytest.raises(Unavailable, match="more than 10,000 bytes"):
            await anext(client.watch(MAPS, {}, lasts_s=60))


def test_outside_of_a_pod_the_error_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_HOST=''"):
        service_account.in_pod({}, tmp_path)
    environment = {service_account.HOST: "10.0.0.1", service_account.PORT: "443"}
    with pytest.raises(ConfigError, match="namespace: .*No such file"):
        service_account.in_pod(environment, tmp_path)
    (tmp_path / "namespace").write_text("fleet\n")
    who = service_account.in_pod(environment, tmp_path)
    assert (who.server, who.namespace) == ("https://10.0.0.1:443", "fleet")
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        who.token()
    with pytest.raises(ConfigError, match="ca.crt"):
        Client(who)


def test_an_address_of_version_six_is_written_as_urls_want_it() -> None:
    assert Account("fd00::1", 443, "fleet").server == "https://[fd00::1]:443"


def test_signers_are_named_by_namespace_and_release() -> None:
    assert kubernetes_names.signer("a", "b") == "midstreamer.dev/a.b.member"
