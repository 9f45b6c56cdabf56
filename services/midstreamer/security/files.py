"""Certificates, keys and the allowlist in files; all disk access of this package is here.

In one directory (mode 0700):

    authority.pem            key and certificate of the local authority (0600), where there is one
    trust.pem                certificates of all trusted authorities
    <kind>/<id>.pem          key, certificate and intermediates (0600); the id "a/b" is in a+b.pem
    allowlist                identities that may connect

A key and its certificate are in one file, and each file is replaced atomically, so a reader never
sees half a file or a key of another certificate.  Nothing watches the files: the owner of the event
loop calls ``refresh`` from time to time.  A file that became wrong is reported in ``complaints``,
its last good content stays in force, and it is read again at each ``refresh``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Identity
from midstreamer.security import allowlist, certificate_chain
from midstreamer.security.allowlist import Allowlist
from midstreamer.security.authority import (
    AUTHORITY_DAYS,
    LEAF_DAYS,
    Authority,
    establish,
    trust_domain_of,
)
from midstreamer.security.credentials import Credentials, Watched

RENEW_BEFORE_DAYS = 30.0
DAY_S = 86_400.0
_OTHERS = stat.S_IWGRP | stat.S_IRWXO
"""Mode bits that no key file may have. Reading by the group is allowed: Kubernetes needs it."""

Now = Callable[[], float]


def authority_path(directory: Path) -> Path:
    """Return the path of the local authority's key and certificate."""
    return directory / "authority.pem"


def trust_path(directory: Path) -> Path:
    """Return the path of the trusted authorities' certificates."""
    return directory / "trust.pem"


def identity_path(directory: Path, identity: Identity) -> Path:
    """Return the path of an identity's key and certificate."""
    return directory / identity.kind / f"{identity.id.replace('/', '+')}.pem"


# --- the authority --------------------------------------------------------------------------------


def init_authority(
    directory: Path, trust_domain: str, *, days: float = AUTHORITY_DAYS, now: Now = time.time
) -> Authority:
    """Create an authority and add it to the trusted ones; ConfigError if one exists already."""
    authority = establish(trust_domain, now_s=now(), days=days)
    path = authority_path(directory)
    _own_directory(directory)
    try:
        pem = _key_pem(authority.key) + _pem(authority.certificate)
        _write(path, pem, mode=0o600, replace=False)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already and is kept; run `certs issue` next") from error
    _write(trust_path(directory), _pem(authority.certificate), mode=0o644)
    return authority


def open_authority(directory: Path) -> Authority:
    """Return the authority in a directory; ConfigError if it is missing or cannot be read."""
    path = authority_path(directory)
    key, certificates = _load_pair(path, "run `midstreamer certs init`")
    return Authority(trust_domain_of(certificates[0]), certificates[0], key)


def issue(
    authority: Authority,
    identity: Identity,
    directory: Path,
    *,
    days: float = LEAF_DAYS,
    hosts: Collection[str] = (),
    now: Now = time.time,
) -> Path:
    """Write a new key and certificate to a file, and add the authority to the trusted ones.

    Returns the file's path. ``hosts`` are DNS names that the certificate holds beside the identity.
    """
    issued = authority.certify(identity, now_s=now(), days=days, dns_names=hosts)
    path = identity_path(directory, identity)
    _own_directory(directory)
    _own_directory(path.parent)
    _write(path, _key_pem(issued.key) + _pem(issued.certificate), mode=0o600)
    trust = trust_path(directory)
    anchors = certificates_in(trust) if trust.exists() else ()
    if authority.certificate not in anchors:
        _write(trust, pem_of((*anchors, authority.certificate)), mode=0o644)
    return path


def keep(own: Credentials, directory: Path) -> Path:
    """Write credentials to files (key 0600), and add their authorities to the trusted ones.

    Returns the path of the file with key and certificate.
    """
    path = identity_path(directory, own.identity)
    _own_directory(directory)
    _own_directory(path.parent)
    _write(path, _key_pem(own.key) + pem_of((own.certificate, *own.intermediates)), mode=0o600)
    trust = trust_path(directory)
    anchors = certificates_in(trust) if trust.exists() else ()
    if fresh := [each for each in own.anchors if each not in anchors]:
        _write(trust, pem_of((*anchors, *fresh)), mode=0o644)
    return path


@dataclass(frozen=True)
class Description:
    """The content of a certificate file for display, without the key."""

    path: Path
    uris: tuple[str, ...]
    label: str
    issuer: str
    serial: str
    fingerprint: str
    """SHA-256 of the certificate, hexadecimal."""
    usages: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    days_left: float
    mode: str
    """Mode of the file in octal, such as 0600."""


def describe(path: Path, *, now: Now = time.time) -> Description:
    """Describe the first certificate of a file; ConfigError if the file holds none."""
    leaf = certificates_in(path)[0]
    names = certificate_chain.extension(leaf, x509.SubjectAlternativeName)
    purposes = certificate_chain.extension(leaf, x509.ExtendedKeyUsage)
    return Description(
        path=path,
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
        label=leaf.subject.rfc4514_string().removeprefix("CN="),
        issuer=leaf.issuer.rfc4514_string().removeprefix("CN="),
        serial=f"{leaf.serial_number:x}",
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        usages=tuple(purpose._name for purpose in purposes or ()),  # noqa: SLF001 - no other name
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        days_left=_days_left(leaf, now()),
        mode=f"{stat.S_IMODE(path.stat().st_mode):04o}",
    )


# --- reading and renewing the files while a process runs -----------------------------------------


_Own = tuple[ec.EllipticCurvePrivateKey, tuple[x509.Certificate, ...]]
"""The private key of this process, and its certificate followed by the intermediates."""


class CertificateManager:
    """Loads the credentials of one process, issues and renews them, and reads changed files."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        *,
        authority_directory: Path | None = None,
        days: float = LEAF_DAYS,
        renew_before_days: float = RENEW_BEFORE_DAYS,
        hosts: Collection[str] = (),
        now: Now = time.time,
    ) -> None:
        """``hosts``: DNS names that this object puts into each certificate, beside the identity."""
        self.identity = identity
        self.complaints: dict[Watched, str] = {}
        """The problem of each file that is wrong now; empty when all files are good."""
        self._directory = directory
        self._authority_directory = authority_directory or directory
        self._days = days
        self._renew_before_days = renew_before_days
        self._hosts = hosts
        self._now = now
        self._path = identity_path(directory, identity)
        self._current: Credentials | None = None
        self._seen: tuple[object, ...] = ()

    @property
    def current(self) -> Credentials:
        """The credentials in force; ConfigError before `load_or_generate`."""
        if self._current is None:
            raise ConfigError(f"the certificate of {self.identity.name} is not loaded yet")
        return self._current

    def load_or_generate(self) -> Credentials:
        """Load the credentials; first issue or renew them if needed. ConfigError if that fails."""
        self._renew()
        self._seen = self._fingerprints()
        key, certificates = self._load_own()
        anchors = certificates_in(self._trust_path())
        self._current = Credentials(self.identity, certificates[0], certificates[1:], key, anchors)
        return self._current

    def refresh(self) -> bool:
        """Renew if due, and read changed files; return whether the credentials changed.

        Each file is read on its own, so that a wrong bundle does not block a renewed certificate.
        """
        before = self.current
        is_due = self._is_old(before.certificate) and self._can_issue()
        if not (is_due or self.complaints or self._fingerprints() != self._seen):
            return False
        self.complaints = {}
        own, anchors = (before.key, (before.certificate, *before.intermediates)), before.anchors
        with self._reporting(Watched.AUTHORITY):
            self._renew()
        self._seen = self._fingerprints()
        with self._reporting(Watched.CERTIFICATE):
            own = self._load_own()
        with self._reporting(Watched.BUNDLE):
            anchors = certificates_in(self._trust_path())
        key, (leaf, *others) = own
        self._current = Credentials(self.identity, leaf, tuple(others), key, anchors)
        return self._current != before

    @contextlib.contextmanager
    def _reporting(self, file: Watched) -> Iterator[None]:
        try:
            yield
        except (ConfigError, OSError) as error:
            self.complaints[file] = str(error)

    def _renew(self) -> None:
        if self._is_due() and self._can_issue():
            signer = open_authority(self._authority_directory)
            issue(
                signer, self.identity, self._directory,
                days=self._days, hosts=self._hosts, now=self._now,
            )  # fmt: skip

    def _load_own(self) -> _Own:
        own = _load_pair(self._path, f"run `midstreamer certs issue {self.identity.name}`")
        _check_own(self.identity, own, self._path, self._now())
        return own

    def _is_due(self) -> bool:
        try:
            leaf = certificates_in(self._path)[0]
        except ConfigError:
            return not self._path.exists()  # a file that exists but is unreadable is not replaced
        return self._is_old(leaf)

    def _can_issue(self) -> bool:
        return authority_path(self._authority_directory).exists()

    def _is_old(self, leaf: x509.Certificate) -> bool:
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        # A certificate that lives only a few days is renewed in the last third of its life.
        before_days = min(self._renew_before_days, lifetime / dt.timedelta(days=3))
        return _days_left(leaf, self._now()) < before_days

    def _trust_path(self) -> Path:
        return trust_path(self._directory)

    def _fingerprints(self) -> tuple[object, ...]:
        return (fingerprint_of(self._path), fingerprint_of(self._trust_path()))


class AllowlistFile:
    """The allowlist of one process, read again when its file changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complaint = ""
        self._seen = fingerprint_of(path)
        self.current: Allowlist = self._load()

    def refresh(self) -> bool:
        """Read the file if it changed or was wrong; return whether its content is different."""
        seen = fingerprint_of(self.path)
        if seen == self._seen and not self.complaint:
            return False
        self._seen, before = seen, self.current
        try:
            self.current = self._load()
            self.complaint = ""
        except ConfigError as error:
            self.complaint = str(error)
        return self.current != before

    def _load(self) -> Allowlist:
        try:
            text = self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"allowlist {self.path}: {error}; write one entry <kind>/<id> a line"
            ) from error
        return allowlist.parse(text, source=str(self.path))


def write_allowlist(path: Path, entries: list[str]) -> None:
    """Replace an allowlist file atomically; ConfigError if an entry is not valid."""
    text = "".join(f"{entry}\n" for entry in entries)
    allowlist.parse(text, source=str(path))
    _write(path, text.encode(), mode=0o644)


# --- reading and writing --------------------------------------------------------------------------


def _check_own(identity: Identity, own: _Own, path: Path, now_s: float) -> None:
    """Raise ConfigError for a key and certificate that every peer would refuse."""
    key, (leaf, *_) = own
    with _readable(path, "issue it again"):
        names = certificate_chain.extension(leaf, x509.SubjectAlternativeName)
        uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
        if leaf.public_key() != key.public_key():
            raise ConfigError(f"{path}: the key does not belong to the certificate")
    if uris != [identity.uri]:
        raise ConfigError(f"{path} is for {', '.join(uris)}, not for {identity.uri}")
    if weakness := certificate_chain.weakness_of(leaf):
        raise ConfigError(f"{path}: {weakness[1]}; issue it again")
    if _days_left(leaf, now_s) < 0:
        raise ConfigError(f"{path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}; issue it again")


@contextlib.contextmanager
def _readable(path: Path, remedy: str) -> Iterator[None]:
    """Turn the errors of `cryptography` for unreadable content into ConfigError."""
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise ConfigError(
            f"{path} holds no readable key and certificate ({error}); {remedy}"
        ) from error


def _load_pair(path: Path, remedy: str) -> _Own:
    data = _read(path, remedy)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        raise ConfigError(f"{path} holds a key and has mode {mode:04o}; run chmod 600 on it")
    with _readable(path, remedy):
        key = serialization.load_pem_private_key(data, password=None)
        certificates = tuple(x509.load_pem_x509_certificates(data))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: the key is not of an elliptic curve; {remedy}")
    return key, certificates


def certificates_in(path: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM file; ConfigError if it holds none or cannot be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(_read(path, "run `midstreamer certs init`")))
    except ValueError as error:
        raise ConfigError(f"{path} holds no readable certificate") from error


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {remedy}") from error


def _write(path: Path, data: bytes, *, mode: int, replace: bool = True) -> None:
    """Write a file atomically: write a temporary file, sync it, then move it into place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            beside.replace(path)
        else:
            path.hardlink_to(beside)  # unlike a rename, this fails if the file exists
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _own_directory(directory: Path) -> None:
    """Make a directory with mode 0700; an existing directory keeps its mode."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)


def fingerprint_of(path: Path) -> tuple[int, ...]:
    """Return a value that changes with the content or mode of a file; empty if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


def _days_left(leaf: x509.Certificate, now_s: float) -> float:
    return (leaf.not_valid_after_utc.timestamp() - now_s) / DAY_S


def pem_of(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return certificates as one PEM text."""
    return b"".join(map(_pem, certificates))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
