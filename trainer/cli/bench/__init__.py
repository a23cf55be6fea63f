"""`reprise bench EXP`: times training steps; --against prints ratios, --profile the slowest operations. Records no run."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base.document import read_json
from trainer.base.errors import DocumentError, UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT, is_file, runs_folder
from trainer.cli.hidden_command import run_hidden_command
from trainer.cli.in_image import run_in_image
from trainer.cli.latest import named
from trainer.cli.machine import check_environment, check_lock
from trainer.cli.output import print_result
from trainer.cli.run_page import columns
from trainer.cli.shared_options import report_shared_options
from trainer.cli.train import understood
from trainer.runs.image_claim import claim_image
from trainer.runs.list import local_ids
from trainer.runs.run import record_of
from trainer.settings.origins import take_apart
from trainer.training.timing import Bench, Dear, Interval, Told, compared, page, ratios, unlike

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAST = 20


def main(argv: list[str]) -> int:
    """Time an experiment's steps and print the result."""
    words, settings = _parser().parse_known_args(argv)
    report_shared_options("bench", argv, words.experiment)
    if words.steps < _LEAST or words.warmup < 1 or not words.seconds > 0:
        raise UsageError(
            f"found --steps {words.steps} --warmup {words.warmup} --seconds {words.seconds:g};"
            f" expected --steps {_LEAST} or more, --warmup 1 or more, --seconds more than 0",
            hint="reprise bench digits --steps 200 --warmup 20 --seconds 60",
        )
    train = ["--exp", words.experiment, *settings]
    asked = understood(train, take_apart(train))
    other = _other(words.against) if words.against else None
    known = claim_image(os.environ, run=None)
    if known.baked is None and find_spec("torch") is None:
        return run_in_image(["bench", *argv])
    check_lock(known, CHECKOUT)
    check_environment(known, asked.settings)
    path = _profile(asked.place.name) if words.profile else None
    how = {"synthetic": words.synthetic, "profile": str(path or "")}
    how |= {name: getattr(words, name) for name in ("steps", "warmup", "seconds")}
    bench, *dearest = run_hidden_command(["_bench", json.dumps(how), *train], asked)
    document = _document(Bench.model_validate(bench), other, path, dearest[0] if dearest else None)
    print_result(document.model_dump(mode="json"), _page(document, words.against), as_json=words.json)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise bench",
        "Measure the time of an experiment's training steps. Other options are settings, as for `reprise train`.",
    )
    parser.add_argument("experiment", help="a name in trainer/experiments/, or a Python file")
    parser.add_argument("--synthetic", action="store_true", help="use the dataset's dummy twin instead of its data")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="timed steps (default 200)")
    parser.add_argument("--warmup", type=int, default=20, metavar="N", help="untimed steps before them (default 20)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        metavar="S",
        help="stop after S seconds if half of the steps are timed (default 60)",
    )
    parser.add_argument(
        "--against", metavar="RUN|FILE", help="print ratios to a file that --json wrote, or to a run's throughput"
    )
    parser.add_argument(
        "--profile", action="store_true", help="profile a few steps: write a trace and list the ten slowest operations"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _profile(name: str) -> Path:
    stem = Path(name).stem
    return runs_folder() / "profiles" / f"{stem}-{datetime.now(UTC):%Y%m%d%H%M%S}.json"


def _other(word: str) -> Bench | dict[str, Interval]:
    """Return the benchmark in a file, or the throughput of a run. Raise `DocumentError`, `RunNotFoundError`."""
    if is_file(Path(word)):
        return read_json(Path(word), Told).bench
    if word.endswith(".json") or "/" in word.removeprefix("runs/"):
        raise DocumentError(f"{word} does not exist", hint="reprise bench digits --json > FILE writes one")
    record = record_of(runs_folder() / named(word, local_ids(runs_folder())))
    batches, size = record.outcome.telemetry.get("batches_per_second"), record.ingredients.settings.get("batch_size")
    if not isinstance(batches, int | float) or not isinstance(size, int):
        raise DocumentError(f"run {record.run} has no throughput in its record", hint="name a completed run")
    rate = float(batches) * size
    return {"samples/s": Interval(median=rate, low=rate, high=rate)}


def _document(bench: Bench, other: Bench | dict[str, Interval] | None, profiled: Path | None, dearest: Any) -> Told:
    return Told(
        bench=bench,
        ratios=None if other is None else _ratios(bench, other),
        unlike=unlike(bench, other) if isinstance(other, Bench) else [],
        profile=None if profiled is None else _shown(profiled),
        dearest=[Dear.model_validate(each) for each in dearest or ()],
    )


def _shown(path: Path) -> str:
    """Return a path relative to the checkout if it is inside."""
    return str(path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path)


def _ratios(bench: Bench, other: Bench | dict[str, Interval]) -> dict[str, Interval | None]:
    if isinstance(other, Bench):
        return ratios(bench, other)
    return {name: bench.samples_per_second.over(value) for name, value in other.items()}


def _page(told: Told, against: str | None) -> Iterator[str]:
    yield from page(told.bench)
    if told.ratios is not None:
        yield ""
        yield f"over {against}:"
        yield from compared(told.ratios)
        if len(told.ratios) == 1:
            yield "  a run's throughput includes the time of validations"
        yield from (f"  not equal: {line}" for line in told.unlike)
    if told.profile is not None:
        yield ""
        yield f"slowest operations, by their own time; trace: {told.profile} (chrome://tracing, ui.perfetto.dev)"
        rows = [("operation", "calls a step", "ms a step", "share")]
        rows += [(e.name, f"{e.calls:g}", f"{1e3 * e.seconds:.3f}", f"{e.share:.1%}") for e in told.dearest]
        yield from (f"  {line}" for line in columns(rows))
