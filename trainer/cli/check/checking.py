"""`reprise _check`: the process in which `reprise check` runs its checks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trainer.cli.configuration import cache_folder, store_address
from trainer.cli.output import escaping
from trainer.cli.process.opening import imported, resolved_for
from trainer.cli.process.working import fetched
from trainer.cli.result_stream import result_stream
from trainer.data.cache.folder import Cache, cached_inspection
from trainer.data.declaration import load_dataset
from trainer.runs.handoff import read_launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files


def main(argv: list[str]) -> int:
    """Make at most `argv[0]` steps with the data `argv[1]` (`dummy` or `data`); print a line of JSON for each check."""
    steps, how, *words = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-check-") as folder:
        for line in _documents(words, steps=int(steps), synthetic=how == "synthetic", folder=Path(folder)):
            print(json.dumps(line), file=out, flush=True)
    return 0


def _documents(words: list[str], *, steps: int, synthetic: bool, folder: Path) -> Iterator[dict[str, Any]]:
    from trainer.training.checks import LARGEST_BATCH, Subject, run_checks

    launch = read_launch(os.environ)
    experiment = imported(launch)
    resolved = resolved_for(experiment, words)
    declared = load_dataset(resolved.settings.dataset, root=Path.cwd())
    rows = 8 * min(int(resolved.settings.value_of("batch_size")), LARGEST_BATCH)
    dataset, data, description = choose_data(declared, synthetic=synthetic, rows=rows)
    yield {"data": f"{description}, {launch.device}"}
    subject = Subject(
        experiment=experiment,
        resolved=resolved,
        root=Path.cwd(),
        dataset=dataset,
        data=data,
        device=launch.device,
        folder=folder,
        steps=steps,
        made_up=dataset is not declared,
        inspection=cached_inspection(declared, Cache(root=cache_folder())),
        say=lambda line: print(line, file=escaping(sys.stderr)),
    )
    for finding in run_checks(subject):
        yield finding.model_dump(mode="json")


def choose_data(declared: Dataset, *, synthetic: bool, rows: int) -> tuple[Dataset, Files, str]:
    """Return a dataset, its files and a description: the dummy twin if `dummy` or if neither cache nor store has the dataset."""
    from trainer.training.readers.synthetic import make_synthetic

    if not synthetic and (store_address() or Cache(root=cache_folder()).has(declared)):
        return declared, fetched(declared, say=lambda line: print(line, file=escaping(sys.stderr))), declared.title
    dataset, files = make_synthetic(declared, rows=rows)
    why = "" if synthetic else ": it is not in the cache, and no store is configured"
    return dataset, files, f"synthetic data of {declared.title}{why}"
