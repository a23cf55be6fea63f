"""Tracing: what a training's tensors were, bit for bit, at every step and at the end."""
