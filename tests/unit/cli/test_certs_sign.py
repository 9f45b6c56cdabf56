"""`certs sign` certifies the key of a signing request; each error is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from midstreamer.cli import main
from midstreamer.domain.identity import Kind
from midstreamer.security import requested_credentials
from tests.support.identity_builders import stranger_key, who

AGENT = who(Kind.AGENT, "a1", domain="midstreamer.local")
KEY = stranger_key()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main.execute(["certs", "init", "--directory", "certs"]) == 0
    (tmp_path / "a1.csr").write_bytes(requested_credentials.request(KEY, AGENT))
    return tmp_path


def sign(*words: str) -> int:
    return main.execute(["certs", "sign", *words, "--directory", "certs"])


def test_the_certificate_is_printed_and_is_for_the_key_of_the_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    assert sign("a1.csr", "agent/a1") == 0
    (leaf,) = x509.load_pem_x509_certificates(capsys.readouterr().out.encode())
    assert leaf.public_key() == KEY.public_key()


def test_the_certificate_goes_to_the_given_file_and_not_to_the_allowlist(place: Path) -> None:
    assert sign("a1.csr", "agent/a1", "--out", "a1.pem", "--days", "1") == 0
    (leaf,) = x509.load_pem_x509_certificates((place / "a1.pem").read_bytes())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 1
    assert not (place / "certs/allowlist").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a1.csr", "agent/a2"], "asks for 'spiffe://midstreamer.local/agent/a1', not for"),
        (["a1.csr", "wizard/a1"], "'wizard/a1' is not <kind>/<id>"),
        (["certs/trust.pem", "agent/a1"], "no signing request in PEM"),
        (["nowhere.csr", "agent/a1"], "signing request nowhere.csr: No such file"),
        (["/dev/zero", "agent/a1"], "is larger than 65,536 bytes"),
        (["a1.csr", "agent/a1", "--days", "0"], "--days 0: the validity must be above 0"),
        (["a1.csr", "agent/a1", "--days", "nan"], "--days nan: the validity must be above 0"),
        (["a1.csr", "agent/a1", "--out", "no/where"], "--out no/where: No such file"),
    ],
)
def test_what_cannot_be_signed_is_said_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(*words) == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


def test_without_an_authority_the_remedy_is_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "certs/authority.pem").unlink()
    assert sign("a1.csr", "agent/a1") == 2
    assert "run `midstreamer certs init`" in capsys.readouterr().err
