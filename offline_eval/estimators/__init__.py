"""estimators of off-policy evaluation."""
