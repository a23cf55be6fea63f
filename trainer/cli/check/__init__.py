"""`reprise check EXP`: finds an experiment's mistakes; with --bits, the first value that is not deterministic. Records no run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import CheckFailedError, UsageError
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.check.bits import print_first_difference
from trainer.cli.configuration import CHECKOUT, cache_folder, store_address
from trainer.cli.containers import run_in_image
from trainer.cli.experiment_loading import attribute_errors, datasets_of, import_any_experiment, resolve_settings
from trainer.cli.experiments import experiment_names
from trainer.cli.machine import can_train, check_environment, check_lock
from trainer.cli.output import escaping, print_json, result_stream
from trainer.cli.process.fetching import fetch_data
from trainer.cli.train.command_line import parse_train_request, report_shared_options
from trainer.cli.trainings import run_hidden_command
from trainer.data.cache.folder import Cache
from trainer.data.cache.inspections import cached_inspection
from trainer.runs.handoff import read_launch
from trainer.runs.image_claim import claim_image
from trainer.training.check_result import CheckStatus, Finding, lines, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.train.command_line import TrainRequest
    from trainer.data.declaration import Dataset
    from trainer.settings.fields import LaunchSettings
    from trainer.training.assembly import FetchedDataset
    from trainer.training.plain.experiment import PlainExperiment

ALL: Final = "all"
STEPS: Final = 100


def main(argv: list[str]) -> int:
    """Return 0 if all checks pass, 89 if a check failed; with --bits, 20 if a bit differs."""
    args, settings = _parser().parse_known_args(argv)
    report_shared_options("check", argv, args.experiment)
    steps = args.steps if args.steps is not None else 3 if args.bits else STEPS
    if steps < 1:
        raise UsageError(f"--steps is {steps}; expected 1 or more", hint="--steps 3")
    if args.bits and (args.synthetic or args.experiment == ALL):
        raise UsageError("--bits checks one experiment, with its real data", hint="reprise check --bits EXPERIMENT")
    names = experiment_names(CHECKOUT) if args.experiment == ALL else [args.experiment]
    requests = [parse_train_request(["--exp", name, *settings], command="check") for name in names]
    claim = claim_image(os.environ, run=None)
    if not can_train():
        return run_in_image(["check", *argv])
    check_lock(claim, CHECKOUT)
    for request in requests:
        check_environment(claim, request.settings)
    if args.bits:
        return print_first_difference(requests[0], steps=steps, as_json=args.json)
    options = [str(steps), "synthetic" if args.synthetic else "data"]
    results = [_check_experiment(request, [*options, *request.argv], prints=not args.json) for request in requests]
    if args.json:
        print_json(results if args.experiment == ALL else results[0])
    return 0 if all(result["passed"] for result in results) else CheckFailedError.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise check",
        "Check an experiment before hours of training. All other options are settings, or --settings FILE, as for `reprise train`. "
        "Exit codes: 0 passed, 20 bits differ, 89 failed; docs/reference/exit-codes.md.",
    )
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help="a name in trainer/experiments/, a Python file, or `all` for every name",
    )
    parser.add_argument(
        "--synthetic", action="store_true", help="use generated samples of the datasets' shapes instead of their data"
    )
    parser.add_argument(
        "--bits",
        action="store_true",
        help="repeat a few steps and compare every input, output, gradient and weight bit for bit",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"maximum number of steps on one batch (default: {STEPS}); with --bits, number of steps to compare (default: 3)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _check_experiment(request: TrainRequest, hidden: Sequence[str], *, prints: bool) -> dict[str, Any]:
    """Run the checks in a process and print each finding when it arrives; return the document of the result."""
    findings: list[Finding] = []
    data = ""
    for line in run_hidden_command(["_check", *hidden], request):
        if "data" in line:
            data = line["data"]
            _print_line(f"{request.experiment.name} on {data}", prints=prints)
            continue
        findings.append(Finding.model_validate(line))
        for text in lines(findings[-1]):
            _print_line(f"  {text}", prints=prints)
    failed, to_note = names_of(findings, CheckStatus.FAILED), names_of(findings, CheckStatus.NOTED)
    notes = f"; look at {', '.join(to_note)}" if to_note else ""
    summary = (
        f"{counted(len(findings), 'check')}, none failed{notes}"
        if not failed
        else f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}"
    )
    _print_line(f"{request.experiment.name}: {summary}", prints=prints)
    return {
        "experiment": request.experiment.name,
        "data": data,
        "passed": not failed,
        "failed": failed,
        "noted": to_note,
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }


def _print_line(line: str, *, prints: bool) -> None:
    if prints:
        print(line, flush=True)


def run_checks(argv: list[str]) -> int:
    """Run at most `argv[0]` steps with the data `argv[1]` (`synthetic` or `data`); print the data and each finding as a line of JSON."""
    steps, data, *arguments = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-check-") as folder:
        for line in _documents(arguments, steps=int(steps), synthetic=data == "synthetic", folder=Path(folder)):
            print_json(line, file=out)
    return 0


def _documents(arguments: list[str], *, steps: int, synthetic: bool, folder: Path) -> Iterator[dict[str, Any]]:
    from trainer.training.checks import LARGEST_BATCH, CheckSubject, run_checks
    from trainer.training.plain.experiment import PlainExperiment

    launch = read_launch(os.environ)
    experiment = import_any_experiment(launch, arguments)
    if isinstance(experiment, PlainExperiment):
        yield from _promises(experiment, arguments, steps=steps, folder=folder)
        return
    resolved = resolve_settings(experiment, arguments)
    declared = datasets_of(experiment, resolved.settings)
    rows = 8 * min(int(resolved.settings.value_of("batch_size")), LARGEST_BATCH)
    chosen = choose_data(declared, resolved.settings, synthetic=synthetic, rows=rows)
    initial = resolved.settings.value_of("init_from")
    own_weights = f", initial weights from the seed, not from {initial}" if initial else ""
    yield {"data": f"{chosen.description}, {launch.device}{own_weights}"}
    subject = CheckSubject(
        experiment=experiment,
        resolved=resolved,
        root=Path.cwd(),
        datasets=chosen.datasets,
        device=launch.device,
        folder=folder,
        steps=steps,
        made_up=chosen.is_synthetic,
        inspection=cached_inspection(declared[0], Cache(root=cache_folder())) if len(declared) == 1 else None,
        say=_print_note,
    )
    for finding in run_checks(subject):
        yield finding.model_dump(mode="json")


def _promises(
    experiment: PlainExperiment, arguments: list[str], *, steps: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """Test the guarantees of a plain module's runs with its real data; yield the findings."""
    from trainer.training.assembly import by_role
    from trainer.training.hooks import describe_misspelled_hooks
    from trainer.training.plain.promises import STEPS as MOST
    from trainer.training.plain.promises import PlainSubject, check_promises

    for line in describe_misspelled_hooks(experiment.net):
        _print_note(line)
    device = read_launch(os.environ).device
    resolved = resolve_settings(experiment, arguments)
    declared = datasets_of(experiment, resolved.settings)
    fetched = by_role(resolved.settings, ((each, fetch_data(each, say=lambda _: None)) for each in declared))
    yield {"data": f"{' and '.join(each.title for each in fetched) or 'its own data'}, {device}"}
    subject = PlainSubject(
        experiment=experiment,
        resolved=resolved,
        datasets=fetched,
        device=device,
        root=Path.cwd(),
        folder=folder,
        steps=min(steps, MOST),
    )
    with attribute_errors(experiment):
        for finding in check_promises(subject):
            yield finding.model_dump(mode="json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenData:
    """The data of a command that records no run."""

    datasets: list[FetchedDataset]
    description: str
    is_synthetic: bool


def choose_data(declared: Sequence[Dataset], settings: LaunchSettings, *, synthetic: bool, rows: int) -> ChosenData:
    """Return the datasets with their files.

    All are synthetic if `synthetic`, or if a dataset is not in the cache and no store is configured.
    """
    from trainer.training.assembly import by_role
    from trainer.training.readers.synthetic import make_all_synthetic

    missing = [] if synthetic or store_address() else [each for each in declared if not _is_cached(each)]
    if synthetic or missing:
        datasets = by_role(settings, make_all_synthetic(declared, rows=rows))
        reason = "" if synthetic else f": {missing[0].title} is not in the cache, and no store is configured"
        return ChosenData(
            datasets=datasets, description=f"synthetic data of {_titles(datasets)}{reason}", is_synthetic=True
        )
    datasets = by_role(settings, ((each, fetch_data(each, say=_print_note)) for each in declared))
    return ChosenData(datasets=datasets, description=_titles(datasets), is_synthetic=False)


def _is_cached(dataset: Dataset) -> bool:
    return Cache(root=cache_folder()).has(dataset)


def _print_note(line: str) -> None:
    print(line, file=escaping(sys.stderr))


def _titles(datasets: Sequence[FetchedDataset]) -> str:
    return " and ".join(each.title for each in datasets)
