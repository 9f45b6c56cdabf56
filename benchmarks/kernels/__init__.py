"""Benchmark of the kernels against other packages, on the same data in one run: ``make bench``."""
