"""Commands of the banditd command line, one module each."""
