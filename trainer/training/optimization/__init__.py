"""Optimization: optimizers and schedules by name, the average of the weights, and an early end."""
