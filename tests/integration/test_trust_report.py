"""A carrier reports its certificate, its bundle, and the authorities of its open links."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from midstreamer.domain.identity import Kind
from midstreamer.runtime import peer as peers
from midstreamer.security import files
from midstreamer.security.credentials_in_files import FileSource
from midstreamer.security.files import CertificateManager
from tests.support.fleet import eventually
from tests.support.identity_builders import DOMAIN, Installation, quic_carrier, who
from tests.support.link_builders import answer_surveys

pytestmark = pytest.mark.integration

AGENT, CLIENT, COORDINATOR = who(Kind.AGENT, "a1"), who(Kind.CLIENT, "u1"), who(Kind.COORDINATOR)


def short(path: Path) -> str:
    (authority,) = x509.load_pem_x509_certificates(files.trust_path(path).read_bytes())
    return authority.fingerprint(hashes.SHA256()).hex()[:16]


def a_second_authority(folder: Path, place: Installation) -> Path:
    """Make a second authority in ``folder``, and a client certificate that it signs.

    The bundle of ``place`` and the bundle of ``folder`` then contain both authorities.
    """
    authority = files.init_authority(folder, DOMAIN)
    files.issue(authority, CLIENT, folder)
    bundles = [files.trust_path(each) for each in (place.directory, folder)]
    both = b"".join(bundle.read_bytes() for bundle in bundles)
    for bundle in bundles:
        bundle.write_bytes(both)
    return folder


async def test_the_authorities_of_the_open_links_are_told_and_no_others(tmp_path: Path) -> None:
    place = Installation(tmp_path / "certs")
    agent = place.carrier(AGENT)
    old = short(place.directory)
    other = a_second_authority(tmp_path / "other", place)
    serving = place.carrier(COORDINATOR)
    server = await peers.listen(serving, "127.0.0.1:0", handle=answer_surveys)
    manager = CertificateManager(other, CLIENT)
    manager.load_or_generate()
    client = quic_carrier(FileSource(manager, None))
    links = [
        await peers.dial(carrier, server.address, expect=Kind.COORDINATOR)
        for carrier in (agent, client)
    ]
    report = serving.trust_report()
    assert old in report.judged_by
    assert len(report.judged_by) == 2
    assert report.judged_by == tuple(sorted(report.judged_by))
    assert client.trust_report().judged_by == (old,)
    assert client.trust_report().bundle == report.bundle != ""
    assert report.serial == f"{serving._trust.current.certificate.serial_number:x}"
    await links[1].close()
    await eventually(lambda: serving.trust_report().judged_by == (old,))
    await links[0].close()
    await server.close()


def renewed(place: Installation) -> x509.Certificate:
    """Return a new certificate of the authority: same name and key, another fingerprint."""
    before = place.authority.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(before.subject)
        .issuer_name(before.issuer)
        .public_key(before.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(before.not_valid_before_utc)
        .not_valid_after(before.not_valid_after_utc)
    )
    for extension in before.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(place.authority.key, hashes.SHA256())


async def test_a_link_that_is_judged_again_counts_for_the_authority_of_the_new_verdict(
    tmp_path: Path,
) -> None:
    place = Installation(tmp_path / "certs")
    serving, dialling = place.carrier(COORDINATOR), place.carrier(AGENT)
    server = await peers.listen(serving, "127.0.0.1:0", handle=answer_surveys)
    peer = await peers.dial(dialling, server.address, expect=Kind.COORDINATOR)
    before = serving.trust_report().judged_by
    anew = renewed(place)
    files.trust_path(place.directory).write_bytes(anew.public_bytes(serialization.Encoding.PEM))
    for carrier in (serving, dialling):
        carrier.look()
    after = [carrier.trust_report().judged_by for carrier in (serving, dialling)]
    assert not peer.closed
    assert before == (place.authority.certificate.fingerprint(hashes.SHA256()).hex()[:16],)
    assert after == [(anew.fingerprint(hashes.SHA256()).hex()[:16],)] * 2
    await peer.close()
    await server.close()
