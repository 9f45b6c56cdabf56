"""Certificates from an issuer: each answer is checked, and failures are retried with pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from midstreamer.domain.errors import BadInput, ConfigError, Refused, Unavailable
from midstreamer.domain.identity import Identity, Kind
from midstreamer.security import authority, requested_credentials
from midstreamer.security.credentials import CredentialSource, Watched
from midstreamer.security.requested_credentials import ASK_S, RequestedSource, Signed
from tests.support import virtual_time
from tests.support.identity_builders import DOMAIN, an_authority, stranger_key, who
from tests.support.scripted_issuers import Answer, ScriptedIssuer

AGENT = who(Kind.AGENT, "a1")
EPOCH_S = 1_800_000_000.0
"""Wall-clock time, in seconds since 1970, at which the virtual event loop starts."""
Request = x509.CertificateSigningRequest


def wall_s() -> float:
    return EPOCH_S + asyncio.get_running_loop().time()


def an_issuer(**given: Any) -> ScriptedIssuer:
    signer = authority.establish(DOMAIN, now_s=EPOCH_S, days=3650)
    return ScriptedIssuer(signer, now=wall_s, **given)


def a_source(
    issuer: ScriptedIssuer, identity: Identity = AGENT, **given: Any
) -> tuple[RequestedSource, list[str]]:
    reports: list[str] = []
    source = RequestedSource(
        identity, issuer, now=wall_s, dice=lambda: 0.5, waits=reports.append, **given
    )
    return source, reports


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(main())


# tests of an issuer's answers that must be refused


def _other_key(issuer: ScriptedIssuer) -> Answer:
    def answer(_request: Request, identity: Identity) -> Signed:
        certified = issuer.authority.certify(identity, now_s=issuer.now(), days=1)
        return Signed((certified.certificate,), (issuer.authority.certificate,))

    return answer


def _other_name(issuer: ScriptedIssuer) -> Answer:
    def answer(request: Request, _identity: Identity) -> Signed:
        return _resigned(issuer, request, who(Kind.AGENT, "a2"))

    return answer


def _other_usage(issuer: ScriptedIssuer) -> Answer:
    def answer(request: Request, identity: Identity) -> Signed:
        # A sync never dials, so the extended key usage of its certificate does not allow to dial.
        # `_renamed` then puts the right identity into it. So only the usage is wrong.
        signed = _resigned(issuer, request, who(Kind.SYNC, "a1"))
        return replace(signed, chain=(_renamed(issuer, signed.chain[0], identity),))

    return answer


def _other_label(issuer: ScriptedIssuer) -> Answer:
    def answer(request: Request, identity: Identity) -> Signed:
        signed = _resigned(issuer, request, who(Kind.AGENT, "a2"))
        return replace(signed, chain=(_renamed(issuer, signed.chain[0], identity),))

    return answer


def _other_chain(issuer: ScriptedIssuer) -> Answer:
    def answer(request: Request, identity: Identity) -> Signed:
        return replace(issuer.honest(request, identity), anchors=(an_authority().certificate,))

    return answer


def _dated(by_s: float) -> Callable[[ScriptedIssuer], Answer]:
    def make_answer(issuer: ScriptedIssuer) -> Answer:
        def answer(request: Request, identity: Identity) -> Signed:
            leaf = issuer.authority.sign(request, identity, now_s=issuer.now() + by_s, days=0.01)
            return Signed((leaf,), (issuer.authority.certificate,))

        return answer

    return make_answer


def _without(**parts: Any) -> Callable[[ScriptedIssuer], Answer]:
    def make_answer(issuer: ScriptedIssuer) -> Answer:
        return lambda request, identity: replace(issuer.honest(request, identity), **parts)

    return make_answer


def _resigned(issuer: ScriptedIssuer, request: Request, identity: Identity) -> Signed:
    """Certify the key of the request for ``identity``, even if the request names another identity.

    A real authority would refuse such a request.
    """
    certified = issuer.authority.certify(identity, now_s=issuer.now(), days=1).certificate
    leaf = _rebuilt(issuer, certified, key=request.public_key())
    return Signed((leaf,), (issuer.authority.certificate,))


def _renamed(
    issuer: ScriptedIssuer, leaf: x509.Certificate, identity: Identity
) -> x509.Certificate:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)])
    return _rebuilt(issuer, leaf, key=leaf.public_key(), names=names)


def _rebuilt(
    issuer: ScriptedIssuer,
    leaf: x509.Certificate,
    *,
    key: Any,
    names: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key)
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for extension in leaf.extensions:
        is_name = isinstance(extension.value, x509.SubjectAlternativeName)
        value = names if names is not None and is_name else extension.value
        builder = builder.add_extension(value, extension.critical)
    return builder.sign(issuer.authority.key, hashes.SHA256())


LIES: dict[str, tuple[Callable[[ScriptedIssuer], Answer], str]] = {
    "key": (_other_key, "certifies another key than the requested one"),
    "name": (_other_name, "it is for spiffe://test.local/agent/a2"),
    "usage": (_other_usage, "wrong_usage: certificate"),
    "label": (_other_label, "label_mismatch: common name 'a2'"),
    "chain": (_other_chain, "unknown_authority: certificate"),
    "expired": (_dated(-86_400.0), "expired: certificate"),
    "not-yet": (_dated(86_400.0), "not_yet_valid: certificate"),
    "no-anchors": (_without(anchors=()), "it names no authority to trust"),
    "nothing": (_without(chain=()), "there is no certificate in it"),
    "garbage": (_without(chain=(b"garbage",)), "does not consist of certificates"),
    "no-answer": (lambda _: cast(Answer, lambda *_: None), "the issuer failed: AttributeError"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named_and_keeps_out_until_the_truth_comes(lie: str) -> None:
    make, named = LIES[lie]

    async def main() -> None:
        issuer = an_issuer()
        issuer.script = [make(issuer)]
        source, reports = a_source(issuer)
        got = await source.obtain()
        assert len(reports) == 1
        assert named in reports[0]
        assert got.certificate.public_key() == got.key.public_key()
        assert source.complaints == {}

    run(main)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_at_a_renewal_leaves_in_force_what_was_good(lie: str) -> None:
    make, named = LIES[lie]

    async def main() -> None:
        issuer = an_issuer(life_s=900.0)
        source, _ = a_source(issuer)
        before = await source.obtain()
        issuer.always = make(issuer)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(source.run())
            await asyncio.sleep(700.0)
            assert source.current == before
            assert not source.refresh()
            assert named in source.complaints[Watched.REQUEST]
            issuer.always = None
            await asyncio.sleep(100.0)
            assert source.current != before
            assert source.refresh()
            assert source.complaints == {}
            running.cancel()

    run(main)


# tests of issuers that cannot be reached, are slow or refuse


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (
            ConnectionRefusedError(111, "Connection refused"),
            "cannot be reached: Connection refused",
        ),
        (Unavailable("the cluster is away"), "the cluster is away"),
        (BadInput("agent/a1 may not have one"), "agent/a1 may not have one"),
        (Refused("no pod of mine"), "the issuer refuses: no pod of mine"),
        (TimeoutError("its own"), "the issuer failed: TimeoutError: its own"),
        (ZeroDivisionError("oh"), "the issuer failed: ZeroDivisionError: oh"),
        (3600.0, "the issuer has not answered within 30 s"),
    ],
    ids=["away", "away-by-name", "bad-input", "refusing", "times-out", "broken", "slow"],
)
def test_an_issuer_that_fails_is_asked_ever_less_often_and_the_reason_is_reported_once(
    step: Exception | float, why: str
) -> None:
    async def main() -> None:
        issuer = an_issuer(script=[step] * 4)
        each_s = ASK_S if isinstance(step, float) else 0.0
        source, reports = a_source(issuer)
        began_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(source.obtain())
            await asyncio.sleep(each_s + 0.1)
            assert why in source.waiting
            with pytest.raises(ConfigError, match="agent/a1 has no certificate yet"):
                _ = source.current
            await asking
        pauses_s = [
            b - a - each_s for a, b in zip(issuer.asked_s, issuer.asked_s[1:], strict=False)
        ]
        assert issuer.asked_s[0] == began_s
        assert pauses_s == pytest.approx([0.75, 1.5, 3.0, 6.0])
        assert [why in each for each in reports] == [True]
        assert source.waiting == ""

    run(main)


def test_a_slow_issuer_is_given_its_time() -> None:
    async def main() -> None:
        issuer = an_issuer(script=[ASK_S - 1.0])
        source, reports = a_source(issuer)
        await source.obtain()
        assert reports == []

    run(main)


class PatientIssuer(ScriptedIssuer):
    """An issuer that may take an hour to answer, and reports what it is waiting for."""

    ask_s = 3600.0
    waiting = "request x is not answered yet"


def test_a_patient_issuer_is_given_its_own_time_and_says_what_it_waits_for() -> None:
    async def main() -> None:
        signer = authority.establish(DOMAIN, now_s=EPOCH_S, days=3650)
        issuer = PatientIssuer(signer, now=wall_s, script=[3599.0])
        source, reports = a_source(issuer)
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(source.obtain())
            await asyncio.sleep(3598.0)
            assert source.waiting == "request x is not answered yet"
            await asking
        assert reports == []

    run(main)


def test_host_names_are_asked_for_besides_the_identity() -> None:
    request = x509.load_pem_x509_csr(
        requested_credentials.request(stranger_key(), AGENT, ["postgres"])
    )
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["postgres"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [AGENT.uri]


def test_a_certificate_that_cannot_be_renewed_expires_and_the_process_goes_on() -> None:
    async def main() -> None:
        issuer = an_issuer(life_s=300.0)
        source, _ = a_source(issuer)
        before = await source.obtain()
        issuer.always = ConnectionRefusedError(111, "Connection refused")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(source.run())
            await asyncio.sleep(7200.0)
            assert source.current == before
            assert "Connection refused; the present one expired on" in str(source.complaints)
            asked, issuer.always = len(issuer.asked_s), None
            await asyncio.sleep(300.0)
            assert source.current != before
            assert asked < 100
            running.cancel()

    run(main)


def test_certificates_are_renewed_at_two_thirds_of_their_life_each_with_a_key_of_its_own() -> None:
    async def main() -> None:
        issuer = an_issuer(life_s=3600.0)
        source, _ = a_source(issuer)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(source.run())
            await asyncio.sleep(4 * 2400.0 + 1.0)
            running.cancel()
        pauses_s = [b - a for a, b in zip(issuer.asked_s, issuer.asked_s[1:], strict=False)]
        # The dates in certificates are rounded to seconds, so pauses differ by up to a second.
        assert pauses_s == pytest.approx([2400.0] * 4, abs=1.0)
        assert len({_key_of(each) for each in issuer.requests}) == 5

    run(main)


def _key_of(request_pem: bytes) -> bytes:
    key = x509.load_pem_x509_csr(request_pem).public_key()
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_waiting_and_renewing_at_once_ask_once() -> None:
    async def main() -> None:
        issuer = an_issuer(script=[5.0])
        source, _ = a_source(issuer)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(source.run())
            await source.obtain()
            await asyncio.sleep(1.0)
            running.cancel()
        assert len(issuer.asked_s) == 1

    run(main)


# tests of signing requests, bundles and credential sources


def test_a_request_holds_the_public_half_of_the_key_alone() -> None:
    key = stranger_key()
    request = requested_credentials.request(key, AGENT)
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    der = x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER)
    assert secret not in der
    assert b"PRIVATE" not in request


@pytest.mark.parametrize("broken", ["chain", "anchors"])
def test_garbage_instead_of_pem_is_bad_input(broken: str) -> None:
    good = an_authority().certificate.public_bytes(serialization.Encoding.PEM)
    parts = {"shown": good, "anchors": good}
    assert len(Signed.of_pem(**parts).chain) == 1
    parts["shown" if broken == "chain" else "anchors"] = b"<html>503</html>"
    with pytest.raises(BadInput, match="is no readable PEM"):
        Signed.of_pem(**parts)


def test_a_new_bundle_counts_at_once_and_not_only_with_the_next_certificate() -> None:
    class Kept:
        current: tuple[x509.Certificate, ...] = ()
        complaint = "trust.pem: not there"

        def refresh(self) -> bool:
            return False

    async def main() -> None:
        issuer, bundle = an_issuer(), Kept()
        source, reports = a_source(issuer, bundle=bundle)
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(source.obtain())
            await asyncio.sleep(0.1)
            assert reports == ["trust.pem: not there"]
            bundle.current, bundle.complaint = (issuer.authority.certificate,), ""
            before = await asking
        assert not source.refresh()
        bundle.current += (an_authority().certificate,)
        assert source.refresh()
        assert source.current.anchors == bundle.current
        assert source.current.certificate == before.certificate

    run(main)


def test_it_is_a_source() -> None:
    source: CredentialSource = a_source(ScriptedIssuer())[0]
    assert source.identity == AGENT
    assert source.allowlist is None
