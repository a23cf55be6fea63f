"""Determinism: levels, seeds and sample order, so that two runs with equal inputs can have equal results."""
