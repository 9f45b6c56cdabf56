"""Certificates in files are issued and renewed in time, and their keys stay private.

A file is replaced as a whole, so nobody ever reads a half-written file.
"""

import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from midstreamer.domain.errors import BadInput, ConfigError
from midstreamer.domain.identity import Kind
from midstreamer.security import files
from midstreamer.security.credentials import Watched
from midstreamer.security.files import AllowlistFile, CertificateManager
from tests.support.identity_builders import DAY_S, DOMAIN, who, with_key

AGENT = who(Kind.AGENT, "a1")


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "certs"


def test_keys_are_closed_to_others_and_their_folders_too(directory: Path) -> None:
    path = files.issue(files.init_authority(directory, DOMAIN), AGENT, directory)
    assert mode_of(path) == mode_of(files.authority_path(directory)) == 0o600
    assert mode_of(directory) == mode_of(path.parent) == 0o700


def test_no_mode_of_an_existing_folder_is_changed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    files.init_authority(tmp_path, DOMAIN)
    assert mode_of(tmp_path) == 0o755


def test_an_authority_is_never_replaced_by_accident(directory: Path) -> None:
    first = files.init_authority(directory, DOMAIN)
    with pytest.raises(ConfigError, match="exists already"):
        files.init_authority(directory, DOMAIN)
    assert files.open_authority(directory).certificate == first.certificate
    assert files.open_authority(directory).trust_domain == DOMAIN


def test_an_identity_of_another_domain_is_not_certified(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    with pytest.raises(BadInput, match=r"other\.local"):
        files.issue(signer, who(Kind.AGENT, domain="other.local"), directory)


def test_credentials_are_issued_when_missing_and_kept_when_good(directory: Path) -> None:
    files.init_authority(directory, DOMAIN)
    first = CertificateManager(directory, AGENT).load_or_generate()
    again = CertificateManager(directory, AGENT).load_or_generate()
    assert first.certificate == again.certificate
    assert first.certificate.public_key() == again.key.public_key()


def test_credentials_are_renewed_when_fewer_than_30_days_are_left(directory: Path) -> None:
    files.init_authority(directory, DOMAIN)
    clock = Clock()
    manager = CertificateManager(directory, AGENT, now=clock)
    first = manager.load_or_generate().certificate
    clock.now_s += 59.9 * DAY_S
    assert not manager.refresh()
    clock.now_s += 0.2 * DAY_S
    assert manager.refresh()
    assert manager.current.certificate.not_valid_after_utc > first.not_valid_after_utc
    assert not manager.refresh()


def test_a_short_lived_certificate_is_renewed_in_its_last_third(directory: Path) -> None:
    files.init_authority(directory, DOMAIN)
    clock = Clock()
    manager = CertificateManager(directory, AGENT, days=3, now=clock)
    manager.load_or_generate()
    assert not manager.refresh()
    clock.now_s += 2.1 * DAY_S
    assert manager.refresh()


def test_without_an_authority_at_hand_the_remedy_is_named(directory: Path) -> None:
    with pytest.raises(ConfigError, match="certs issue agent/a1"):
        CertificateManager(directory, AGENT).load_or_generate()


def test_a_certificate_that_somebody_else_replaced_is_reread(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    manager = CertificateManager(directory, AGENT)
    before = manager.load_or_generate().certificate
    files.issue(signer, AGENT, directory)
    assert manager.refresh()
    assert manager.current.certificate != before


def test_a_broken_file_keeps_the_last_good_one_and_is_reported(directory: Path) -> None:
    files.init_authority(directory, DOMAIN)
    manager = CertificateManager(directory, AGENT)
    before = manager.load_or_generate()
    files.identity_path(directory, AGENT).write_bytes(b"-----BEGIN nonsense")
    assert not manager.refresh()
    assert manager.current == before
    assert "no readable" in manager.complaints[Watched.CERTIFICATE]
    files.issue(files.open_authority(directory), AGENT, directory)
    assert manager.refresh()
    assert manager.complaints == {}


def test_a_broken_bundle_does_not_keep_a_renewed_certificate_out(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    manager = CertificateManager(directory, AGENT)
    before = manager.load_or_generate()
    files.issue(signer, AGENT, directory)
    files.trust_path(directory).write_text("nonsense")
    assert manager.refresh()
    assert manager.current.certificate != before.certificate
    assert manager.current.anchors == before.anchors
    assert list(manager.complaints) == [Watched.BUNDLE]


def test_a_broken_authority_does_not_keep_a_renewed_certificate_out(directory: Path) -> None:
    signer, clock = files.init_authority(directory, DOMAIN), Clock()
    manager = CertificateManager(directory, AGENT, now=clock)
    before = manager.load_or_generate()
    clock.now_s += 70 * DAY_S
    files.authority_path(directory).write_text("nonsense")
    files.issue(signer, AGENT, directory, now=lambda: clock.now_s - 15 * DAY_S)
    assert manager.refresh()
    assert manager.current.certificate != before.certificate
    assert manager.complaints == {}
    clock.now_s += 60 * DAY_S
    assert not manager.refresh()
    assert list(manager.complaints) == [Watched.AUTHORITY]


def test_a_file_whose_mode_was_mended_is_read_without_being_written_again(
    directory: Path,
) -> None:
    signer = files.init_authority(directory, DOMAIN)
    manager = CertificateManager(directory, AGENT)
    before = manager.load_or_generate()
    path = files.issue(signer, AGENT, directory)
    path.chmod(0o644)
    assert not manager.refresh()
    assert "chmod 600" in manager.complaints[Watched.CERTIFICATE]
    path.chmod(0o600)
    assert manager.refresh()
    assert manager.current.certificate != before.certificate
    assert manager.complaints == {}


def test_a_certificate_with_unreadable_parts_is_reported(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    manager = CertificateManager(directory, AGENT)
    before, path = manager.load_or_generate(), files.identity_path(directory, AGENT)
    garbage = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\xff")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(before.certificate.subject)
        .issuer_name(before.certificate.issuer)
        .public_key(before.key.public_key())
        .serial_number(1)
        .not_valid_before(before.certificate.not_valid_before_utc)
        .not_valid_after(before.certificate.not_valid_after_utc)
        .add_extension(garbage, critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    key = path.read_bytes().partition(b"-----BEGIN CERT")[0]
    path.write_bytes(key + certificate.public_bytes(serialization.Encoding.PEM))
    assert not manager.refresh()
    assert "no readable" in manager.complaints[Watched.CERTIFICATE]


def test_a_key_on_a_weak_curve_is_not_presented(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    path = files.issue(signer, AGENT, directory)
    weak = with_key(signer, AGENT, ec.generate_private_key(ec.SECP224R1()))
    path.write_bytes(
        weak.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + weak.certificate.public_bytes(serialization.Encoding.PEM)
    )
    with pytest.raises(ConfigError, match="curve secp224r1"):
        CertificateManager(directory, AGENT).load_or_generate()


def test_a_key_that_others_may_read_is_refused(directory: Path) -> None:
    files.issue(files.init_authority(directory, DOMAIN), AGENT, directory).chmod(0o644)
    with pytest.raises(ConfigError, match="mode 0644; run chmod 600"):
        CertificateManager(directory, AGENT).load_or_generate()


def test_a_certificate_of_somebody_else_is_refused(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    other = files.issue(signer, who(Kind.AGENT, "a2"), directory)
    other.rename(files.identity_path(directory, AGENT))
    with pytest.raises(ConfigError, match=r"agent/a2, not for .*agent/a1"):
        CertificateManager(directory, AGENT).load_or_generate()


def test_key_and_certificate_are_one_file_that_is_replaced_whole(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = files.init_authority(directory, DOMAIN)
    path = files.issue(signer, AGENT, directory)
    before = path.read_bytes()

    def out_of_space(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", out_of_space)
    with pytest.raises(OSError, match="No space"):
        files.issue(signer, AGENT, directory)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_ids_of_several_parts_have_files_of_their_own(directory: Path) -> None:
    signer = files.init_authority(directory, DOMAIN)
    pods = [who(Kind.AGENT, "prod/a"), who(Kind.AGENT, "prod/b")]
    paths = {files.issue(signer, pod, directory) for pod in pods}
    assert len(paths) == 2
    assert all(path.parent == directory / "agent" for path in paths)


def test_a_certificate_is_described_without_its_key(directory: Path) -> None:
    path = files.issue(files.init_authority(directory, DOMAIN), AGENT, directory, days=10)
    description = files.describe(path)
    assert description.uris == (AGENT.uri,)
    assert description.label == "a1"
    assert description.usages == ("clientAuth",)
    assert description.mode == "0600"
    assert 9.9 < description.days_left < 10
    assert "PRIVATE" not in repr(description)


def test_describing_what_is_not_there_says_so(directory: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        files.describe(directory / "agent" / "a9.pem")


def test_an_allowlist_is_reread_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "allowlist"
    files.write_allowlist(path, ["agent/a1"])
    listed = AllowlistFile(path)
    assert not listed.refresh()
    files.write_allowlist(path, ["agent/a2"])
    assert listed.refresh()
    assert not listed.current.allows(AGENT)
    path.write_text("agent/a2\nwhat is this\n")
    assert not listed.refresh()
    assert "line 2" in listed.complaint
    path.unlink()
    assert not listed.refresh()
    assert listed.current.allows(who(Kind.AGENT, "a2"))


def test_an_allowlist_that_is_absent_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one entry"):
        AllowlistFile(tmp_path / "allowlist")
