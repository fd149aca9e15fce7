"""report of off-policy evaluation."""
