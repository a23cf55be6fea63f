"""Comparison of runs: the verdict, differences of steps, weights, code and data, and the documents about a run."""
