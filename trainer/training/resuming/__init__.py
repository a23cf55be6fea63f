"""Resuming: stop a run at any step and resume it, with a result bit-identical to an uninterrupted run."""
