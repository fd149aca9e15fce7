"""The decisions of a log with what became of them, as files that people take away."""
