"""`reprise _observe`: the process that observes the training steps of `reprise check --bits`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from trainer.cli.output import escaping
from trainer.cli.process.opening import attributed_to, imported, resolved_for
from trainer.cli.process.working import fetched
from trainer.cli.result_stream import result_stream
from trainer.comparison.observation import Kind, describe_different_operation, first_different_value, responsible_module
from trainer.data.declaration import load_dataset
from trainer.runs.handoff import read_launch
from trainer.settings.ledger import Ledger

if TYPE_CHECKING:
    from trainer.comparison.observation import ObservedValue
    from trainer.training.tracing.observe import Subject


def main(argv: list[str]) -> int:
    """Observe `argv[0]` steps `argv[1]` times; print the observed values as one line of JSON."""
    steps, times, *words = argv
    with result_stream() as out, TemporaryDirectory() as folder:
        subject = _subject(words, steps=int(steps), folder=Path(folder))
        with attributed_to(subject.experiment):
            print(json.dumps(_observation(subject, times=int(times))), file=out, flush=True)
    return 0


def _subject(words: list[str], *, steps: int, folder: Path) -> Subject:
    from trainer.training.tracing.observe import Subject

    launch = read_launch(os.environ)
    experiment, root = imported(launch), Path.cwd()
    resolved = resolved_for(experiment, words)
    dataset = load_dataset(resolved.settings.dataset, root=root)
    return Subject(
        experiment=experiment,
        ledger=Ledger(resolved, root=root),
        dataset=dataset,
        data=fetched(dataset, say=lambda line: print(line, file=escaping(sys.stderr))),
        device=launch.device,
        steps=steps,
        folder=folder,
    )


def _observation(subject: Subject, *, times: int) -> dict[str, object]:
    from trainer.training.tracing.observe import observe

    seen = [observe(subject).sights for _ in range(times)]
    first = first_different_value(seen[0], seen[-1])
    return {"sights": seen[0], "parted": first, "op": _operation(subject, first) if first else None}


def _operation(subject: Subject, first: ObservedValue) -> str | None:
    """Find the first operation that differs, by two more rounds; return `None` if they are equal."""
    from trainer.training.tracing.observe import Window, observe

    if first.kind in {Kind.START, Kind.BATCH}:
        return None
    if first.kind in {Kind.BACKWARD, Kind.GRADIENT, Kind.WEIGHT}:
        window = Window(step=first.step, part="optimizer" if first.kind is Kind.WEIGHT else "backward")
    else:
        window = Window(
            step=first.step, name=responsible_module(first), call=first.call if first.kind is Kind.OUTPUT else 1
        )
    return describe_different_operation(*(observe(subject, window=window).ops for _ in range(2)))
