"""Nothing is faked here: both engines run for real, and `reference` is the oracle."""

import pytest


@pytest.fixture(params=["numba", "wasm"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn: what is claimed of one is claimed of all."""
    return str(request.param)
