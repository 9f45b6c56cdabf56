"""The SCRAM verifier of a password equals PostgreSQL's and does not reveal the password."""

from __future__ import annotations

import base64

import pytest

from midstreamer.postgres import scram_verifier

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def test_it_is_that_of_the_example_in_rfc_7677() -> None:
    assert scram_verifier.verifier("pencil", SALT) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_salt_and_password_each_change_it() -> None:
    several = {
        scram_verifier.verifier(word, salt) for word in ("one", "two") for salt in (SALT, b"x" * 16)
    }
    assert len(several) == 4


def test_a_password_that_would_have_to_be_normalised_is_not_taken() -> None:
    with pytest.raises(UnicodeEncodeError):
        scram_verifier.verifier("pässword", SALT)
