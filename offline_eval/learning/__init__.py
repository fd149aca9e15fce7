"""learning of off-policy evaluation."""
