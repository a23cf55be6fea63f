"""Reprise: every run leaves a record from which anybody can run it again."""
