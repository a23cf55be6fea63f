"""`reprise predict RUN|PACKAGE FILE...`: the answers of a run's net, or of a model package, to files that are read as its dataset was."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import UsageError
from trainer.base.suggestions import short
from trainer.cli.arguments import Arguments
from trainer.cli.containers import run_in_image
from trainer.cli.find_package import known_package
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.machine import can_train
from trainer.cli.output import one_line, print_json, print_notice
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.runs.image_claim import claim_image

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from trainer.models.prediction import Model, Prediction
    from trainer.runs.record import Record

_MOST: Final = 3
"""Classes or labels with a score on a line, at most; --json has all."""
_NUMBERS: Final = 8


def main(argv: list[str]) -> int:
    """Print a line for each sample, or one JSON document."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not can_train():
        return _in_container(argv, args.run, args.files)
    if package := known_package(args.run):
        return _of_package(package, args)
    run = find_run(args.run)
    word = TrustDecision(trusted=args.trust, granted=grants(args.grant), command=f"reprise predict {args.run} FILE")
    require_trust(run.record, run.folder, word, is_isolated=False, in_its_image=False)
    from trainer.models.prediction import load_model

    model = load_model(run.record, run.folder)
    _note_image(run.record)
    return _print(model, args, run=run.record.run)


def _of_package(path: Path, args: Namespace) -> int:
    from trainer.models.packaged import load_package

    model = load_package(path)
    if not model.opened.certificate.holds:
        print_notice(f"package {model.package.name} has no valid certificate: it may not answer as the run measured")
    return _print(model, args, run=model.package.run, package=model.package.digest)


def _print(model: Model, args: Namespace, **about: str) -> int:
    from trainer.models.prediction import predictions

    found = predictions(model, [Path(file) for file in args.files])
    if args.json:
        print_json({**about, "predictions": [asdict(each) for each in found]})
        return 0
    for each in found:
        print(f"{_where(each)}: {_shown(each.answer)}")
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise predict",
        "Print what a run's net, or a model package, answers for files: pictures, a table with the columns of the run's dataset, or arrays "
        "(.npy). They are read as the dataset was read; no target is needed.",
    )
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; or a model package: its folder or its name")
    parser.add_argument("files", metavar="FILE", nargs="+", help="pictures, tables or arrays")
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")
    trust_options(parser)
    return parser


def _in_container(argv: Sequence[str], run: str, files: Sequence[str]) -> int:
    """Predict in a container, with the package and the folders of the files at their own paths, read-only."""
    paths = {word: Path(word).resolve() for word in files}
    if odd := next(
        (word for word, path in paths.items() if ":" in os.fspath(path) or path.parent == path.parent.parent), None
    ):
        raise UsageError(f"the folder of {short(odd)} cannot be mounted into a container", hint=f"cp {short(odd)} .")
    folders = [os.fspath(path.parent) for path in paths.values()]
    if package := known_package(run):
        paths[run] = package.resolve()
        folders.append(os.fspath(paths[run]))
    mounts = [option for folder in dict.fromkeys(folders) for option in ("-v", f"{folder}:{folder}:ro")]
    return run_in_image(["predict", *(os.fspath(paths[word]) if word in paths else word for word in argv)], *mounts)


def _note_image(record: Record) -> None:
    recorded, own = record.circumstances.image.build_id, claim_image(os.environ, run=None).image.build_id
    if recorded != own:
        print_notice(f"run {record.run} was measured in another image: scores can differ in their last digits")


def _where(each: Prediction) -> str:
    return one_line(each.file if each.row is None else f"{each.file} {each.row}")


def _shown(answer: dict[str, Any]) -> str:
    scores: dict[str, float] = answer.get("scores") or answer.get("shares") or {}
    best = sorted(scores.items(), key=lambda item: -item[1])
    if "class" in answer or "shares" in answer:
        return "  ".join(f"{one_line(name)} {score:.3f}" for name, score in best[:_MOST])
    if "labels" in answer:
        return ", ".join(f"{one_line(name)} {scores[name]:.3f}" for name in answer["labels"]) or "no label"
    return "; ".join(f"{one_line(name)} {_numbers(each)}".removeprefix("output ") for name, each in answer.items())


def _numbers(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    flat = [each for each in values[:_NUMBERS] if not isinstance(each, list)]
    if len(flat) < len(values[:_NUMBERS]):
        return f"{len(values)} rows"
    return ", ".join(f"{each:.6g}" for each in flat) + (", ..." if len(values) > _NUMBERS else "")
