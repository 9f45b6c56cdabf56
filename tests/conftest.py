"""Fixtures and settings for all tests.

No test sees the MIDSTREAMER_ environment variables of the user who runs it. The fixtures here
replace nothing by a fake, and create no data: each test calls the builders in tests/support itself.
"""

from __future__ import annotations

import asyncio
import os

import hypothesis
import pytest

from tests.support import identity_builders

hypothesis.settings.register_profile(
    "shared",
    # Hypothesis must not limit the time of one example, which may be slow on busy cores.
    # pytest-timeout limits the whole test.
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
# `make unit` takes this profile, to be quick; `make test` tries all examples.
hypothesis.settings.register_profile(
    "few", hypothesis.settings.get_profile("shared"), max_examples=10
)
hypothesis.settings.load_profile("shared")

# Without this call, Python 3.11 creates an event loop when a test asks for the current one and none
# runs; nobody would close it.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    for name in [name for name in os.environ if name.startswith("MIDSTREAMER_")]:
        monkeypatch.delenv(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked ``each_carrier`` once on each carrier."""
    if metafunc.definition.get_closest_marker("each_carrier") is not None:
        metafunc.fixturenames.insert(0, "scheme")
        metafunc.parametrize("scheme", ("quic", "wss"), indirect=True)


@pytest.fixture
def scheme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The carrier (quic or wss) that every `Installation` of this test uses."""
    chosen = str(request.param)
    monkeypatch.setattr(identity_builders, "SCHEME", chosen)
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the unit tests before the tests that start a fleet: simple failures then show first."""
    rank = {"integration": 1, "fleet": 2}
    items.sort(key=lambda item: max((rank.get(m.name, 0) for m in item.iter_markers()), default=0))
