"""The embedded PostgreSQL: who can reach it, how it recovers from kills, which errors it names."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from midstreamer.domain.errors import StoreError
from midstreamer.store import embedded_installation, postgres_leftovers
from midstreamer.store.embedded_postgres import EmbeddedServer
from tests.support import store_builders as build

pytestmark = pytest.mark.integration
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")


@pytest.fixture(scope="module")
def shared() -> EmbeddedServer:
    return build.the_server()


@pytest.fixture
async def server(shared: EmbeddedServer) -> AsyncIterator[EmbeddedServer]:
    """The PostgreSQL server that tests share, running; it is started again after each test."""
    await shared.start()
    yield shared
    await shared.start()


async def _ask(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def _modes(path: Path) -> dict[Path, tuple[int, int]]:
    return {each: (each.stat().st_mode, each.stat().st_uid) for each in (path, *path.parents)}


async def test_it_runs_below_a_closed_folder_and_changes_no_mode(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "clone").mkdir()
    before = _modes(closed / "clone")
    server = EmbeddedServer(closed / "clone" / "var" / "store")
    try:
        assert await _ask(await server.start(), "SELECT 1") == 1
        assert _modes(closed / "clone") == before
    finally:
        await server.erase()


@root_only
async def test_as_root_the_server_is_somebody_else(server: EmbeddedServer) -> None:
    owner = (server.data / "postmaster.pid").stat().st_uid
    assert owner == server.data.stat().st_uid != 0
    assert embedded_installation.ROOT_HOME in server.home.parents


async def test_only_a_socket_in_a_closed_folder_leads_to_it(server: EmbeddedServer) -> None:
    dsn = await server.start()
    (socket,) = server.home.glob("socket/.s.PGSQL.5432")
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert await _ask(dsn, "SHOW listen_addresses") == ""
    assert await _ask(dsn, "SHOW fsync") == "on"
    rules = "SELECT string_agg(type || ' ' || auth_method, ',') FROM pg_hba_file_rules"
    assert await _ask(dsn, rules) == "local peer"


@root_only
async def test_another_user_is_not_let_in(server: EmbeddedServer) -> None:
    (socket,) = server.home.glob("socket/.s.PGSQL.5432")
    look = functools.partial(subprocess.run, ["ls", socket], user="nobody", capture_output=True)
    assert (await asyncio.to_thread(look)).returncode != 0


async def test_a_killed_server_starts_again_with_all_it_had(server: EmbeddedServer) -> None:
    dsn = await server.start()
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    killed = server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert await server.wait() == -signal.SIGKILL
    assert server.pid is None
    assert await server.start() == dsn
    assert server.pid != killed
    assert await _ask(dsn, "SELECT seven FROM kept") == 7


async def test_a_stale_pid_file_that_names_another_process_is_no_obstacle(
    server: EmbeddedServer,
) -> None:
    await server.stop()
    stale = server.data / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{server.data}\n1\n5432\n\n\n\nready\n")
    assert await _ask(await server.start(), "SELECT 1") == 1


async def test_backends_that_outlive_their_postmaster_are_ended(server: EmbeddedServer) -> None:
    dsn = await server.start()
    connection = await asyncpg.connect(dsn)
    busy = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.wait()
    assert await _ask(await server.start(), "SELECT 1") == 1
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await busy


async def test_two_launchers_of_one_directory_are_kept_apart(server: EmbeddedServer) -> None:
    with pytest.raises(StoreError, match="in use by another launcher"):
        await EmbeddedServer(server.directory).start()


async def test_data_of_another_major_version_is_named(server: EmbeddedServer) -> None:
    await server.stop()
    right = (server.data / "PG_VERSION").read_text()
    (server.data / "PG_VERSION").write_text("9\n")
    try:
        with pytest.raises(StoreError, match="made by PostgreSQL 9 and this is PostgreSQL 18"):
            await server.start()
    finally:
        (server.data / "PG_VERSION").write_text(right)


async def test_a_socket_path_that_is_too_long_is_put_elsewhere(tmp_path: Path) -> None:
    long = "x" * 90
    server = EmbeddedServer(tmp_path / long, root_home=_reachable(tmp_path, long))
    try:
        dsn = await server.start()
        assert await _ask(dsn, "SELECT 1") == 1
        assert str(server.home) not in dsn
    finally:
        await server.erase()
        shutil.rmtree(_reachable(tmp_path, long), ignore_errors=True)


def _reachable(tmp_path: Path, name: str) -> Path:
    """Return a folder with a long name that an unprivileged user can reach."""
    return Path("/var/tmp") / f"midstreamer-{tmp_path.name}-{os.getpid()}-{name}"


def test_no_server_outlives_a_killed_launcher(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, time; from pathlib import Path;"
        "from midstreamer.store.embedded_postgres import EmbeddedServer;"
        f"server = EmbeddedServer(Path({str(tmp_path)!r}));"
        "asyncio.run(server.start()); print(server.pid, flush=True); time.sleep(60)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    give_up = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up, "the server outlived its launcher"
        time.sleep(0.02)
    asyncio.run(EmbeddedServer(tmp_path).erase())


@root_only
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    home = _reachable(tmp_path, "full")
    home.mkdir(mode=0o755)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=755", "none", home])
    if mounted.returncode != 0:
        home.rmdir()
        pytest.skip("root may not mount here")
    try:
        with pytest.raises(StoreError, match="No space left on device"):
            asyncio.run(EmbeddedServer(tmp_path / "store", root_home=home).start())
    finally:
        subprocess.run(["umount", home], check=True)
        home.rmdir()


async def test_a_server_that_cannot_start_says_what_it_said(server: EmbeddedServer) -> None:
    await server.stop()
    right = (server.data / "postgresql.conf").read_text()
    (server.data / "postgresql.conf").write_text(right + "max_files_per_process = 'none'\n")
    try:
        with pytest.raises(StoreError, match=r"ended while starting: .*max_files_per_process"):
            await server.start()
        assert list(postgres_leftovers.processes_in(server.data)) == []
    finally:
        (server.data / "postgresql.conf").write_text(right)


@pytest.mark.parametrize("ending", [signal.SIGQUIT, signal.SIGKILL])
def test_a_process_left_in_the_data_is_ended_by_and_by(tmp_path: Path, ending: int) -> None:
    # If a shell started the tests in the background, the processes that they start ignore SIGQUIT.
    # So the process below sets this itself: if `deaf`, it ignores SIGQUIT and only SIGKILL ends it.
    deaf = ending == signal.SIGKILL
    heed = f"signal.signal(signal.SIGQUIT, signal.{'SIG_IGN' if deaf else 'SIG_DFL'})"
    code = f"import signal, time; {heed}; print(flush=True); time.sleep(60)"
    left = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    assert left.stdout is not None
    left.stdout.readline()
    reaper = threading.Thread(target=left.wait)
    reaper.start()
    # `clear` sends SIGQUIT at once, and SIGKILL after 30 % of `patience_s`. A process that heeds
    # SIGQUIT must end before SIGKILL comes, even on a busy machine, so it gets more time.
    patience_s = 2.0 if deaf else 30.0
    asyncio.run(postgres_leftovers.clear(tmp_path, patience_s=patience_s))
    reaper.join()
    left.stdout.close()
    assert left.returncode == -ending


def test_a_process_elsewhere_is_left_alone(tmp_path: Path) -> None:
    code = "import time; print(flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], cwd="/", stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    asyncio.run(postgres_leftovers.clear(tmp_path))
    assert other.poll() is None
    other.kill()
    other.wait()
    other.stdout.close()
