"""Reporting: figures, curves and the content of a report."""
