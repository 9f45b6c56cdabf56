"""Settings of a coordinator that contradict each other are refused."""

import pytest

from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.domain.errors import ConfigError
from midstreamer.runtime import config


def test_a_batch_that_fits_no_frame_is_refused_and_both_settings_named() -> None:
    given = {"batch_bytes_max": 4 * 1024 * 1024}
    with pytest.raises(ConfigError, match="batch_bytes_max.*limits.frame_bytes_max") as raised:
        config.load(CoordinatorSettings, overrides=given, environ={})
    assert str(raised.value).startswith("[coordinator] batch_bytes_max = 4,194,304 is above")
    assert "coordinator.batch_bytes_max from flag --batch-bytes-max" in str(raised.value)


def test_a_batch_may_be_as_large_as_its_share_of_a_larger_frame() -> None:
    given = {"batch_bytes_max": 6 << 20, "limits.frame_bytes_max": 8 << 20}
    settings = config.load(CoordinatorSettings, overrides=given, environ={})
    assert settings.batch_bytes_max == 6 << 20
