"""Experiments: one module each, its settings and its net, nothing else."""
