"""Numba kernels: flat arrays in, preallocated arrays out; the Python callers validate."""
