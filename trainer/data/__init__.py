"""Datasets: what one is, how its files are listed, packed, read and split; values and pure functions."""
