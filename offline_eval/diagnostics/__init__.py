"""diagnostics of off-policy evaluation."""
