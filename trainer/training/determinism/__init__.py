"""Determinism: levels, seeds and sample order, so that two trainings with equal inputs can have equal results."""
