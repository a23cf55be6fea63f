"""Create a sweep, or find the earlier sweep of the same request. A new sweep reuses finished runs that match its points.

The hidden command `_points FOLDER` checks the settings of every point in the frozen image and source. It imports the experiment, which is
needed if its source text does not determine its settings.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base.errors import RepriseError, RunError, SettingError, UnsafePathError, UsageError
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import counted
from trainer.cli.configuration import CHECKOUT, runs_folder
from trainer.cli.experiment_loading import chosen_classes, datasets_of
from trainer.cli.experiments import find_experiment
from trainer.cli.output import print_json, print_notice, result_stream
from trainer.cli.sweep.jobs import submissions
from trainer.cli.sweep.launchers import frozen_image, gpus_for, launcher_for, origins_of_point
from trainer.cli.sweep.request import raise_faults
from trainer.cli.trust import is_own_sweep, register_sweep
from trainer.comparison.noise import RequestedRun
from trainer.runs.list import local_ids
from trainer.runs.run import record_of
from trainer.runs.run_id import new_run_id
from trainer.settings.errors import each_of
from trainer.settings.fields import settings_document
from trainer.settings.origins import given_settings, resolve
from trainer.source.capture import capture
from trainer.sweeps.document import FOLDER, Point, Sweep, require_distinct
from trainer.sweeps.folder import (
    PointState,
    create_sweep_folder,
    equal_run,
    find_earlier_sweep,
    load,
    point_states,
    save,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.cli.sweep.request import ParsedSweep
    from trainer.runs.record import Record
    from trainer.settings.origins import Origins
    from trainer.training.declared_settings import Sketch
    from trainer.training.experiment import Experiment
    from trainer.training.plain.experiment import PlainExperiment


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteMachines:
    """The image and the accelerator of a cluster's machines, on which the points of a sweep train."""

    image: dict[str, str]
    """The variables that describe the image to containers."""
    accelerator: str
    """`cuda` or `cpu`, as in a record."""

    @property
    def layers(self) -> list[str] | None:
        """The layers of the image."""
        return [layer for layer in self.image.get("REPRISE_IMAGE_LAYERS", "").split(",") if layer] or None

    def is_image_of(self, sweep: Sweep) -> bool:
        """Return whether a sweep was frozen with this image, perhaps under the name of another registry."""
        digests = [image.get("REPRISE_IMAGE", "").rpartition("@")[2] for image in (self.image, sweep.image)]
        return digests[0] == digests[1] and self.layers == sweep.layers


def find_or_create(
    parsed: ParsedSweep, *, again: bool, machines: SiteMachines | None = None, dry_run: bool = False
) -> Sweep:
    """Return the earlier sweep of this request, or a new sweep, which is not written in a `dry_run`.

    `machines` are the machines of the cluster on which the points will train; by default, the points train on this machine. Raise
    `RunError` if the earlier sweep is unfinished and the source or the image changed since, `SettingError` for a point's invalid settings.
    """
    image, layers = (machines.image, machines.layers) if machines else frozen_image()
    bundle = capture(CHECKOUT, extra=parsed.extra, runs=runs_folder())
    earlier = None if again else find_earlier_sweep(parsed.request.digest, runs=runs_folder())
    if earlier is not None and not is_own_sweep(earlier):
        print_notice(
            f"sweep {earlier.id} of the same request is from another user, machine or version: starting a new sweep"
        )
        earlier = None
    if earlier is not None:
        same_image = machines.is_image_of(earlier) if machines else (earlier.image, earlier.layers) == (image, layers)
        changed = [
            *(["the source"] if earlier.source != bundle.digest else []),
            *([] if same_image else ["the image"]),
        ]
        if not changed:
            print_notice(f"sweep {earlier.id} was started by the same command: continuing it")
            return earlier
        _require_finished(earlier, changed, on_this_machine=machines is None)
    for line in bundle.left_out:
        print_notice(f"not in the source: {line}")
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=parsed.request,
        source=bundle.digest,
        captured=bundle.source,
        image=image,
        layers=layers,
        points=[Point(settings=settings) for settings in parsed.request.points],
    )
    if dry_run:
        return sweep
    folder = runs_folder() / FOLDER / sweep.id
    try:
        create_sweep_folder(sweep, bundle, runs=runs_folder())
        register_sweep(sweep)
        if not parsed.is_checked and machines is None:
            _check_points(sweep, folder)
        if not again:
            accelerator = machines.accelerator if machines else "cuda" if gpus_for(sweep, folder) else "cpu"
            sweep = _with_equal_runs(sweep, folder, parsed.sketch, accelerator=accelerator)
            save(sweep, folder)
    except BaseException:  # a rejected or incomplete sweep is removed
        with suppress(OSError, UnsafePathError), run_root(folder.parent) as sweeps:
            sweeps.remove_tree(folder.name)
        raise
    about = f"{counted(len(sweep.points), 'point')} of {sweep.asked.experiment}"
    print_notice(f"sweep {sweep.id}: {about}; source and image are frozen in {folder}")
    return sweep


def _check_points(sweep: Sweep, folder: Path) -> None:
    """Import the experiment in the frozen image; raise one error that lists the faults of all points."""
    print_notice("importing the experiment to check every point")
    faults = json.loads(launcher_for(sweep, folder).check_points(sys.stderr.fileno()).splitlines()[-1])
    raise_faults([(number, SettingError(message, hint=hint)) for number, message, hint in faults], sweep.asked.points)


def _require_finished(earlier: Sweep, changed: list[str], *, on_this_machine: bool) -> None:
    """Raise `RunError` if the earlier sweep is unfinished: the user must choose between this sweep and a new sweep.

    A cluster starts another image than this machine, so the error for a command without --to names the cluster instead of the image.
    """
    states = point_states(earlier, runs=runs_folder())
    unfinished = len(states) - states.count(PointState.FINISHED)
    if unfinished:
        notes = submissions(earlier, range(len(earlier.points))) if on_this_machine else {}
        site = next((note.site for note in notes.values()), None)
        if site and changed == ["the image"]:
            message = (
                f"sweep {earlier.id} of the same points was started with --to {site}, and this command has no --to"
            )
            raise RunError(message, hint=f"add --to {site} to continue it; --again starts a new sweep on this machine")
        change = f"since then {' and '.join(changed)} changed"
        message = f"sweep {earlier.id} of the same points has {unfinished} of {len(states)} points unfinished; {change}"
        hint = f"`reprise sweep --continue {earlier.id}` continues it unchanged; --again starts a new sweep"
        raise RunError(message, hint=hint)


def _with_equal_runs(sweep: Sweep, folder: Path, sketch: Sketch | None, *, accelerator: str) -> Sweep:
    """Return the sweep with a finished local run assigned to each point that it matches."""
    records = list(_records())
    for number, point in enumerate(sweep.points):
        origins = origins_of_point(sweep, point, folder)
        values, typed = given_settings(origins), sketch.typed(origins) if sketch else {}
        request = RequestedRun(experiment=sweep.asked.experiment, source=sweep.source, settings=values, typed=typed)
        run = equal_run(request, records, layers=sweep.layers, accelerator=accelerator)
        if run is not None:
            print_notice(f"point {number + 1}, {point}: run {run} already exists")
            sweep = sweep.with_point(number, point.model_copy(update={"runs": [run]}))
    return sweep


def _records() -> Iterator[Record]:
    for name in reversed(local_ids(runs_folder())):
        with suppress(RepriseError):
            yield record_of(runs_folder() / name)


def print_faults(argv: list[str]) -> int:
    """Print the faults of the points of the sweep in the folder `argv[0]` as JSON: number of the point from 0, message, hint."""
    with result_stream() as out:
        print_json(_point_errors(Path(argv[0])), file=out)
    return 0


def _point_errors(folder: Path) -> list[list[Any]]:
    sweep = load(folder)
    values: list[object] = []
    errors = [
        [number, error.message, error.hint]
        for number, point in enumerate(sweep.points)
        for error in _errors_of_point(origins_of_point(sweep, point, folder), sweep, values)
    ]
    if not errors:
        try:
            require_distinct([point.settings for point in sweep.points], values)
        except UsageError as error:
            errors = [[number, error.message, error.hint] for number in range(len(sweep.points))]
    return errors


@cache
def _imported(name: str, chosen: tuple[tuple[str, object], ...]) -> Experiment | PlainExperiment:
    from trainer.training.experiment import load_any_experiment
    from trainer.training.hooks import require_hooks

    experiment = find_experiment(name, checkout=CHECKOUT, here=CHECKOUT)
    found = load_any_experiment(experiment.name, CHECKOUT / experiment.file, root=CHECKOUT, chosen=dict(chosen))
    require_hooks(found.net)
    return found


def _errors_of_point(origins: Origins, sweep: Sweep, values: list[object]) -> Iterator[RepriseError]:
    """Yield the faults of a point; append its settings to `values`."""
    experiment = _imported(sweep.asked.experiment, tuple(chosen_classes(origins).items()))
    try:
        resolved = resolve(experiment.settings, origins).settings
        values.append(settings_document(resolved))
        datasets_of(experiment, resolved, root=CHECKOUT)
    except SettingError as error:
        yield from each_of(error)
    except RepriseError as error:
        yield error
