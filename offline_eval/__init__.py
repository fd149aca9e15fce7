"""Off-policy evaluation and learning on logged decisions."""
