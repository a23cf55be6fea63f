"""Optimization: optimizers and schedules by name, weight averaging, and early stopping."""
