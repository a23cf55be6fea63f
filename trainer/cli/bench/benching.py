"""The process that times steps for `reprise bench`; a hidden command.

Knows what it is told by, as the training process is. Refuses to record anything but the profile that it is asked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from trainer.cli.check.checking import chosen
from trainer.cli.process.opening import attributed_to, imported, resolved_for
from trainer.cli.result_stream import result_stream
from trainer.data.declaration import load_dataset
from trainer.runs.handoff import read_launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.training.bench import Course

BATCHES = 8
"""Batches of an epoch of the synthetic dataset."""


def main(argv: list[str]) -> int:
    """Time as `argv[0]` says, in JSON; print the measured document as a line, then, where it is asked for, the profile's table."""
    told, *words = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-bench-") as folder:
        how = json.loads(told)
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
    dataset, data, said = chosen(declared, synthetic=bool(how["synthetic"]), rows=rows)
    return Course(
        experiment=experiment,
        resolved=resolved,
        dataset=dataset,
        data=data,
        said=said,
        device=launch.device,
        root=Path.cwd(),
        folder=folder,
        warmup=int(str(how["warmup"])),
        steps=int(str(how["steps"])),
        seconds=float(str(how["seconds"])),
    )
