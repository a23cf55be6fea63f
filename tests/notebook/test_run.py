"""The cells in docs/how-to/notebooks.md, and runs as Python objects."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest

from tests.runs.runs import start_run
from trainer.base.errors import DigestMismatchError
from trainer.notebook.run import LoadedRun
from trainer.runs.record import Outcome, Record, RunStatus
from trainer.runs.run import load_record

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
PAGE = Path(__file__).parents[2] / "docs/how-to/notebooks.md"


def execute(checkout: Checkout, *cells: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Execute cells in the checkout with a real kernel; return the result of each cell by media type."""
    for name, value in checkout.environ.items():
        monkeypatch.setenv(name, value)
    code: list[dict[str, Any]] = [
        {"cell_type": "code", "metadata": {}, "source": cell, "outputs": [], "execution_count": None} for cell in cells
    ]
    notebook = nbformat.from_dict(  # type: ignore[no-untyped-call]
        {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": code}
    )
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(checkout.root)}}
    )
    client.execute()
    return [
        next((each["data"] for each in cell["outputs"] if each["output_type"] == "execute_result"), {})
        for cell in notebook.cells
    ]


def test_the_page_runs_from_its_first_cell_to_its_last(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    results = execute(checkout, *(cell.replace('"digits"', '"dots.py"') for cell in cells), monkeypatch=monkeypatch)
    folder, record = checkout.last()
    assert "test_accuracy" in results[0]["text/plain"]
    assert "0.001" in results[1]["text/plain"]
    assert "train_loss" in results[2]["text/plain"]
    assert record.run in results[3]["text/html"]
    assert "<iframe srcdoc=" in results[4]["text/html"]
    assert int(results[5]["text/plain"]) == 74
    assert record.circumstances.notebook == "notebook/cells.py"
    assert 'runs.train("dots.py"' in (folder.parents[1] / "source/notebook/cells.py").read_text()


@pytest.mark.long
def test_a_run_of_a_notebook_is_reproduced_without_it(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "from trainer import runs\nruns.train('dots.py', max_epochs=1, publish=False).id"
    (result,) = execute(checkout, cell, monkeypatch=monkeypatch)
    done = checkout.reprise("reproduce", result["text/plain"].strip("'"), "--no-container", "--allow-drift")
    assert done.returncode == 0, done.stdout
    assert "identical" in done.stdout


def test_a_misspelled_setting_is_the_error_of_the_command(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        execute(checkout, "from trainer import runs\nruns.train('dots.py', learning_rat=1)", monkeypatch=monkeypatch)
    assert "unknown setting --learning-rat, given on the command line" in str(caught.value)
    assert "RunError" in str(caught.value)


@pytest.mark.long
def test_a_net_made_elsewhere_needs_trust(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = checkout.train("--max-epochs", "1", "--no-publish")
    assert code == 0, err
    folder, _ = checkout.last()
    for register in (checkout.root / "runs").glob(".own-*"):
        register.rename(register.with_name("aside"))
    cell = f"from trainer import runs\nrun = runs.load({str(folder.parents[1])!r})\n"
    try:
        with pytest.raises(nbclient.exceptions.CellExecutionError, match="UntrustedCodeError"):
            execute(checkout, f"{cell}run.net()", monkeypatch=monkeypatch)
        (result,) = execute(checkout, f"{cell}type(run.net(trust=True)).__name__", monkeypatch=monkeypatch)
    finally:
        (checkout.root / "runs/aside").rename(checkout.root / f"runs/.own-{os.getuid()}")
    assert result["text/plain"] == "'Net'"


@pytest.mark.long
def test_the_net_has_the_recorded_weights(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = checkout.train("--max-epochs", "1", "--no-publish")
    assert code == 0, err
    folder, record = checkout.last()
    assert isinstance(load_record(folder / "record.json"), Record)
    cell = (
        f"from trainer import runs\nfrom trainer.training.tracing.trace import described\n"
        f"from trainer.base.digest import digest_of_document\nnet = runs.load({record.run!r}).net()\n"
        "digest_of_document({name: described(value) for name, value in net.state_dict().items()})"
    )
    (result,) = execute(checkout, cell, monkeypatch=monkeypatch)
    assert result["text/plain"] == repr(record.outcome.weights)


def test_curves_that_differ_from_the_record_are_not_returned(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    for name in ("metrics.jsonl", "telemetry.jsonl"):
        (run.folder / name).write_text('{"step":1,"loss":0.5}\n')
    run.close(Outcome(status=RunStatus.COMPLETED))
    loaded = LoadedRun(record=run.record, folder=run.folder.parents[1])
    for name, read in (("metrics.jsonl", loaded.curves), ("telemetry.jsonl", loaded.telemetry)):
        assert [*read()] == [{"step": 1, "loss": 0.5}]
        with (run.folder / name).open("a") as file:
            file.write('{"step":2,"loss":0.25}\n')
        with pytest.raises(DigestMismatchError, match=f"{name} is damaged: recorded 22 bytes, found 45"):
            read()
