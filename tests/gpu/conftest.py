"""Tests in this folder run where CuPy finds a device; elsewhere each is skipped with the reason, which -ra prints."""

from __future__ import annotations

import pytest

from bandits.backend import DeviceError, device


@pytest.fixture(scope="session")
def gpu():
    """CuPy's module."""
    try:
        return device("gpu")
    except DeviceError as error:
        pytest.skip(str(error))
