"""banditd doctor: whether what is stored is what the log says, and whether all else is as it should be."""
