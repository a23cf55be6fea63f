"""`reprise sweep EXP --learning-rate 1e-4,3e-4 --seed 1..5`: train at every point of a grid, all of one source in one image.

Knows words, and the order: everything is checked, then frozen, then done. What is here already, of this sweep or of any other run, is not
done again. Refuses to go on with a sweep in another image or from another source than it began with.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer.actions.list_runs import local_ids
from trainer.actions.measure_noise import Wanted
from trainer.actions.run import record_of
from trainer.actions.sum_up_sweep import sum_up
from trainer.actions.sweep import (
    SETTINGS,
    Standing,
    begin,
    begun_before,
    equal_run,
    held,
    load,
    record_at,
    resolve_sweep,
    save,
    standing,
    sweep_ids,
)
from trainer.cli.arguments import Arguments
from trainer.cli.places import CHECKOUT, runs_folder
from trainer.cli.sweep_asked import told
from trainer.cli.sweep_page import show
from trainer.cli.sweep_start import frozen_image, gpus_for, place_for, slots_for
from trainer.cli.sweep_work import Work
from trainer.errors import RepriseError, RunError, UsageError
from trainer.host.source import capture
from trainer.origins import Origins, asked, take_apart
from trainer.record import new_run_id
from trainer.sweep import FOLDER, Point, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.cli.sweep_asked import Told
    from trainer.record import Record


def main(argv: list[str]) -> int:
    """Check, freeze, train, sum up."""
    experiment = argv[0] if argv and not argv[0].startswith("-") else None
    words, rest = _parser().parse_known_args(argv[1:] if experiment else argv)
    if words.jobs is not None and words.jobs < 1:
        raise UsageError(f"--jobs is {words.jobs}; expected 1 or more", hint="--jobs 2")
    known = words.go_on or words.show
    if known and (rest or experiment or words.points or words.again):
        hint = f"reprise sweep --{'continue' if words.go_on else 'show'} {known}"
        raise UsageError("a sweep that there is has its points already", hint=hint)
    sweep = _named(known) if known else _begun(told(experiment, rest, points=words.points), again=words.again)
    folder = runs_folder() / FOLDER / sweep.id
    fault = None
    if not words.show:
        try:
            with held(folder):
                sweep = _done(load(folder), folder, jobs=words.jobs)
        except RepriseError as stopped:
            sweep, fault = load(folder), stopped
    stands = [standing(sweep, number, runs=runs_folder()) for number in range(len(sweep.points))]
    records = {
        number: found for number, point in enumerate(sweep.points) if (found := record_at(point, runs=runs_folder()))
    }
    show(
        sweep, folder, sum_up(sweep, stands, records, by=words.sort, goal=words.goal), as_json=words.json, by=words.sort
    )
    if fault is not None:
        raise fault
    if not words.show and (left := sum(stand is not Standing.FINISHED for stand in stands)):
        hint = f"runs/{FOLDER}/{sweep.id}/logs/ says why; the same command tries them again"
        raise RunError(f"{left} of {len(stands)} points of sweep {sweep.id} are not finished", hint=hint)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise sweep",
        "Train at every point of a grid, all of one source in one image. Further options are settings: one value for every point, "
        "a list (1e-4,3e-4) or a range (1..5) for a grid.",
    )
    parser.usage = "reprise sweep EXPERIMENT --SETTING VALUES ... [--points FILE] [--jobs N] [--again] [--json]"
    parser.add_argument(
        "--points", metavar="FILE", help="a TOML file with a [[points]] table for each point, crossed with the grid"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="points at once (default 1, with GPUs one on each)")
    parser.add_argument(
        "--continue",
        dest="go_on",
        metavar="SWEEP",
        help="go on with a sweep: its id, the beginning of one, or `latest`",
    )
    parser.add_argument(
        "--again", action="store_true", help="run every point anew, from the source and in the image of now"
    )
    parser.add_argument("--show", metavar="SWEEP", help="only show what a sweep gave so far")
    parser.add_argument(
        "--sort", metavar="METRIC", help="the metric to sort by (default: what the runs monitor, else val_loss)"
    )
    parser.add_argument("--goal", choices=("lowest", "highest"), help="which value of it is the best")
    parser.add_argument("--json", action="store_true", help="for scripts")
    return parser


def _named(word: str) -> Sweep:
    return load(runs_folder() / FOLDER / resolve_sweep(word, sweep_ids(runs_folder())))


def _begun(asked_for: Told, *, again: bool) -> Sweep:
    """The sweep of this request that there is, or a new one."""
    (image, layers), bundle = frozen_image(), capture(CHECKOUT, extra=asked_for.extra, runs=runs_folder())
    earlier = None if again else begun_before(asked_for.asked.digest, runs=runs_folder())
    if earlier is not None:
        changed = [
            *(["the source"] if earlier.source != bundle.digest else []),
            *(["the image"] if (earlier.image, earlier.layers) != (image, layers) else []),
        ]
        if not changed:
            _say(f"sweep {earlier.id} was begun by the same command: going on")
            return earlier
        _require_finished(earlier, changed)
    for line in bundle.left_out:
        _say(f"not in the source: {line}")
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
    folder = begin(sweep, bundle, runs=runs_folder())
    _say(
        f"sweep {sweep.id}: {len(sweep.points)} points of {sweep.asked.experiment}; source and image are frozen, in {folder}"
    )
    if not again:
        sweep = _with_equal_runs(sweep, folder)
        save(sweep, folder)
    return sweep


def _require_finished(earlier: Sweep, changed: list[str]) -> None:
    """Refuse to guess whether an unfinished sweep is meant, or one of the source of now."""
    stands = [standing(earlier, number, runs=runs_folder()) for number in range(len(earlier.points))]
    left = sum(stand is not Standing.FINISHED for stand in stands)
    if left:
        said = f"sweep {earlier.id} of the same points has {left} of {len(stands)} to do; since then {' and '.join(changed)} changed"
        hint = f"`reprise sweep --continue {earlier.id}` goes on as it began; --again begins anew with what is here now"
        raise RunError(said, hint=hint)


def _with_equal_runs(sweep: Sweep, folder: Path) -> Sweep:
    """The sweep with the runs that are here already and are what a point would become."""
    records = list(_records())
    file = folder / SETTINGS if sweep.asked.file is not None else None
    accelerator = "cuda" if gpus_for(sweep, folder) else "cpu"
    for number, point in enumerate(sweep.points):
        words = take_apart([*sweep.asked.words, *point.words()])
        given = asked(Origins(words=words.without("json"), environ=sweep.asked.environment, file=file))
        wanted = Wanted(experiment=sweep.asked.experiment, source=sweep.source, settings=given)
        run = equal_run(wanted, records, layers=sweep.layers, accelerator=accelerator)
        if run is not None:
            _say(f"point {number + 1}, {point}: run {run} is here already")
            sweep = sweep.with_point(number, point.model_copy(update={"runs": [run]}))
    return sweep


def _records() -> Iterator[Record]:
    """The records of all runs here, the latest first."""
    for name in reversed(local_ids(runs_folder())):
        with suppress(RepriseError):
            yield record_of(runs_folder() / name)


def _done(sweep: Sweep, folder: Path, *, jobs: int | None) -> Sweep:
    stands = [standing(sweep, number, runs=runs_folder()) for number in range(len(sweep.points))]
    if all(stand is Standing.FINISHED for stand in stands):
        return sweep
    place, slots = place_for(sweep, folder), slots_for(gpus_for(sweep, folder), jobs=jobs)
    done = sum(stand is Standing.FINISHED for stand in stands)
    _say(f"{len(stands) - done} of {len(stands)} points to do, {len(slots)} at once")
    return Work(sweep=sweep, folder=folder, checkout=CHECKOUT, place=place, slots=slots).do()


def _say(line: str) -> None:
    print(f"reprise: {line}", file=sys.stderr, flush=True)
