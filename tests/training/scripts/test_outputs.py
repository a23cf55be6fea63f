"""The comparison of the outputs of two runs of a script."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from trainer.training.scripts.outputs import write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.runs.outputs import OutputTable

pytestmark = pytest.mark.torch


def table_of(tmp_path: Path, run: str, write: Callable[[Path], None], *, exclude: tuple[str, ...] = ()) -> OutputTable:
    """Write the outputs of a run in the folder `run` with `write`, and return their table."""
    attempt = tmp_path / run / "attempts/1"
    (attempt / "output").mkdir(parents=True)
    write(attempt / "output")
    return write_outputs(attempt, exclude=exclude)


def of_two_runs(tmp_path: Path, write: Callable[[Path], None]) -> tuple[OutputTable, OutputTable]:
    """Return the tables of two runs whose folders have names of different lengths."""
    return table_of(tmp_path, "a", write), table_of(tmp_path, "longer/run-b", write)


def write_text(output: Path) -> None:
    (output / "args.json").write_text(json.dumps({"out": str(output), "again": [str(output / "x")] * 3}))


def write_over_blocks(output: Path) -> None:
    """Write the path of the outputs across the end of a block."""
    (output / "log.txt").write_bytes(b"x" * ((1 << 20) - 5) + str(output).encode() + b"y" * 100)


def write_checkpoint(output: Path) -> None:
    torch.save(
        {"net": torch.arange(9.0), "args": {"out": str(output)}, "deep": [str(output)] * 300}, output / "last.pt"
    )


def write_arrays(output: Path) -> None:
    np.savez(output / "points.npz", a=np.arange(4), b=np.ones((2, 2)))


def write_events(output: Path) -> None:
    with SummaryWriter(str(output / "tb")) as writer:
        for step in range(3):
            writer.add_scalar("loss", 1 / (step + 1), step, walltime=len(str(output)) + step)


@pytest.mark.parametrize("write", [write_text, write_over_blocks, write_checkpoint, write_arrays, write_events])
def test_outputs_that_differ_in_the_run_path_or_the_time_are_equal(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    a, b = of_two_runs(tmp_path, write)
    assert a.outputs == b.outputs
    assert a.digest == b.digest
    assert len(a.outputs) == 1


def write_other_checkpoint(output: Path) -> None:
    torch.save({"net": torch.arange(9.0) + len(str(output)), "args": {}}, output / "last.pt")


def write_other_pickle(output: Path) -> None:
    torch.save({"net": torch.arange(9.0), "args": {"lr": len(str(output))}}, output / "last.pt")


def write_other_scalars(output: Path) -> None:
    with SummaryWriter(str(output / "tb")) as writer:
        writer.add_scalar("loss", len(str(output)), 0)


def write_other_name(output: Path) -> None:
    (output / f"{len(str(output))}.txt").write_text("")


@pytest.mark.parametrize("write", [write_other_checkpoint, write_other_pickle, write_other_scalars, write_other_name])
def test_other_outputs_are_different(tmp_path: Path, write: Callable[[Path], None]) -> None:
    a, b = of_two_runs(tmp_path, write)
    assert a.digest != b.digest


def test_an_excluded_output_is_listed_and_not_compared(tmp_path: Path) -> None:
    a = table_of(tmp_path, "a", write_other_name, exclude=("*.txt",))
    b = table_of(tmp_path, "b/longer", write_other_name, exclude=("*.txt",))
    assert [each.is_compared for each in (*a.outputs.values(), *b.outputs.values())] == [False, False]
    assert a.digest == b.digest


def test_a_damaged_archive_is_compared_by_its_bytes(tmp_path: Path) -> None:
    def write(output: Path) -> None:
        with zipfile.ZipFile(output / "damaged.zip", "w") as archive:
            archive.writestr("a.txt", "a" * 100)
        content = bytearray((output / "damaged.zip").read_bytes())
        content[45] ^= 1
        (output / "damaged.zip").write_bytes(content)

    a, b = of_two_runs(tmp_path, write)
    assert [each.form for each in a.outputs.values()] == ["bytes"]
    assert a.digest == b.digest
