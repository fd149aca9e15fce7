"""Numba kernels: flat arrays in, preallocated arrays out; the Python callers validate.

Kernels that work through a batch release the interpreter (nogil). Those of one request (context, graph, score, sample)
keep it: they take microseconds, and each release hands the interpreter to the fold for up to a switch interval; with
four releases a request took 302 us instead of 135 beside a busy fold.
"""
