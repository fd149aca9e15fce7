"""formats of off-policy evaluation."""
