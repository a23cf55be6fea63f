"""`reprise noise EXP --seeds N`: train with N seeds, and report how much results differ if only the seed differs.

Each seed is an ordinary run with its own record. Completed runs with the same source and settings are reused, however the settings were
typed. Runs that differ in more than the seed are not combined.
"""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import RunError, UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT, DRY_RUN_HELP, runs_folder, shown_path
from trainer.cli.formatting import columns
from trainer.cli.messages import spelled
from trainer.cli.output import print_notice
from trainer.cli.train.command_line import parse_train_request, report_shared_options
from trainer.cli.trainings import completed, explaining_stop, freeze, freeze_image
from trainer.comparison.noise import (
    FEWEST,
    LEVEL,
    POWER,
    SEED,
    RequestedRun,
    differing_runs,
    find_completed_run,
    noise_of,
    save_noise,
    seeds_needed,
    spread_of,
)
from trainer.settings.origins import given_settings, parse_options
from trainer.sweeps.folder import record_at
from trainer.training.declared_settings import sketched_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.cli.trainings import Recipe
    from trainer.comparison.noise import Noise
    from trainer.runs.record import Record

_AGAIN: Final = "repeat the command: finished runs are not trained again"
_SIZES = (0.5, 1.0, 2.0)
"""The gains for which the number of seeds is computed, in standard deviations."""


def main(argv: list[str]) -> int:
    """Train, measure, write the result, and print it."""
    args, settings = _parser().parse_known_args(argv)
    report_shared_options("noise", argv, args.experiment)
    if not args.seeds >= FEWEST:
        raise UsageError(f"--seeds is {args.seeds}; a spread needs {FEWEST} or more", hint="--seeds 5")
    if args.gain is not None and not args.gain > 0:
        raise UsageError(f"--gain is {args.gain}; expected a number above 0", hint="--gain 0.01")
    options = parse_options(settings)
    if SEED in options:
        raise UsageError("--seed: noise chooses the seeds itself", hint="remove --seed; --seeds N sets their number")
    if "exp" in options:
        raise UsageError("--exp: the experiment is the first argument", hint="reprise noise EXPERIMENT")
    if args.to is None:
        if args.dry_run:
            raise UsageError("--dry-run prints a job, but no cluster is named", hint="--to SITE")
        with explaining_stop(_AGAIN):
            records = _runs(args.experiment, settings, seeds=range(args.seeds))
    elif (found := _runs_of_site(args, settings)) is None:
        return 0
    else:
        records = found
    noise = noise_of(records)
    path = save_noise(noise, runs=runs_folder())
    print(_document(noise, path, args.gain) if args.json else "\n".join(_page(noise, path, args.gain)))
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise noise",
        "Measure how much results vary when only the seed differs. All other options are settings, or --settings FILE, as for "
        "`reprise train`.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a name in trainer/experiments/, or a Python file")
    seeds = f"train with seeds 0 to N-1 (default: 5; at least {FEWEST})"
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help=seeds)
    parser.add_argument(
        "--gain",
        type=float,
        metavar="G",
        help="compute how many seeds are needed to detect a gain of G (default: gains of 0.5, 1 and 2 standard deviations)",
    )
    parser.add_argument(
        "--to",
        metavar="SITE",
        help="submit the seeds to this Slurm cluster, a name in sites/, as a sweep, and do not wait for them; once all have finished, "
        "the same command measures the noise",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help=f"{DRY_RUN_HELP}; if all seeds have finished, there is no job: measure the noise as without this option",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _runs(experiment: str, settings: Sequence[str], *, seeds: Sequence[int]) -> dict[int, Record]:
    """Return one run per seed; the runs differ only in their seeds."""
    train = ["--exp", experiment, *settings]
    parsed = parse_train_request(train, command="noise")  # report invalid options before anything starts
    recipe = freeze(parsed)
    sketch = sketched_in(parsed.experiment.path(CHECKOUT))
    values, typed = given_settings(parsed.origins), sketch.typed(parsed.origins) if sketch else {}
    records: dict[int, Record] = {}
    for seed in seeds:
        request = RequestedRun(
            experiment=parsed.experiment.name, source=recipe.source.digest, settings={**values, SEED: seed}, typed=typed
        )
        if record := find_completed_run(request, runs_folder()):
            print_notice(f"seed {seed}: run {record.run} is reused")
            records[seed] = record
    if len(records) < len(seeds):
        freeze_image()
    for seed in seeds:
        if seed not in records:
            records[seed] = _train(seed, recipe)
    for seed, names in differing_runs(records).items():
        print_notice(
            f"seed {seed}: run {records[seed].run} differs from the latest run in {', '.join(names)}: training again"
        )
        records[seed] = _train(seed, recipe)
    if differences := differing_runs(records):
        message = f"{', '.join(sorted(set().union(*differences.values())))} changed during the measurement"
        raise RunError(message, hint=_AGAIN)
    return records


def _runs_of_site(args: Namespace, settings: Sequence[str]) -> dict[int, Record] | None:
    """Submit the unfinished seeds as a sweep; return its runs by seed once all have finished, `None` before.

    Raise `RunError` if the runs differ in more than the seed, and what `reprise sweep --to` raises.
    """
    from trainer.cli.sweep.submit import submit

    words = [*settings, f"--{SEED}", f"0..{args.seeds - 1}"]
    request = Namespace(
        to=args.to, dry_run=args.dry_run, json=args.json, go_on=None, points=None, again=False, jobs=None
    )
    sweep = submit(request, args.experiment, words)
    if sweep is None:
        if not args.dry_run:
            print_notice("once all seeds have finished, the same command measures the noise")
        return None
    found = [record for point in sweep.points if (record := record_at(point, runs=runs_folder()))]
    records = {int(str(record.ingredients.settings[SEED])): record for record in found}
    if differences := differing_runs(records):
        names = ", ".join(sorted(set().union(*differences.values())))
        message = f"the runs of sweep {sweep.id} differ in more than the seed: {names}"
        again = shlex.join(["reprise", "sweep", args.experiment, *words, "--again", "--to", args.to])
        raise RunError(message, hint=f"{again}, on machines of one kind")
    return records


def _train(seed: int, recipe: Recipe) -> Record:
    print_notice(f"seed {seed}: training")
    return completed(["--seed", str(seed)], purpose="noise", recipe=recipe)


def _page(noise: Noise, path: Path, gain: float | None) -> Iterator[str]:
    environment = f"environment {noise.environment}" if noise.environment else "no environment"
    yield f"noise of {noise.experiment}: {len(noise.seeds)} seeds, {environment}, {noise.device}"
    yield ""
    head = ("metric", "mean", "deviation", "lowest", "highest", "max. difference of two runs (95%)")
    yield from columns([head, *(_row(name, values, noise) for name, values in noise.metrics.items())])
    yield ""
    yield f"seeds per variant to detect a gain (t-test, {LEVEL:.0%} two-sided, power {POWER:.0%}):"
    sizes = [f"gain of {gain:g}"] if gain else [f"gain of {size:g} std" for size in _SIZES]
    yield from columns([("metric", *sizes), *(_needed(name, values, gain) for name, values in noise.metrics.items())])
    yield ""
    yield spelled(f"kept in {shown_path(path)}, where `reprise compare` finds it")


def _row(name: str, values: Sequence[float], noise: Noise) -> tuple[str, ...]:
    figures = (*astuple(spread_of(values)), noise.explains(name) or 0.0)
    return (name, *(f"{figure:.6g}" for figure in figures))


def _needed(name: str, values: Sequence[float], gain: float | None) -> tuple[str, ...]:
    deviation = spread_of(values).deviation
    gains = [gain] if gain else [size * deviation for size in _SIZES]
    cells = (f"{seeds_needed(each, deviation)}" + ("" if gain else f" ({each:.3g})") for each in gains)
    return (name, *(cells if deviation else ["no spread", *[""] * (len(gains) - 1)]))


def _document(noise: Noise, path: Path, gain: float | None) -> str:
    metrics: dict[str, Any] = {}
    for name, values in noise.metrics.items():
        spread = spread_of(values)
        metrics[name] = {**asdict(spread), "explains": noise.explains(name)}
        if gain:
            metrics[name]["seeds_needed"] = seeds_needed(gain, spread.deviation)
    return json.dumps({**noise.model_dump(mode="json"), "spread": metrics, "file": str(path)})
