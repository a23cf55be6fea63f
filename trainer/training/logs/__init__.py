"""Logs: what a training tells while it goes on, and to whom."""
