"""Settings of all tests: nothing is faked here, and no test sees the settings of the user.

A test imports the builders that it needs from tests/support by name. No fixture creates data behind
a test's back.
"""

from __future__ import annotations

import asyncio
import os

import hypothesis
import pytest

from tests.support import identity_builders

hypothesis.settings.register_profile(
    "shared",
    # A single example has no time limit, because it may be slow on busy cores; pytest-timeout
    # limits the whole test.
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
# `make unit` takes this profile, to be quick; `make test` tries all examples.
hypothesis.settings.register_profile(
    "few", hypothesis.settings.get_profile("shared"), max_examples=10
)
hypothesis.settings.load_profile("shared")

# If no loop is current, Python 3.11 creates an event loop on demand, which nobody closes.
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
    """The carrier, quic or wss, on which an `Installation` runs in this test."""
    chosen = str(request.param)
    monkeypatch.setattr(identity_builders, "SCHEME", chosen)
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run unit tests first, so that a simple failure shows before a fleet starts."""
    rank = {"integration": 1, "fleet": 2}
    items.sort(key=lambda item: max((rank.get(m.name, 0) for m in item.iter_markers()), default=0))
