"""Figures: what a training leaves to look at."""
