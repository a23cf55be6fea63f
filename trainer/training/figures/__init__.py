"""Figures: the charts and pictures of a training run."""
