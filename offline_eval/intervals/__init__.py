"""intervals of off-policy evaluation."""
