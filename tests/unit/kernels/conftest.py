"""Fixtures for tests of the kernels, which compare both engines with the slow `reference`."""

import pytest


@pytest.fixture(params=["numba", "wasm"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once with each engine, so that every claim is checked on both."""
    return str(request.param)
