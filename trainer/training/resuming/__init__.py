"""Resuming: stop a training at any step and resume it, with a result bit-identical to an uninterrupted run."""
