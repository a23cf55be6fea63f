"""Tracing: fingerprints of a training run's tensors at every step, and digests at the end."""
