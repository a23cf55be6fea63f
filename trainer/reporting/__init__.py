"""Reporting: figures, curves and what a report shows of a run."""
