"""Settings of embedded PostgreSQL servers: `SETTINGS` for all servers, a `Setup` for each one."""

from __future__ import annotations

from dataclasses import dataclass

DATABASE = "midstreamer"
"""Name of the database."""
ROLE = "midstreamer"
"""Name of the PostgreSQL role that sync logs in as."""
SHOWS_NO_STATEMENT = ("-c", "log_min_error_statement=panic")
"""Options of the server that keep even failed statements out of its log, because a statement may
set a password."""

# A small Python program that becomes the server.  It changes to the server's user.  It asks the
# kernel for a SIGINT when its parent ends (prctl 1).  Then it executes the server in its own place.
# A preexec_fn of `subprocess` could do the same, but it runs in a fork of this process, where it
# could wait forever for a lock that another thread held at the fork.
BECOME = """
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

SETTINGS = """\
# Written at every start by midstreamer.store.embedded_postgres; changes here are lost.
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


@dataclass(frozen=True)
class Setup:
    """How an embedded server is set up.

    By default only the user of this process can log in, through the Unix socket.
    """

    superuser: str = ROLE
    """Name of the superuser of the server."""
    first: tuple[str, ...] = (f"CREATE DATABASE {DATABASE}",)
    """SQL statements that the superuser executes once in a new data directory."""
    rules: str = f"local all {ROLE} peer map=midstreamer\n"
    """Content of pg_hba.conf, which says who may log in and how."""
    settings: str = ""
    """Further lines of the server's settings, which override those in `SETTINGS`."""
    tells_here: bool = False
    """Whether the server logs to the standard output of this process instead of to a file."""


ALONE = Setup()
"""The default setup: only the user of this process can log in."""

ADVICE = (
    ("No space left on device", "free some space there, or choose another directory"),
    ("already exists", "another server uses this directory or socket: stop that server"),
    ("could not bind", "its socket is in use: stop the other server"),
    ("Is another postmaster", "its socket is in use: stop the other server"),
    (
        "incompatible with server",
        "the data was made by another major version: choose another directory",
    ),
    ("Permission denied", "its user has no access there: choose another directory"),
)
"""Pairs of (text in the output of a failed server, advice to the operator)."""
