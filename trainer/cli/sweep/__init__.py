"""`reprise sweep EXP --learning-rate 1e-4,3e-4 --seed 1..5`: train at every point of a grid, from one source in one image.

All points are checked before the source is frozen and the first training starts. Points whose run exists already are not trained again.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, RunError, UsageError
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT, runs_folder
from trainer.cli.output import print_notice
from trainer.cli.sweep.create import find_or_create
from trainer.cli.sweep.launchers import gpus_for, launcher_for, slots_for
from trainer.cli.sweep.page import show
from trainer.cli.sweep.request import parse_request
from trainer.cli.sweep.scheduler import Scheduler
from trainer.cli.train.command_line import report_shared_options
from trainer.cli.trust import require_own_sweep
from trainer.sweeps.document import FOLDER, Sweep
from trainer.sweeps.folder import (
    Standing,
    load,
    lock_sweep,
    record_at,
    resolve_sweep,
    standings,
    sweep_ids,
    unreadable,
)
from trainer.sweeps.results import summarize_sweep

if TYPE_CHECKING:
    from pathlib import Path


def main(argv: list[str]) -> int:
    """Run the command."""
    experiment = argv[0] if argv and not argv[0].startswith("-") else None
    args, rest = _parser().parse_known_args(argv if experiment is None else argv[1:])
    if experiment:
        report_shared_options("sweep", argv, experiment)
    if args.jobs is not None and args.jobs < 1:
        raise UsageError(f"--jobs is {args.jobs}; expected 1 or more", hint="--jobs 2")
    selected = args.go_on or args.show
    if selected and (rest or experiment or args.points or args.again):
        hint = f"reprise sweep --{'continue' if args.go_on else 'show'} {selected}"
        raise UsageError(f"--{'continue' if args.go_on else 'show'} takes no experiment, points or settings", hint=hint)
    sweep = (
        load(runs_folder() / FOLDER / resolve_sweep(selected, sweep_ids(runs_folder())))
        if selected
        else find_or_create(parse_request(experiment, rest, points=args.points), again=args.again)
    )
    folder = runs_folder() / FOLDER / sweep.id
    failure = None
    if not args.show:
        try:
            require_own_sweep(sweep, folder)
            with lock_sweep(folder):
                sweep = _train(load(folder), folder, jobs=args.jobs)
        except RepriseError as error:
            sweep, failure = load(folder), error
    states = standings(sweep, runs=runs_folder())
    records = {
        number: record for number, point in enumerate(sweep.points) if (record := record_at(point, runs=runs_folder()))
    }
    results = summarize_sweep(sweep, states, records, by=args.sort, mode=args.mode)
    show(sweep, folder, results, unreadable=_unreadable(sweep), as_json=args.json, by=args.sort)
    if failure is not None:
        raise failure
    if not args.show and (unfinished := len(states) - states.count(Standing.FINISHED)):
        hint = f"runs/{FOLDER}/{sweep.id}/logs/ says why; the same command tries them again"
        raise RunError(f"sweep {sweep.id}: {unfinished} of {counted(len(states), 'point')} not finished", hint=hint)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise sweep",
        "Train at every point of a grid, from one source in one image. All other options are settings, or --settings FILE, as for "
        "`reprise train`. One value (--batch-size 64) applies to every point; several values (--learning-rate 1e-4,3e-4) or a range "
        "of whole numbers (--seed 1..5) form an axis of the grid. `reprise train --exp EXPERIMENT --help` lists the settings.",
    )
    parser.usage = (
        "%(prog)s EXPERIMENT --SETTING VALUES ... [--points FILE] [--jobs N]\n"
        "                     [--again] [--sort METRIC] [--mode MODE] [--json]\n"
        "       %(prog)s --continue SWEEP [--jobs N] [--sort METRIC]\n"
        "                     [--mode MODE] [--json]\n"
        "       %(prog)s --show SWEEP [--sort METRIC] [--mode MODE] [--json]"
    )
    parser.add_argument(
        "--points", metavar="FILE", help="TOML file with a [[points]] table for each point, combined with the grid"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="points to run at the same time (default: 1; with GPUs: one for each GPU)"
    )
    parser.add_argument(
        "--continue",
        dest="go_on",
        metavar="SWEEP",
        help="continue a sweep: ID, start of an ID, or `latest`",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="start a new sweep (default: continue the earlier sweep of the same request, if source and image are unchanged)",
    )
    parser.add_argument("--show", metavar="SWEEP", help="only print the results of a sweep")
    parser.add_argument(
        "--sort", metavar="METRIC", help="metric to sort by (default: the monitored metric, else val_loss)"
    )
    parser.add_argument(
        "--mode",
        choices=("min", "max"),
        help="whether the lowest or the highest value is the best (default: `monitor_mode` for `monitor`; else max for scores)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _unreadable(sweep: Sweep) -> dict[int, str]:
    """Return, by point number from 0, why its record cannot be read; print a line for each."""
    results = {number: unreadable(point, runs=runs_folder()) for number, point in enumerate(sweep.points)}
    faults = {number: reason for number, reason in results.items() if reason is not None}
    for number, reason in faults.items():
        print(
            f"reprise: run {sweep.points[number].run} of point {number + 1} cannot be read: {reason}", file=sys.stderr
        )
    return faults


def _train(sweep: Sweep, folder: Path, *, jobs: int | None) -> Sweep:
    states = standings(sweep, runs=runs_folder())
    if all(state is Standing.FINISHED for state in states):
        return sweep
    launcher, slots = launcher_for(sweep, folder), slots_for(gpus_for(sweep, folder), jobs=jobs)
    unfinished = len(states) - states.count(Standing.FINISHED)
    print_notice(f"{unfinished} of {counted(len(states), 'point')} to train, {len(slots)} at the same time")
    return Scheduler(sweep=sweep, folder=folder, checkout=CHECKOUT, launcher=launcher, slots=slots).run()
