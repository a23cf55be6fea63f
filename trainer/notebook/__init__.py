"""Runs from Python, for notebooks: load a run, list runs, train. `trainer.runs` has the same functions.

from trainer import runs
run = runs.train("digits", learning_rate=3e-4)
run.metrics, run.curves(), run.net(), run.report()
runs.table()
"""

from __future__ import annotations

from trainer.notebook.run import LoadedRun, load, table
from trainer.notebook.training import train

__all__ = ["LoadedRun", "load", "table", "train"]
