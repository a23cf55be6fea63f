"""`reprise predict RUN|PACKAGE FILE...`: print the predictions of a run's net or a model package for files, read as its dataset was."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError, UsageError
from trainer.base.suggestions import counted, short
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import shown_path
from trainer.cli.containers import run_in_image
from trainer.cli.find_package import known_package
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.machine import can_train
from trainer.cli.messages import spelled
from trainer.cli.output import one_line, print_notice
from trainer.cli.progress import EVERY_S
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.runs.image_claim import claim_image

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from trainer.models.prediction import Model, Prediction
    from trainer.runs.record import Record

_MOST: Final = 3
"""Maximum number of classes or labels with a score on a line; --json prints all."""
_NUMBERS: Final = 8


def main(argv: list[str]) -> int:
    """Print a line for each sample or one JSON document, or write JSON lines to a file."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.json and args.output is not None:
        raise UsageError(
            "--json has no effect with --output: the file has a JSON line for each sample", hint="remove --json"
        )
    if not can_train():
        return _in_container(args)
    if package := known_package(args.run):
        return _of_package(package, args)
    run = find_run(args.run)
    word = TrustDecision(trusted=args.trust, granted=grants(args.grant), command=f"reprise predict {args.run} FILE")
    require_trust(run.record, run.folder, word, is_isolated=False, in_its_image=False)
    from trainer.models.prediction import load_model

    model = load_model(run.record, run.folder)
    _note_image(run.record)
    for note in model.notes():
        print_notice(spelled(note))
    return _predict(model, args, identity=run.record.identity, run=run.record.run)


def _of_package(path: Path, args: Namespace) -> int:
    from trainer.models.packaged import load_package

    model = load_package(path)
    if not model.opened.certificate.holds:
        print_notice(
            f"package {model.package.name} has no valid certificate: its predictions may differ from the run's"
        )
    digest = model.package.digest
    return _predict(model, args, identity=digest, run=model.package.run, package=digest)


def _predict(model: Model, args: Namespace, *, identity: str, **about: str) -> int:
    from trainer.models.prediction import predictions
    from trainer.models.predictions_file import files_of

    files = files_of([Path(file) for file in args.files])
    if args.output is not None:
        return _write(model, files, args.output, identity=identity)
    found = predictions(model, files)
    if args.json:
        return _print_json({**about, "predictions": [asdict(each) for each in found]})
    for each in found:
        print(f"{_where(each)}: {_shown(each.answer)}")
    return 0


def _print_json(document: dict[str, Any]) -> int:
    from trainer.models.predictions_file import NOT_FINITE

    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError as fault:
        raise DatasetError(
            NOT_FINITE, hint="--output FILE writes the other predictions; without --json, the number is printed"
        ) from fault
    print(text, flush=True)
    return 0


def _write(model: Model, files: Sequence[Path], path: Path, *, identity: str) -> int:
    """Write the predictions to a file of JSON lines; return 0, or the exit code of a dataset error if a line has an error."""
    from trainer.models.predictions_file import PredictionsFile

    target, printed = PredictionsFile(path, identity, files), monotonic()
    target.require_new()

    def report() -> None:
        nonlocal printed
        if monotonic() - printed > EVERY_S:
            printed = monotonic()
            print_notice(f"{counted(target.predicted, 'sample')} predicted")

    target.write(model, report=report)
    earlier = f", {target.continued:,} of them by an earlier command" if target.continued else ""
    print(f"{shown_path(path)}: {counted(target.predicted, 'sample')} of {counted(len(files), 'file')}{earlier}")
    if target.faulty:
        reasons = "the file cannot be read as the dataset, or the prediction is not finite"
        print_notice(f'{counted(target.faulty, "line")} with "error": {reasons}')
    return DatasetError.code if target.faulty else 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise predict",
        "Print the predictions of a run's net, or of a model package, for files: pictures, a table with the columns of the run's dataset, "
        "or arrays (.npy; .npz for several inputs). The files are read as the dataset was read; no target is needed. "
        "Exit codes: 0 every sample is predicted, 44 not; docs/reference/exit-codes.md.",
    )
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; or a model package: folder, name or digest")
    parser.add_argument("files", metavar="FILE", nargs="+", help="pictures, tables or arrays, or folders of them")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the predictions to this file as JSON lines; rerun the command to complete a partial file",
    )
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")
    trust_options(parser)
    return parser


def _in_container(args: Namespace) -> int:
    """Predict in a container that mounts the package and the folders of the files read-only, and the folder of --output writable."""
    paths = {word: Path(word).resolve() for word in args.files}
    folders = {word: path if path.is_dir() else path.parent for word, path in paths.items()}
    if args.output is not None:
        paths[str(args.output)] = args.output.resolve()
        folders[str(args.output)] = args.output.resolve().parent
    if odd := next((word for word, path in folders.items() if ":" in os.fspath(path) or path == path.parent), None):
        message = f"the folder of {short(odd)} cannot be mounted into a container"
        raise UsageError(message, hint=f"cp {shlex.quote(odd)} .")
    if package := known_package(args.run):
        paths[args.run] = folders[args.run] = package.resolve()
    modes = {os.fspath(folder): ":ro" for folder in folders.values()}
    if args.output is not None:
        modes[os.fspath(folders[str(args.output)])] = ""
    mounts = [option for folder, mode in modes.items() for option in ("-v", f"{folder}:{folder}{mode}")]
    words = ["predict", os.fspath(paths.get(args.run, args.run)), *(os.fspath(paths[word]) for word in args.files)]
    words += ["--output", os.fspath(paths[str(args.output)])] if args.output is not None else []
    words += ["--json"] if args.json else []
    words += ["--trust"] if args.trust else []
    words += ["--grant", args.grant] if args.grant else []
    return run_in_image(words, *mounts)


def _note_image(record: Record) -> None:
    recorded, own = record.circumstances.image.build_id, claim_image(os.environ, run=None).image.build_id
    if recorded != own:
        print_notice(f"run {record.run} was measured in another image: scores can differ in their last digits")


def _where(each: Prediction) -> str:
    """Return the file, and the number of a row from 1, as in messages; the key `row` of the JSON output counts from 0."""
    return one_line(each.file if each.row is None else f"{each.file} row {each.row + 1}")


def _shown(prediction: dict[str, Any]) -> str:
    scores: dict[str, float] = prediction.get("scores") or prediction.get("shares") or {}
    best = sorted(scores.items(), key=lambda item: -item[1])
    if "class" in prediction or "shares" in prediction:
        return "  ".join(f"{one_line(name)} {score:.3f}" for name, score in best[:_MOST])
    if "labels" in prediction:
        return ", ".join(f"{one_line(name)} {scores[name]:.3f}" for name in prediction["labels"]) or "no label"
    return "; ".join(f"{one_line(name)} {_numbers(each)}".removeprefix("output ") for name, each in prediction.items())


def _numbers(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    flat = [each for each in values[:_NUMBERS] if not isinstance(each, list)]
    if len(flat) < len(values[:_NUMBERS]):
        return f"{len(values)} rows"
    return ", ".join(f"{each:.6g}" for each in flat) + (", ..." if len(values) > _NUMBERS else "")
