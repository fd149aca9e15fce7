"""One Hypothesis profile: derandomised, so that a failure is a failure everywhere; and sizes of the long forms."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "banditd", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("banditd")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=10, help="kills of the crash test")
    parser.addoption("--cases", type=int, default=2000, help="cases of the fuzz tests")
