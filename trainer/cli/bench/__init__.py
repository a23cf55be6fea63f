"""`reprise bench EXP`: times training steps; --against prints ratios, --profile the slowest operations. Records no run."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trainer.base.document import read_json
from trainer.base.errors import DocumentError, UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.check import choose_data
from trainer.cli.configuration import CHECKOUT, is_file, runs_folder, shown_path
from trainer.cli.containers import run_in_image
from trainer.cli.experiment_loading import attribute_errors, datasets_of, import_experiment, resolve_settings
from trainer.cli.find_run import find_run_id
from trainer.cli.formatting import columns
from trainer.cli.machine import can_train, check_environment, check_lock
from trainer.cli.output import print_json, print_result, result_stream
from trainer.cli.train.command_line import parse_train_request, report_shared_options
from trainer.cli.trainings import run_hidden_command
from trainer.runs.handoff import read_launch
from trainer.runs.image_claim import claim_image
from trainer.runs.list import local_ids
from trainer.runs.run import record_of
from trainer.training.timing import Bench, BenchResult, Interval, SlowOperation, compared, page, ratios, unlike

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.training.bench import BenchPlan

_LEAST = 20


def main(argv: list[str]) -> int:
    """Time an experiment's steps and print the result."""
    args, settings = _parser().parse_known_args(argv)
    report_shared_options("bench", argv, args.experiment)
    if args.steps < _LEAST or args.warmup < 1 or not args.seconds > 0:
        raise UsageError(
            f"found --steps {args.steps} --warmup {args.warmup} --seconds {args.seconds:g};"
            f" expected --steps {_LEAST} or more, --warmup 1 or more, --seconds more than 0",
            hint="reprise bench digits --steps 200 --warmup 20 --seconds 60",
        )
    request = parse_train_request(["--exp", args.experiment, *settings], command="bench")
    other = _other(args.against) if args.against else None
    claim = claim_image(os.environ, run=None)
    if not can_train():
        return run_in_image(["bench", *argv])
    check_lock(claim, CHECKOUT)
    check_environment(claim, request.settings)
    name = f"{Path(request.experiment.name).stem}-{datetime.now(UTC):%Y%m%d%H%M%S}.json"
    path = runs_folder() / "profiles" / name if args.profile else None
    course = {name: getattr(args, name) for name in ("synthetic", "steps", "warmup", "seconds")}
    course["profile"] = str(path or "")
    bench, *dearest = run_hidden_command(["_bench", json.dumps(course), *request.argv], request)
    document = _document(Bench.model_validate(bench), other, path, dearest[0] if dearest else None)
    print_result(document.model_dump(mode="json"), _page(document, args.against), as_json=args.json)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise bench",
        "Measure the time of an experiment's training steps. All other options are settings, or --settings FILE, as for "
        "`reprise train`.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a name in trainer/experiments/, or a Python file")
    parser.add_argument(
        "--synthetic", action="store_true", help="use generated samples of the datasets' shapes instead of their data"
    )
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="timed steps (default: 200)")
    parser.add_argument("--warmup", type=int, default=20, metavar="N", help="untimed warm-up steps (default: 20)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="stop after S seconds, but not before half of the steps are timed (default: 60)",
    )
    parser.add_argument(
        "--against", metavar="RUN|FILE", help="compare with a run, or with a file that holds the output of --json"
    )
    parser.add_argument(
        "--profile", action="store_true", help="profile a few steps: write a trace and list the ten slowest operations"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _other(word: str) -> Bench | dict[str, Interval]:
    """Return the benchmark in a file, or the throughput of a run.

    Raise `DocumentError` if the file does not exist or is invalid, or if the run has no throughput; `RunNotFoundError` if no run matches.
    """
    if is_file(Path(word)):
        return read_json(Path(word), BenchResult).bench
    if word.endswith(".json") or "/" in word.removeprefix("runs/"):
        raise DocumentError(
            f"{word} does not exist", hint="reprise bench digits --json > FILE writes a file to compare with"
        )
    record = record_of(runs_folder() / find_run_id(word, local_ids(runs_folder())))
    batches, size = record.outcome.telemetry.get("batches_per_second"), record.ingredients.settings.get("batch_size")
    if not isinstance(batches, int | float) or not isinstance(size, int):
        raise DocumentError(f"run {record.run} has no throughput in its record", hint="name a completed run")
    rate = float(batches) * size
    return {"samples/s": Interval(median=rate, low=rate, high=rate)}


def _document(
    bench: Bench, other: Bench | dict[str, Interval] | None, profiled: Path | None, dearest: Any
) -> BenchResult:
    run_ratios = (
        {name: bench.samples_per_second.over(value) for name, value in other.items()}
        if isinstance(other, dict)
        else None
    )
    return BenchResult(
        bench=bench,
        ratios=ratios(bench, other) if isinstance(other, Bench) else run_ratios,
        unlike=unlike(bench, other) if isinstance(other, Bench) else [],
        profile=None if profiled is None else shown_path(profiled),
        dearest=[SlowOperation.model_validate(each) for each in dearest or ()],
    )


def _page(document: BenchResult, against: str | None) -> Iterator[str]:
    yield from page(document.bench)
    if document.ratios is not None:
        yield ""
        yield f"over {against}:"
        yield from compared(document.ratios)
        if len(document.ratios) == 1:
            yield "  a run's throughput includes the time of validation"
        yield from (f"  not equal: {line}" for line in document.unlike)
    if document.profile is not None:
        yield ""
        yield f"slowest operations, by their own time; trace: {document.profile} (chrome://tracing, ui.perfetto.dev)"
        rows = [("operation", "calls a step", "ms a step", "share")]
        rows += [(e.name, f"{e.calls:g}", f"{1e3 * e.seconds:.3f}", f"{e.share:.1%}") for e in document.dearest]
        yield from (f"  {line}" for line in columns(rows))


BATCHES = 8
"""Batches in an epoch of the synthetic dataset."""


def print_benchmark(argv: list[str]) -> int:
    """Time the steps that the JSON in `argv[0]` describes; print the result as a line of JSON, and a requested profile as a second line."""
    request, *arguments = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-bench-") as folder:
        options = json.loads(request)
        course = _course(arguments, options, Path(folder))
        from trainer.training.bench import bench, profiled

        with attribute_errors(course.experiment):
            print(bench(course).model_dump_json(), file=out, flush=True)
            if options["profile"]:
                dearest = profiled(course, Path(options["profile"]))
                print_json([each.model_dump() for each in dearest], file=out)
    return 0


def _course(arguments: Sequence[str], options: dict[str, object], folder: Path) -> BenchPlan:
    from trainer.training.bench import BenchPlan

    launch = read_launch(os.environ)
    experiment = import_experiment(launch)
    resolved = resolve_settings(experiment, [*arguments])
    declared = datasets_of(experiment, resolved.settings)
    rows = BATCHES * int(resolved.settings.value_of("batch_size"))
    chosen = choose_data(declared, resolved.settings, synthetic=bool(options["synthetic"]), rows=rows)
    return BenchPlan(
        experiment=experiment,
        resolved=resolved,
        datasets=chosen.datasets,
        description=chosen.description,
        device=launch.device,
        root=Path.cwd(),
        folder=folder,
        warmup=int(str(options["warmup"])),
        steps=int(str(options["steps"])),
        seconds=float(str(options["seconds"])),
    )
