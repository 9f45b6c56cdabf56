"""Every public name of the packages can be imported, also those that are loaded on first use."""

import pytest

import midstreamer
import midstreamer_kernels


@pytest.mark.parametrize("name", midstreamer.__all__)
def test_a_public_name_of_the_sdk_can_be_imported(name: str) -> None:
    assert getattr(midstreamer, name) is not None


@pytest.mark.parametrize("name", midstreamer_kernels.__all__)
def test_a_public_name_of_the_kernels_can_be_imported(name: str) -> None:
    assert getattr(midstreamer_kernels, name) is not None
