"""Sweeps: one experiment at several points."""
