"""Comparison of runs: the verdict, the differences in steps, weights, code and data, and the documents about a run."""
