"""Runs: the record, its source, its attempts, and how they are published, pulled, resumed and listed."""
