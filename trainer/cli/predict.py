"""`reprise predict RUN FILE...`: the answers of a run's net to files, read as its dataset was read."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import UsageError
from trainer.base.suggestions import short
from trainer.cli.arguments import Arguments
from trainer.cli.containers import run_in_image
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.machine import can_train
from trainer.cli.output import one_line, print_json, print_notice
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.runs.image_claim import claim_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.runs.record import Record
    from trainer.training.prediction import Prediction

_MOST: Final = 3
"""Classes or labels with a score on a line, at most; --json has all."""
_NUMBERS: Final = 8


def main(argv: list[str]) -> int:
    """Print a line for each sample, or one JSON document."""
    parser = _parser()
    args = parser.parse_args(argv)
    if not can_train():
        return _in_container(argv, args.files)
    run = find_run(args.run)
    word = TrustDecision(trusted=args.trust, granted=grants(args.grant), command=f"reprise predict {args.run} FILE")
    require_trust(run.record, run.folder, word, is_isolated=False, in_its_image=False)
    from trainer.training.prediction import load_predictor

    predictor = load_predictor(run.record, run.folder)
    _note_image(run.record)
    predictions = predictor.predict([Path(file) for file in args.files])
    if args.json:
        print_json({"run": run.record.run, "predictions": [asdict(each) for each in predictions]})
        return 0
    for each in predictions:
        print(f"{_where(each)}: {_shown(each.answer)}")
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise predict",
        "Print what a run's net answers for files: pictures, a table with the columns of the run's dataset, or arrays (.npy). They are "
        "read as the dataset was read; no target is needed.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("files", metavar="FILE", nargs="+", help="pictures, tables or arrays")
    parser.add_argument("--json", action="store_true", help="print all scores as JSON")
    trust_options(parser)
    return parser


def _in_container(argv: Sequence[str], files: Sequence[str]) -> int:
    """Predict in a container, with the folders of the files at their own paths, read-only."""
    paths = {word: Path(word).resolve() for word in files}
    if odd := next(
        (word for word, path in paths.items() if ":" in os.fspath(path) or path.parent == path.parent.parent), None
    ):
        raise UsageError(f"the folder of {short(odd)} cannot be mounted into a container", hint=f"cp {short(odd)} .")
    folders = dict.fromkeys(os.fspath(path.parent) for path in paths.values())
    mounts = [option for folder in folders for option in ("-v", f"{folder}:{folder}:ro")]
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
    values = answer["output"] if isinstance(answer["output"], list) else [answer["output"]]
    return ", ".join(f"{value:.6g}" for value in values[:_NUMBERS]) + (", ..." if len(values) > _NUMBERS else "")
