"""Replay: a policy, learning ones too, asked again at every row of a log."""
