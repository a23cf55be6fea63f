"""Creating a sweep, or finding the earlier sweep of the same request. Finished runs that equal a point are used again."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, RunError, SettingError, UnsafePathError
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import counted
from trainer.cli.configuration import CHECKOUT, runs_folder
from trainer.cli.output import print_notice
from trainer.cli.sweep.request import raise_faults
from trainer.cli.sweep.resources import frozen_image, gpus_for, launcher_for
from trainer.cli.trust import is_own_sweep, register_sweep
from trainer.comparison.noise import RequestedRun
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

    from trainer.cli.sweep.request import SweepRequest
    from trainer.runs.record import Record
    from trainer.training.declared_settings import Sketch


def find_or_create(request: SweepRequest, *, again: bool) -> Sweep:
    """Return the earlier sweep of this request, or a new one."""
    (image, layers), bundle = frozen_image(), capture(CHECKOUT, extra=request.extra, runs=runs_folder())
    earlier = None if again else begun_before(request.asked.digest, runs=runs_folder())
    if earlier is not None and not is_own_sweep(earlier):
        print_notice(
            f"sweep {earlier.id} of the same request is from another user, machine or version: starting a new sweep"
        )
        earlier = None
    if earlier is not None:
        changed = [
            *(["the source"] if earlier.source != bundle.digest else []),
            *(["the image"] if (earlier.image, earlier.layers) != (image, layers) else []),
        ]
        if not changed:
            print_notice(f"sweep {earlier.id} was started by the same command: continuing it")
            return earlier
        _require_finished(earlier, changed)
    for line in bundle.left_out:
        print_notice(f"not in the source: {line}")
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=request.asked,
        source=bundle.digest,
        captured=bundle.source,
        image=image,
        layers=layers,
        points=[Point(settings=settings) for settings in request.asked.points],
    )
    folder = runs_folder() / FOLDER / sweep.id
    try:
        begin(sweep, bundle, runs=runs_folder())
        register_sweep(sweep)
        if not request.is_checked:
            _check_points(sweep, folder)
        if not again:
            sweep = _with_equal_runs(sweep, folder, request.sketch)
            save(sweep, folder)
    except BaseException:  # rejected or not written: leave no sweep
        with suppress(OSError, UnsafePathError), run_root(folder.parent) as sweeps:
            sweeps.remove_tree(folder.name)
        raise
    about = f"{counted(len(sweep.points), 'point')} of {sweep.asked.experiment}"
    print_notice(f"sweep {sweep.id}: {about}; source and image are frozen in {folder}")
    return sweep


def _check_points(sweep: Sweep, folder: Path) -> None:
    """Import the experiment and raise the errors of all points, if its text does not determine its settings."""
    print_notice("importing the experiment to check every point")
    found: dict[tuple[str, str | None], tuple[RepriseError, list[int]]] = {}
    for number, message, hint in json.loads(
        launcher_for(sweep, folder).check_points(sys.stderr.fileno()).splitlines()[-1]
    ):
        found.setdefault((message, hint), (SettingError(message, hint=hint), []))[1].append(number)
    raise_faults(list(found.values()), sweep.asked.points)


def _require_finished(earlier: Sweep, changed: list[str]) -> None:
    """Raise `RunError` if the earlier sweep is unfinished: the user must choose between it and a new one."""
    stands = [standing(earlier, number, runs=runs_folder()) for number in range(len(earlier.points))]
    left = sum(stand is not Standing.FINISHED for stand in stands)
    if left:
        said = f"sweep {earlier.id} of the same points has {left} of {len(stands)} points left; since then {' and '.join(changed)} changed"
        hint = f"`reprise sweep --continue {earlier.id}` continues it unchanged; --again starts a new sweep"
        raise RunError(said, hint=hint)


def _with_equal_runs(sweep: Sweep, folder: Path, sketch: Sketch | None) -> Sweep:
    """Return the sweep with finished local runs in place of points that would give the same run."""
    records = list(_records())
    file = folder / SETTINGS if sweep.asked.file is not None else None
    accelerator = "cuda" if gpus_for(sweep, folder) else "cpu"
    for number, point in enumerate(sweep.points):
        words = take_apart([*sweep.asked.words, *point.words()])
        origins = Origins(words=words.without("json"), environ=sweep.asked.environment, file=file)
        given, typed = asked(origins), sketch.typed(origins) if sketch else {}
        wanted = RequestedRun(experiment=sweep.asked.experiment, source=sweep.source, settings=given, typed=typed)
        run = equal_run(wanted, records, layers=sweep.layers, accelerator=accelerator)
        if run is not None:
            print_notice(f"point {number + 1}, {point}: run {run} exists already")
            sweep = sweep.with_point(number, point.model_copy(update={"runs": [run]}))
    return sweep


def _records() -> Iterator[Record]:
    """Yield the records of all local runs, newest first."""
    for name in reversed(local_ids(runs_folder())):
        with suppress(RepriseError):
            yield record_of(runs_folder() / name)
