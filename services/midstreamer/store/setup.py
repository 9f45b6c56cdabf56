"""What makes one PostgreSQL server of ours differ from another, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass

DATABASE = "midstreamer"
ROLE = "midstreamer"
SHOWS_NO_STATEMENT = ("-c", "log_min_error_statement=panic")
"""No statement is logged, not even one that failed: it may set a password."""

# Runs in a bare interpreter: ask for SIGINT at the parent's death (prctl 1), drop to the
# account, become the server.  A preexec_fn would fork a process that may hold any lock.
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


@dataclass(frozen=True)
class Setup:
    """Who may come in, and how; by default the user of this process alone, through the socket."""

    superuser: str = ROLE
    first: tuple[str, ...] = (f"CREATE DATABASE {DATABASE}",)
    """Statements for a new data directory, as its superuser."""
    rules: str = f"local all {ROLE} peer map=midstreamer\n"
    """The whole of pg_hba.conf."""
    settings: str = ""
    """Lines after `SETTINGS`: of two that set the same, the later one holds."""
    tells_here: bool = False
    """Whether the server's log goes to our standard output, instead of to a file."""


ALONE = Setup()

ADVICE = (
    ("No space left on device", "free some space there, or choose another directory"),
    ("already exists", "another server uses this directory or socket: stop it"),
    ("could not bind", "its socket is in use: stop the other server"),
    ("Is another postmaster", "its socket is in use: stop the other server"),
    ("incompatible with server", "made by another major version: choose another directory"),
    ("Permission denied", "its account lacks rights there: choose another directory"),
)
"""A piece of what a server says before it ends, and what to do about it."""
