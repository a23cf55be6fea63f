"""Sweeps: runs of one experiment at several points, each with its own settings."""
