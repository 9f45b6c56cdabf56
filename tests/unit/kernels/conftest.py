"""Both engines run for real; results are compared with the slow definitions in `reference`."""

import pytest


@pytest.fixture(params=["numba", "wasm"])
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test once with each engine, so that every claim is checked on both."""
    return str(request.param)
