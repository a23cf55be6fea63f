"""`reprise _points FOLDER`, a hidden command: checks the settings of every point of a sweep in its frozen image and source.

It imports the experiment, which is needed if its source text does not determine its settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base.errors import RepriseError, SettingError, UsageError
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import find_experiment
from trainer.cli.result_stream import result_stream
from trainer.cli.train.manual import OWN
from trainer.data.declaration import load_dataset
from trainer.settings.errors import each_of
from trainer.settings.fields import written
from trainer.settings.origins import Origins, resolve, take_apart
from trainer.sweeps.document import require_distinct
from trainer.sweeps.folder import SETTINGS, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.sweeps.document import Point, Sweep
    from trainer.training.settings import TrainingSettings


def main(argv: list[str]) -> int:
    """Print the faults of all points as JSON: point number, message, hint."""
    with result_stream() as out:
        print(json.dumps(_found(Path(argv[0]))), file=out, flush=True)
    return 0


def _found(folder: Path) -> list[list[Any]]:
    from trainer.training.experiment import load_experiment

    sweep = load(folder)
    place = find_experiment(sweep.asked.experiment, checkout=CHECKOUT, here=CHECKOUT)
    settings = load_experiment(place.name, CHECKOUT / place.file, root=CHECKOUT).settings
    meant: list[object] = []
    found = [
        [number, fault.message, fault.hint]
        for number, point in enumerate(sweep.points)
        for fault in _faults(settings, sweep, point, folder, meant)
    ]
    if not found:
        try:
            require_distinct([point.settings for point in sweep.points], meant)
        except UsageError as fault:
            found = [[number, fault.message, fault.hint] for number in range(len(sweep.points))]
    return found


def _faults(
    settings: type[TrainingSettings], sweep: Sweep, point: Point, folder: Path, meant: list[object]
) -> Iterator[RepriseError]:
    """Yield the faults of a point; append its settings to `meant`."""
    file = None if sweep.asked.file is None else folder / SETTINGS
    words = take_apart([*sweep.asked.words, *point.words()])
    try:
        made = resolve(
            settings, Origins(words=words.without(*OWN), environ=sweep.asked.environment, file=file)
        ).settings
        meant.append(written(made))
        load_dataset(made.dataset, root=CHECKOUT)
    except SettingError as fault:
        yield from each_of(fault)
    except RepriseError as fault:
        yield fault
