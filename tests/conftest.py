"""One Hypothesis profile: derandomised, so that a failure is a failure everywhere."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "banditd", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("banditd")
