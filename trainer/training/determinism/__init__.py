"""Determinism: levels, seeds and order, so that two trainings of equal ingredients can come out equal."""
