"""`reprise _bench`: the process that times the training steps of `reprise bench`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from trainer.cli.check.checking import choose_data
from trainer.cli.process.opening import attributed_to, imported, resolved_for
from trainer.cli.result_stream import result_stream
from trainer.data.declaration import load_dataset
from trainer.runs.handoff import read_launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.training.bench import Course

BATCHES = 8
"""Batches in an epoch of the dummy twin."""


def main(argv: list[str]) -> int:
    """Time the steps that `argv[0]`, JSON, describes; print the result as a line of JSON, then a requested profile as a line."""
    request, *words = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-bench-") as folder:
        how = json.loads(request)
        course = _course(words, how, Path(folder))
        from trainer.training.bench import bench, profiled

        with attributed_to(course.experiment):
            print(bench(course).model_dump_json(), file=out, flush=True)
            if how["profile"]:
                dearest = profiled(course, Path(how["profile"]))
                print(json.dumps([each.model_dump() for each in dearest]), file=out, flush=True)
    return 0


def _course(words: Sequence[str], how: dict[str, object], folder: Path) -> Course:
    from trainer.training.bench import Course

    launch = read_launch(os.environ)
    experiment = imported(launch)
    resolved = resolved_for(experiment, [*words])
    declared = load_dataset(resolved.settings.dataset, root=Path.cwd())
    rows = BATCHES * int(resolved.settings.value_of("batch_size"))
    dataset, data, description = choose_data(declared, synthetic=bool(how["synthetic"]), rows=rows)
    return Course(
        experiment=experiment,
        resolved=resolved,
        dataset=dataset,
        data=data,
        said=description,
        device=launch.device,
        root=Path.cwd(),
        folder=folder,
        warmup=int(str(how["warmup"])),
        steps=int(str(how["steps"])),
        seconds=float(str(how["seconds"])),
    )
