"""The kernels beside other packages, on the same data in the same run: ``make bench``."""
