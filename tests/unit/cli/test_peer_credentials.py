"""How the command line adds allowlist entries, and gets credentials from a Kubernetes cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest

from midstreamer.cli import peer_credentials
from midstreamer.cluster import service_account
from midstreamer.cluster.service_account import Account
from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Kind
from midstreamer.runtime.config import SecuritySettings
from midstreamer.security.requested_credentials import RequestedSource
from tests.support.api_over_https import certified
from tests.support.identity_builders import who


def test_adding_an_entry_keeps_grants_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "allowlist"
    before = "# our desks\nclient/quant-* universes=stocks,fx\nagent/a1\n"
    path.write_text(before)
    peer_credentials.allow(path, [who(Kind.CLIENT, "quant-1"), who(Kind.AGENT, "a2")])
    assert path.read_text() == f"{before}agent/a2\n"


def in_cluster(directory: Path) -> SecuritySettings:
    (directory / "allowlist").write_text("agent/*\n")
    return SecuritySettings(directory=directory, key="cluster", release="mid")


@pytest.mark.parametrize("ask", [peer_credentials.source, peer_credentials.teller])
def test_a_key_of_the_cluster_is_for_pods_alone_and_says_how_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., object]
) -> None:
    monkeypatch.setattr(service_account, "in_pod", lambda: Account("h", 1, "fleet", tmp_path))
    with pytest.raises(ConfigError, match=r"agent\.id = agent-1: .* <namespace>/<pod>/<uid>"):
        ask(who(Kind.AGENT, "agent-1"), in_cluster(tmp_path))


def test_outside_of_a_pod_a_key_of_the_cluster_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(service_account.HOST, raising=False)
    with pytest.raises(ConfigError, match="this is no pod with a service account"):
        peer_credentials.source(who(Kind.AGENT, "fleet/agent-0/u"), in_cluster(tmp_path))


def test_in_a_pod_nothing_is_read_but_the_service_account_and_the_allowlist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified(tmp_path)
    monkeypatch.setattr(service_account, "in_pod", lambda: Account("h", 1, "fleet", tmp_path))
    source = peer_credentials.source(who(Kind.AGENT, "fleet/agent-0/u"), in_cluster(tmp_path))
    assert isinstance(source, RequestedSource)
    assert source.complaints == {}
    assert not (tmp_path / "agent").exists()


def test_a_mounted_bundle_is_read_and_its_faults_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified(tmp_path)
    monkeypatch.setattr(service_account, "in_pod", lambda: Account("h", 1, "fleet", tmp_path))
    (tmp_path / "trust.pem").write_text("garbage")
    source = peer_credentials.source(who(Kind.AGENT, "fleet/agent-0/u"), in_cluster(tmp_path))
    assert [*source.complaints] == ["bundle"]
