"""Reprise: every run leaves a record from which anybody can run it again."""

__version__ = "0.1.0"
