"""The parts of a local fleet: state folder, ports, identities and child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from midstreamer.cli import (
    child_processes,
    exit_with_parent,
    local_fleet,
    peer_credentials,
    state_folder,
)
from midstreamer.cli.child_processes import Child
from midstreamer.domain.errors import BadInput, ConfigError, Unavailable
from midstreamer.domain.identity import Kind
from midstreamer.runtime import health
from midstreamer.runtime.backoff import Backoff


def test_the_state_folder_is_private_and_held_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    with state_folder.held(folder) as held:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert held.logs.is_dir()
        with pytest.raises(ConfigError, match="in use by another"), state_folder.held(folder):
            pass
    with state_folder.held(folder):
        pass


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder, message = tmp_path / "file" / "state", r"state folder .*file/state: .*--state-dir"
    with pytest.raises(ConfigError, match=message), state_folder.held(folder):
        pass


def test_where_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/users/u")
    assert state_folder.where(None) == Path("/users/u/.local/state/midstreamer")
    monkeypatch.setenv("XDG_STATE_HOME", "/states")
    assert state_folder.where(None) == Path("/states/midstreamer")
    assert state_folder.remark(state_folder.where(None)) == ""
    (tmp_path / ".midstreamer").mkdir()
    assert state_folder.where(None) == tmp_path / ".midstreamer"
    monkeypatch.setenv("MIDSTREAMER_HOME", "/else")
    assert state_folder.where(None) == Path("/else")
    assert state_folder.where(Path("here")) == tmp_path / "here"


def test_a_state_folder_of_the_former_default_is_used_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", "/states")
    (tmp_path / ".midstreamer").mkdir()
    remark = state_folder.remark(state_folder.where(None))
    assert str(tmp_path / ".midstreamer") in remark
    assert "/states/midstreamer" in remark


def test_free_ports_differ_and_no_outgoing_connection_takes_one() -> None:
    ports = local_fleet.free_ports(8)

    assert len(set(ports)) == 8
    assert min(ports) > 1023
    assert max(ports) < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_for_tcp_or_udp_is_not_free(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = local_fleet.free_ports(2)
    monkeypatch.setattr(local_fleet, "_RANDOM", Mock(choice=Mock(side_effect=[taken, free])))

    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", taken))
        found = local_fleet.free_ports(1)

    assert found == [free]


def test_an_error_names_the_ports_when_none_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = local_fleet.free_ports(1)
    monkeypatch.setattr(local_fleet, "PORTS", range(taken, taken + 1))

    with socket.socket() as other:
        other.bind(("127.0.0.1", taken))
        with pytest.raises(Unavailable, match=f"between {taken} and {taken}"):
            local_fleet.free_ports(1)


def test_identities_are_certified_and_let_in_once(tmp_path: Path) -> None:
    members = [peer_credentials.named(name, "local") for name in ("agent/a1", "client/u1")]
    peer_credentials.prepare(tmp_path, members)
    before = (tmp_path / "client" / "u1.pem").read_bytes()
    peer_credentials.prepare(tmp_path, [*members, peer_credentials.named("agent/a2", "local")])
    assert (tmp_path / "client" / "u1.pem").read_bytes() == before
    assert sorted((tmp_path / "allowlist").read_text().split()) == [
        "agent/a1", "agent/a2", "client/u1",
    ]  # fmt: skip


def test_no_key_file_is_written_for_a_process_with_its_key_in_memory(tmp_path: Path) -> None:
    members = [peer_credentials.named(name, "local") for name in ("agent/a1", "client/u1")]
    peer_credentials.prepare(tmp_path, members, in_memory={Kind.AGENT})
    assert [path.name for path in tmp_path.glob("*/*.pem")] == ["u1.pem"]
    assert (tmp_path / "allowlist").read_text().split() == ["agent/a1", "client/u1"]


@pytest.mark.parametrize(
    ("section", "kinds"),
    [
        ("security", {Kind.SYNC, Kind.COORDINATOR, Kind.AGENT}),
        ("agent.security", {Kind.AGENT}),
        (None, set()),
    ],
)
def test_settings_of_the_processes_decide_which_keys_stay_in_memory(
    section: str | None, kinds: set[Kind], tmp_path: Path
) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text(f'[{section}]\nkey = "memory"\n' if section else "")
    assert local_fleet._in_memory(config) == kinds


def test_a_name_without_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="'laptop' is not <kind>/<id>; kinds: coordinator"):
        peer_credentials.named("laptop", "local")


def test_a_child_whose_parent_died_before_it_asked_ends() -> None:
    exit_with_parent.follow({})
    with pytest.raises(SystemExit):
        exit_with_parent.follow({exit_with_parent.VARIABLE: str(os.getpid())})


async def test_a_probe_tells_ready_from_not_ready_and_from_nothing() -> None:
    trouble = "no lease"
    async with health.served("127.0.0.1:0", health.Checks(lambda: trouble)) as address:
        assert not await child_processes.probe(address, "/readyz")
        trouble = ""
        assert await child_processes.probe(address, "/readyz")
    assert not await child_processes.probe(address, "/readyz")


async def test_a_process_without_a_probe_for_completeness_is_complete_when_it_is_ready() -> None:
    async def before(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = b" /readyz " in await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if known else b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(before, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await child_processes.complete(f"127.0.0.1:{port}")


def a_child(tmp_path: Path, news: list[str], *, restarts_max: int = 2) -> Child:
    return Child(
        "agent-1", "agent", {}, "127.0.0.1:1", tmp_path / "a.log", restarts_max, news.append
    )


def becomes(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let children run this script instead of a service; they restart without a long pause."""
    monkeypatch.setattr(child_processes, "COMMAND", (sys.executable, "-c", script))
    monkeypatch.setattr(child_processes, "BACKOFF", Backoff(0.001))


async def test_a_child_with_invalid_arguments_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(monkeypatch, "import sys; print('error[config]: agent.id is empty'); sys.exit(2)")
    with pytest.raises(ConfigError, match=r"agent-1: error\[config\]: agent\.id is empty"):
        await a_child(tmp_path, []).watch()


async def test_a_child_that_keeps_dying_fails_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    becomes(monkeypatch, "import os; print('went wrong', flush=True); os.kill(os.getpid(), 9)")
    news: list[str] = []
    with pytest.raises(Unavailable, match=r"agent-1 ended 3 times, .* by SIGKILL: went wrong"):
        await a_child(tmp_path, news).watch()
    assert news[0] == "agent-1 ended by SIGKILL; restarting it (1 of 2)"


async def test_a_child_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)"
    becomes(monkeypatch, f"{deaf}\ntime.sleep(60)")
    news: list[str] = []
    made = a_child(tmp_path, news)
    process = await made.start()
    while "deaf" not in made.last_words():  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)
    await made.stop(0.05)
    assert process.returncode == -signal.SIGKILL
    assert news == ["agent-1 did not stop within 0.05 s; killed"]
    await made.stop(0.05)


def test_the_last_error_is_what_a_log_says_last(tmp_path: Path) -> None:
    process = a_child(tmp_path, [])
    assert process.last_words() == "no log"
    process.log.write_text("")
    assert process.last_words() == "its log is empty"
    process.log.write_text("error[store]: away\nstopping\n")
    assert process.last_words() == "error[store]: away"
