"""``midstreamer postgres``: who may connect to it, how it ends, and which files it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from midstreamer.security import tls
from midstreamer.store import postgres_leftovers
from tests.support.database import NAMES, WORD, Database, a_database
from tests.support.identity_builders import an_authority
from tests.support.processes import readiness, until

pytestmark = pytest.mark.integration
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
IN_THE_CLEAR = "only TLS is answered here"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with a_database(tmp_path_factory.mktemp("postgres")) as database:
        yield database


@pytest.fixture
async def database(shared: Database) -> Database:
    await shared.ready()
    return shared


def any_authority() -> ssl.SSLContext:
    return tls.dialling([an_authority().certificate])


# --- who may connect ------------------------------------------------------------------------------


async def test_the_role_comes_in_with_its_password_and_owns_its_database(
    database: Database,
) -> None:
    async with database.connected() as connection:
        row = await connection.fetchrow(
            "SELECT current_user AS me, current_database() AS here, rolsuper, rolcreatedb,"
            " rolcreaterole, rolreplication FROM pg_roles WHERE rolname = current_user"
        )
        await connection.execute("CREATE TABLE mine (a int); DROP TABLE mine")
    assert tuple(row) == ("midstreamer", "midstreamer", False, False, False, False)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"ssl": False}, asyncpg.InvalidAuthorizationSpecificationError, IN_THE_CLEAR),
        ({"password": "wrong"}, asyncpg.InvalidPasswordError, "password authentication failed"),
        ({"password": ""}, asyncpg.PostgresError, "password"),
        ({"user": "postgres"}, asyncpg.PostgresError, r"pg_hba\.conf rejects"),
        ({"user": "root"}, asyncpg.PostgresError, r"pg_hba\.conf rejects"),
        ({"database": "postgres"}, asyncpg.PostgresError, r"pg_hba\.conf rejects"),
        ({"database": "template1"}, asyncpg.PostgresError, r"pg_hba\.conf rejects"),
        ({"ssl": any_authority}, ssl.SSLCertVerificationError, "unable to get"),
    ],
)
async def test_nobody_else_gets_in_nor_any_other_way(
    database: Database, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {key: value() if callable(value) else value for key, value in changes.items()}
    with pytest.raises(error, match=message):
        await database.ask("SELECT 1", **given)


async def test_the_certificate_holds_for_its_names_and_no_other(database: Database) -> None:
    address = database.dsn.replace("localhost", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        await database.ask("SELECT 1", dsn=address)
    assert NAMES[0] == "localhost"
    assert await database.ask("SELECT 1") == 1


async def test_tls_older_than_13_is_not_spoken(database: Database) -> None:
    old = database.trust()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await database.ask("SELECT 1", ssl=old)


async def test_trust_is_nowhere_and_the_server_listens_on_no_network(database: Database) -> None:
    rules = (database.home / "data/pg_hba.conf").read_text()
    words = {
        word for line in rules.splitlines() if not line.startswith("#") for word in line.split()
    }
    assert words.isdisjoint({"trust", "peer", "password", "md5", "ident"})
    assert await database.ask("SHOW listen_addresses") == ""
    assert await database.ask("SHOW password_encryption") == "scram-sha-256"


async def test_what_is_said_in_the_clear_before_tls_is_not_taken_for_said_within(
    database: Database,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", database.port)
    writer.write(b"\0\0\0\x08\x04\xd2\x16\x2f" + b"\0\0\0\x0f\0\x03\0\0user\0x\0\0")
    try:
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    assert "more bytes" not in database.log
    assert "something that is not PostgreSQL's protocol" in database.log


@pytest.mark.parametrize("words", [b"", b"\0\0\0", b"\0\0\0\x08\x04\xd2\x16\x2f"])
async def test_whoever_does_not_come_as_far_as_tls_is_cut_off(
    database: Database, words: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", database.port)
    writer.write(words)
    try:
        async with asyncio.timeout(10):
            await reader.read()
    except ConnectionResetError:
        pass
    finally:
        writer.close()


async def test_large_answers_and_questions_pass_whole(database: Database) -> None:
    text = "0123456789abcdef" * 500_000
    async with database.connected() as connection:
        assert await connection.fetchval("SELECT $1::text", text) == text


async def test_a_statement_can_be_cancelled_through_the_gate(database: Database) -> None:
    async with database.connected() as connection:
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(20)", timeout=0.3)
        assert await connection.fetchval("SELECT 1") == 1
        assert time.monotonic() - began_s < 5


async def test_a_client_that_vanishes_keeps_nothing_locked(database: Database) -> None:
    async with database.connected() as first, database.connected() as second:
        await first.execute("SELECT pg_advisory_lock(7)")
        assert not await second.fetchval("SELECT pg_try_advisory_lock(7)")
        first.terminate()

        async def is_free() -> bool:
            return bool(await second.fetchval("SELECT pg_try_advisory_lock(7)"))

        await until(is_free, "the lock to be free", within_s=10)


# --- secrets --------------------------------------------------------------------------------------


def seen_of(database: Database) -> Iterator[tuple[str, bytes]]:
    """Yield arguments and environment of all processes of the database, and the files written."""
    assert database.process is not None
    several = [database.process.pid, *postgres_leftovers.processes_in(database.home / "data")]
    assert len(several) > 2
    for pid in several:
        with contextlib.suppress(OSError):  # a database session may have ended meanwhile
            for name in ("cmdline", "environ"):
                yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes()
    for top in (database.folder, database.home):
        for path in top.rglob("*"):
            if path.is_file() and path != database.folder / "password":
                yield str(path), path.read_bytes()


async def test_the_password_is_in_no_argument_variable_log_or_other_file(
    database: Database,
) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await database.ask("SELECT 1", password="wrong-word-of-the-test")
    with pytest.raises(asyncpg.PostgresError):
        await database.ask(f"SELECT no_such('{WORD}')")
    words = (WORD.encode(), b"wrong-word-of-the-test")
    assert [where for where, data in seen_of(database) for word in words if word in data] == []


async def test_no_file_of_it_is_open_to_others_and_no_key_is_in_any(database: Database) -> None:
    wide = [
        str(path)
        for path in database.home.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and "belongs_to" not in path.name
        and path.suffix != ".lock"
    ]  # fmt: skip
    assert wide == []
    assert database.home.stat().st_mode & 0o077 == 0
    authority = database.certs / "authority.pem"
    keys = [
        where
        for where, data in seen_of(database)
        if b"PRIVATE KEY" in data and where != str(authority)
    ]
    assert keys == []
    assert [path.name for path in database.certs.iterdir() if path.is_dir()] == []


# --- what changes ---------------------------------------------------------------------------------


async def test_a_changed_password_is_taken_over_and_open_connections_live_on(
    database: Database,
) -> None:
    other = "another-password-of-the-test-987"
    async with database.connected() as connection:
        database.set_password(other)
        try:

            async def is_new() -> bool:
                try:
                    return bool(await database.ask("SELECT 1", password=other))
                except asyncpg.InvalidPasswordError:
                    return False

            await until(is_new, "the new password to be accepted", within_s=5)
            with pytest.raises(asyncpg.InvalidPasswordError):
                await database.ask("SELECT 1")
            assert await connection.fetchval("SELECT 1") == 1
        finally:
            database.set_password(WORD)

        async def is_back() -> bool:
            try:
                return bool(await database.ask("SELECT 1"))
            except asyncpg.InvalidPasswordError:
                return False

        await until(is_back, "the first password to be accepted again", within_s=5)
    assert other not in database.log


async def test_a_password_file_that_went_bad_is_told_and_the_old_one_holds(
    database: Database,
) -> None:
    database.set_password("short")
    try:
        await until(
            _says(database, "warning: postgres.password_file"),
            "the probe to show a warning",
            within_s=5,
        )
        assert await database.ask("SELECT 1") == 1
        assert "short" not in database.log.replace("shorter", "")
    finally:
        database.set_password(WORD)


def _says(database: Database, what: str) -> Any:
    async def says() -> bool:
        answer = await readiness(database.health)
        return answer.startswith("ok") and what in answer

    return says


# --- how it ends ----------------------------------------------------------------------------------


async def test_it_stops_within_seconds_though_clients_are_there_and_starts_with_all_it_had(
    tmp_path: Path,
) -> None:
    with a_database(tmp_path) as database:
        await database.ready()
        async with database.connected() as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
            began_s = time.monotonic()
            assert await asyncio.to_thread(database.stop) == 0
            assert time.monotonic() - began_s < 5
            with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
                await connection.fetchval("SELECT 1")
        assert list(postgres_leftovers.processes_in(database.home / "data")) == []
        database.set_password("one-that-changed-while-it-was-down")
        database.start()
        await database.ready()
        word = "one-that-changed-while-it-was-down"
        assert await database.ask("SELECT seven FROM kept", password=word) == 7
        assert "was not properly shut down" not in database.log


async def test_a_killed_process_takes_its_server_along_and_the_next_has_all_it_had(
    tmp_path: Path,
) -> None:
    with a_database(tmp_path) as database:
        await database.ready()
        async with database.connected() as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
            await asyncio.to_thread(database.stop, signal.SIGKILL)
        database.start()
        await database.ready()
        assert await database.ask("SELECT seven FROM kept") == 7


async def test_a_killed_server_is_started_again(tmp_path: Path) -> None:
    with a_database(tmp_path) as database:
        await database.ready()
        first = (database.home / "data/postmaster.pid").read_text().split()[0]
        os.kill(int(first), signal.SIGKILL)

        async def is_back() -> bool:
            try:
                return bool(await database.ask("SELECT 1"))
            except (asyncpg.PostgresError, OSError):
                return False

        async def is_another() -> bool:
            return "postgres.ended" in database.log and await is_back()

        await until(is_another, "the next server", within_s=20)


async def test_a_second_one_in_the_same_directory_says_that_it_is_in_use(
    database: Database, tmp_path: Path
) -> None:
    other = Database(tmp_path, {"directory": str(database.data)})
    other.start()
    assert other.process is not None
    assert await asyncio.to_thread(other.process.wait, 20) == 1
    assert "in use by another launcher" in other.log
    assert await database.ask("SELECT 1") == 1


async def test_a_server_that_is_not_seen_but_holds_its_lock_is_waited_for(tmp_path: Path) -> None:
    with a_database(tmp_path) as database:
        await database.ready()
        await asyncio.to_thread(database.stop)
        with (database.home / "server.lock").open("ab") as held:
            # Hold the lock in the way in which a PostgreSQL server in another container holds it.
            fcntl.flock(held, fcntl.LOCK_EX)
            database.start()
            await until(_speaks(database), "the process to answer probes")
            # Without the lock, the server would have started within this time.
            await asyncio.sleep(1.0)
            with pytest.raises(OSError, match="Connect call failed"):
                await database.ask("SELECT 1")
        await database.ready()


def _speaks(database: Database) -> Any:
    async def speaks() -> bool:
        return bool(await readiness(database.health))

    return speaks


def holders_of(path: Path, database: Database) -> list[int]:
    """Return the processes, of `midstreamer` and of PostgreSQL, that have a file open."""
    assert database.process is not None
    several = (database.process.pid, *postgres_leftovers.processes_in(database.home / "data"))
    return [
        pid
        for pid in several
        for handle in Path(f"/proc/{pid}/fd").iterdir()
        if os.path.realpath(handle) == str(path)
    ]


async def test_every_process_of_the_server_holds_the_lock(database: Database) -> None:
    with (database.home / "server.lock").open("ab") as ours, pytest.raises(BlockingIOError):
        fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert database.process is not None
    holders = holders_of(database.home / "server.lock", database)
    assert database.process.pid not in holders
    assert len(holders) > 2


# tests of configurations that are refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"password_file": "none"}, "postgres.password_file = none: No such file"),
        ({"listen": "192.0.2.1:5432"}, "postgres.listen = 192.0.2.1:5432"),
        ({"names": "a b"}, "'a b' is no DNS name"),
        ({"listen": "tcp"}, "postgres.listen"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with a_database(tmp_path, settings=settings) as database:
        assert database.process is not None
        assert await asyncio.to_thread(database.process.wait, 20) in (1, 2)
        assert message in database.log
        assert "Traceback" not in database.log


async def test_a_certificate_without_its_names_makes_it_unready(tmp_path: Path) -> None:
    with a_database(tmp_path, settings={"security.key": "file"}) as database:
        await database.ready()
        await asyncio.to_thread(database.stop)
        database.settings["names"] = "another.test"
        database.start()

        async def says() -> bool:
            return "does not carry another.test" in await readiness(database.health)

        await until(says, "the probe to name the missing name")


# --- other users ----------------------------------------------------------------------------------


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder with a certificate authority, open to every user; pytest's folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="midstreamer-", dir="/tmp"))
    folder.chmod(0o777)
    Database(folder)
    yield folder
    shutil.rmtree(folder)


def give(folder: Path, uid: int) -> None:
    """Give a folder and all its contents to a user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, 0)


@root_only
async def test_a_plain_user_runs_it(reachable: Path) -> None:
    give(reachable, 65534)
    with a_database(reachable, uid=65534) as database:
        await database.ready()
        assert await database.ask("SELECT 1") == 1
        assert (reachable / "data/data").stat().st_uid == 65534
        assert await asyncio.to_thread(database.stop) == 0


WITHOUT_A_LINE = """
mount -t tmpfs tmpfs $0/etc &&
mkdir $0/etc/up $0/etc/work $0/etc/free && chmod 777 $0/etc/free &&
mount -t overlay overlay -o lowerdir=/etc,upperdir=$0/etc/up,workdir=$0/etc/work /etc &&
rm /etc/passwd && ln -s $0/etc/free/passwd /etc/passwd &&
exec setpriv --reuid 1000680000 --regid 0 --clear-groups "$@"
"""
"""Shell script that runs a command as a user id without a line in /etc/passwd.

The command may write to /etc/passwd, so it can add the missing line itself. Some clusters run pods
like this, with a range of user ids for each namespace.
"""


@pytest.fixture
def without_a_line(reachable: Path) -> tuple[str, ...]:
    """Return the words to put before a command so that `WITHOUT_A_LINE` runs the command.

    Skip the test if this machine cannot mount an overlay over /etc.
    """
    (reachable / "etc").mkdir()
    words = ("unshare", "-m", "sh", "-c", WITHOUT_A_LINE, str(reachable))
    probe = subprocess.run([*words, "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip(f"no overlay over /etc here: {probe.stderr.decode()}")
    return words


@root_only
async def test_a_uid_of_no_user_runs_it_where_the_list_of_users_may_be_written(
    reachable: Path, without_a_line: tuple[str, ...]
) -> None:
    give(reachable, 1000680000)
    with a_database(reachable, before=without_a_line, uid=1000680000) as database:
        await database.ready()
        assert await database.ask("SELECT 1") == 1
        assert (reachable / "data/data").stat().st_uid == 1000680000
        assert await asyncio.to_thread(database.stop) == 0
