"""Train from a notebook: run `reprise train` in a separate process, with the notebook's cells in the run's source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from trainer.base.document import json_value
from trainer.base.errors import RunError
from trainer.cli.configuration import CHECKOUT
from trainer.notebook.run import LoadedRun, load
from trainer.settings.hints import option
from trainer.source.capture import NOTEBOOK


def train(experiment: str, /, **settings: Any) -> LoadedRun:
    """Train an experiment, given by name or by the path of a Python file; print the progress and return the run.

    In a notebook, the cells that were executed so far become `notebook/cells.py` in the run's source. Raise `RunError` with the message of
    the command if training fails.
    """
    words = [f"{option(name)}={_text(value)}" for name, value in settings.items()]
    command = [sys.executable, "-P", "-m", "trainer", "train", f"--exp={experiment}", "--json", *words]
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        if (cells := _cells()) is not None:
            file = Path(folder) / "cells.py"
            file.write_text(cells, encoding="utf-8")
            environ[NOTEBOOK] = str(file)
        process = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        with process:
            assert process.stderr is not None  # noqa: S101 - opened with PIPE
            assert process.stdout is not None  # noqa: S101 - opened with PIPE
            fault = None
            for line in process.stderr:
                if line.startswith('{"error": '):
                    fault = line
                else:
                    sys.stdout.write(line)
            output = process.stdout.read()
    if process.returncode:
        raise _error(experiment, process.returncode, fault)
    return load(str(json_value(output, where="the output of train")["run"]))


def _error(experiment: str, code: int, line: str | None) -> RunError:
    """Return the error that the command printed as the JSON object `line`, or an error with the exit code if it printed none."""
    if line is None:
        return RunError(f"the run of {experiment} ended with exit code {code}", hint="see the lines above")
    fault = json_value(line, where="the error of train")
    return RunError(str(fault["message"]), hint=str(fault["hint"]))


def _text(value: Any) -> str:
    """Return a value as text for the command line."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cells() -> str | None:
    """Return the cells that the notebook has executed, in order; `None` outside a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return None
    executed = [cell for cell in shell.user_ns.get("In", []) if cell.strip()]
    return "\n\n".join(f"# %%\n{cell}" for cell in executed) + "\n"
