"""Tracing: fingerprints of a training's tensors at every step, and digests at the end."""
