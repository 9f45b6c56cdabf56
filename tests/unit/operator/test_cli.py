"""The operator's command: a configuration error is one line and never a traceback."""

from __future__ import annotations

import pytest

from midstreamer.domain.errors import ConfigError
from midstreamer.domain.identity import Kind
from midstreamer.runtime import config
from midstreamer_operator import cli
from midstreamer_operator.settings import OperatorSettings

ACCOUNTS = "MIDSTREAMER_OPERATOR__ACCOUNTS"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "release=Mid"], "operator.release = 'Mid' from flag --release"),
        (["--set", "leases_s=6"], "did you mean lease_s"),
        (["--set", "release"], "--set takes KEY=VALUE"),
        (["--set", "renew_within_s=6"], "renew_within_s=6 must be less than lease_s=6"),
        (["--set", "life_s=60"], "operator.life_s"),
        ([], "operator.pod is not set"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_never_as_a_traceback(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_settings_make_the_policy() -> None:
    environ = {
        ACCOUNTS: '{"mid-agent": "agent"}',
        "MIDSTREAMER_OPERATOR__POSTGRES_HOSTS": '["postgres"]',
        "MIDSTREAMER_SECURITY__TRUST_DOMAIN": "test.local",
    }
    settings = config.load(OperatorSettings, environ=environ).policy
    assert settings.kinds == {"mid-agent": Kind.AGENT}
    assert settings.host_names == {Kind.POSTGRES: frozenset({"postgres"})}
    assert settings.trust_domain == "test.local"
    assert settings.signer == "midstreamer.dev/default.midstreamer.member"


def test_an_account_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="'agnt'"):
        config.load(OperatorSettings, environ={ACCOUNTS: '{"mid-agent": "agnt"}'})


def test_settings_and_version_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--set", "release=mid", "--print-config"]) == 0
    assert "operator.release = mid  (flag --release)" in capsys.readouterr().out
    assert cli.execute(["--version"]) == 0
    assert "midstreamer-operator 0." in capsys.readouterr().out
