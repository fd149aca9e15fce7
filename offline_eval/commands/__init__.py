"""commands of off-policy evaluation."""
