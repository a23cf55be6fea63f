"""Beginning a sweep: the one of this request that there is, or a new one, frozen, with the runs that are here already.

Knows when the same command means the same sweep. Refuses to guess where the source or the image has changed since.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, RunError, SettingError, UnsafePathError
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import counted
from trainer.cli.places import CHECKOUT, runs_folder
from trainer.cli.sweep.asked import refuse
from trainer.cli.sweep.start import frozen_image, gpus_for, place_for
from trainer.cli.trust import is_own_sweep, register_sweep
from trainer.comparison.measure_noise import Wanted
from trainer.runs.list import local_ids
from trainer.runs.record import new_run_id
from trainer.runs.run import record_of
from trainer.settings.origins import Origins, asked, take_apart
from trainer.source.capture import capture
from trainer.sweeps.document import FOLDER, Point, Sweep
from trainer.sweeps.folder import SETTINGS, Standing, begin, begun_before, equal_run, save, standing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.cli.sweep.asked import Told
    from trainer.runs.record import Record
    from trainer.training.sketch import Sketch


def begun(asked_for: Told, *, again: bool) -> Sweep:
    """The sweep of this request that there is, or a new one."""
    (image, layers), bundle = frozen_image(), capture(CHECKOUT, extra=asked_for.extra, runs=runs_folder())
    earlier = None if again else begun_before(asked_for.asked.digest, runs=runs_folder())
    if earlier is not None and not is_own_sweep(earlier):
        say(f"sweep {earlier.id} of the same request was made elsewhere, or by an older version: a new one begins")
        earlier = None
    if earlier is not None:
        changed = [
            *(["the source"] if earlier.source != bundle.digest else []),
            *(["the image"] if (earlier.image, earlier.layers) != (image, layers) else []),
        ]
        if not changed:
            say(f"sweep {earlier.id} was begun by the same command: going on")
            return earlier
        _require_finished(earlier, changed)
    for line in bundle.left_out:
        say(f"not in the source: {line}")
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=asked_for.asked,
        source=bundle.digest,
        captured=bundle.source,
        image=image,
        layers=layers,
        points=[Point(settings=settings) for settings in asked_for.asked.points],
    )
    folder = runs_folder() / FOLDER / sweep.id
    try:
        begin(sweep, bundle, runs=runs_folder())
        register_sweep(sweep)
        if not asked_for.is_checked:
            _require_right(sweep, folder)
        if not again:
            sweep = _with_equal_runs(sweep, folder, asked_for.sketch)
            save(sweep, folder)
    except BaseException:  # refused, or not written: then there was no sweep
        with suppress(OSError, UnsafePathError), run_root(folder.parent) as sweeps:
            sweeps.remove_tree(folder.name)
        raise
    about = f"{counted(len(sweep.points), 'point')} of {sweep.asked.experiment}"
    say(f"sweep {sweep.id}: {about}; source and image are frozen, in {folder}")
    return sweep


def _require_right(sweep: Sweep, folder: Path) -> None:
    """Have the experiment itself say what is wrong with each point, where its text does not."""
    say("this experiment is imported first, to check every point")
    found: dict[tuple[str, str | None], tuple[RepriseError, list[int]]] = {}
    for number, message, hint in json.loads(place_for(sweep, folder).ask(sys.stderr.fileno()).splitlines()[-1]):
        found.setdefault((message, hint), (SettingError(message, hint=hint), []))[1].append(number)
    refuse(list(found.values()), sweep.asked.points)


def _require_finished(earlier: Sweep, changed: list[str]) -> None:
    """Refuse to guess whether an unfinished sweep is meant, or one of the source of now."""
    stands = [standing(earlier, number, runs=runs_folder()) for number in range(len(earlier.points))]
    left = sum(stand is not Standing.FINISHED for stand in stands)
    if left:
        said = f"sweep {earlier.id} of the same points has {left} of {len(stands)} to do; since then {' and '.join(changed)} changed"
        hint = f"`reprise sweep --continue {earlier.id}` goes on as it began; --again begins anew with what is here now"
        raise RunError(said, hint=hint)


def _with_equal_runs(sweep: Sweep, folder: Path, sketch: Sketch | None) -> Sweep:
    """The sweep with the runs that are here already and are what a point would become."""
    records = list(_records())
    file = folder / SETTINGS if sweep.asked.file is not None else None
    accelerator = "cuda" if gpus_for(sweep, folder) else "cpu"
    for number, point in enumerate(sweep.points):
        words = take_apart([*sweep.asked.words, *point.words()])
        origins = Origins(words=words.without("json"), environ=sweep.asked.environment, file=file)
        given, typed = asked(origins), sketch.typed(origins) if sketch else {}
        wanted = Wanted(experiment=sweep.asked.experiment, source=sweep.source, settings=given, typed=typed)
        run = equal_run(wanted, records, layers=sweep.layers, accelerator=accelerator)
        if run is not None:
            say(f"point {number + 1}, {point}: run {run} is here already")
            sweep = sweep.with_point(number, point.model_copy(update={"runs": [run]}))
    return sweep


def _records() -> Iterator[Record]:
    """The records of all runs here, the latest first."""
    for name in reversed(local_ids(runs_folder())):
        with suppress(RepriseError):
            yield record_of(runs_folder() / name)


def say(line: str) -> None:
    """Tell a person, beside the results."""
    print(f"reprise: {line}", file=sys.stderr, flush=True)
