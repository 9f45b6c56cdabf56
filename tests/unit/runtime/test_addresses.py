"""Addresses in settings: IPv6 addresses are accepted; an address without a host is refused.

The chart sets an address to "[$(POD_IP)]:7400". If POD_IP is empty, the setting is "[]:7400".
"""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from midstreamer.coordinator.config import CoordinatorSettings
from midstreamer.runtime.addresses import Addresses

LIST: TypeAdapter[tuple[str, ...]] = TypeAdapter(Addresses)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[::1]:7450", ("[::1]:7450",)),
        ("[::1]:7450,[10.0.0.1]:7451", ("[::1]:7450", "10.0.0.1:7451")),
        ('["[::1]:7450", "b:1"]', ("[::1]:7450", "b:1")),
        (" a:1 , b:2 ", ("a:1", "b:2")),
    ],
)
def test_a_list_of_addresses_may_begin_with_ipv6(text: str, meant: tuple[str, ...]) -> None:
    assert LIST.validate_python(text) == meant


def test_an_advertised_address_in_brackets_is_normalised() -> None:
    assert CoordinatorSettings(advertise="[10.0.0.1]:7400").advertise == "10.0.0.1:7400"
    assert CoordinatorSettings(advertise="[fd00::a]:7400").advertise == "[fd00::a]:7400"


def test_a_template_that_was_not_filled_in_is_an_error() -> None:
    with pytest.raises(ValidationError, match="is no IP address"):
        CoordinatorSettings(advertise="[]:7400")
