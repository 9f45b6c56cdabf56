"""What every test shares: nothing is faked here, and no test sees the user's settings.

A test that needs a builder imports it from tests/support by name; there are no fixtures with
hidden content.
"""

from __future__ import annotations

import asyncio
import os

import hypothesis
import pytest

from tests.support import security

hypothesis.settings.register_profile(
    "shared",
    deadline=None,  # two busy cores make single examples slow; pytest-timeout watches the whole
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
hypothesis.settings.load_profile("shared")

# No implicit loop: Python 3.11 would make one on demand that nobody closes.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MIDSTREAMER_")]:
        monkeypatch.delenv(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that hold on each carrier once on each."""
    if metafunc.definition.get_closest_marker("each_carrier") is not None:
        metafunc.fixturenames.insert(0, "scheme")
        metafunc.parametrize("scheme", ("quic", "wss"), indirect=True)


@pytest.fixture
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The carrier that an `Installation` gives in this test."""
    chosen = str(request.param)
    monkeypatch.setattr(security, "SCHEME", chosen)
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the cheap tests first: a broken rule shows before a fleet is started."""
    rank = {"integration": 1, "fleet": 2}
    items.sort(key=lambda item: max((rank.get(m.name, 0) for m in item.iter_markers()), default=0))
