"""Experiments: one module each, with its settings and its net."""
