"""Resuming: what lets a training be stopped anywhere and go on as if it had not been."""
