"""`reprise new NAME`: creates an experiment as a copy of another experiment, without importing it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Final

from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import FOLDER, find_experiment
from trainer.cli.output import print_result
from trainer.data.declaration import load_dataset
from trainer.training.new_experiment import check_name, new_experiment

_LIKE: Final = "digits"
"""The experiment that is copied by default."""


def main(argv: list[str]) -> int:
    """Write the experiment; print the command that trains it and what to change in it."""
    args = _parser().parse_args(argv)
    check_name(args.name)
    working_folder = Path.cwd()
    template = find_experiment(args.like, checkout=CHECKOUT, here=working_folder)
    dataset = load_dataset(args.dataset, root=CHECKOUT) if args.dataset else None
    folder = CHECKOUT / FOLDER if args.into is None else working_folder / args.into
    file = folder / f"{args.name}.py"
    written = new_experiment(file, like=template.path(CHECKOUT), dataset=dataset)
    experiment = find_experiment(str(file), checkout=CHECKOUT, here=working_folder)
    if experiment.outside is None:
        path, train = experiment.file, f"docker compose run --rm train --exp {shlex.quote(experiment.name)}"
    else:
        path, train = file, f"scripts/reprise train --exp {shlex.quote(str(file.resolve()))}"
    filled = [f"filled  {name} = {json.dumps(value)}" for name, value in written.filled.items()]
    copied = f"copied  {template.name}{' (--like EXPERIMENT copies another)' if args.like == _LIKE else ''}"
    lines = [f"wrote   {path}", copied, *filled, f"train   {train}", *(f"change  {note}" for note in written.changes)]
    document = {
        "file": str(path),
        "copied": template.name,
        "train": train,
        "filled": written.filled,
        "change": written.changes,
    }
    print_result(document, lines, as_json=args.json)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise new", "Create an experiment as a copy of another experiment; the copy trains without changes."
    )
    parser.add_argument("name", metavar="NAME", help="name of the experiment and of its Python module")
    parser.add_argument("--like", metavar="EXPERIMENT", default=_LIKE, help="experiment to copy (default: %(default)s)")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="dataset to train on; sets fields, shape and classes from its declaration (default: the dataset of the copied experiment)",
    )
    parser.add_argument("--into", metavar="FOLDER", type=Path, help=f"folder to write to (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser
