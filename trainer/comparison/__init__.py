"""Sameness: what a run leaves to be compared by, what a comparison says, and what it is made of; values and pure functions."""
