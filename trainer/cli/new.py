"""`reprise new NAME [--like EXPERIMENT] [--dataset NAME] [--into FOLDER]`: an experiment to begin with.

Knows what is typed and where experiments lie. Refuses to import one: no torch, less than a second.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import Arguments
from trainer.cli.experiments import FOLDER, find_experiment
from trainer.cli.places import CHECKOUT
from trainer.data.declaration import load_dataset
from trainer.training.new_experiment import Begun, check_name, new_experiment

if TYPE_CHECKING:
    from argparse import Namespace


def main(argv: list[str]) -> int:
    """Write the page; say what to type, and what to change."""
    words = _parser().parse_args(argv)
    check_name(words.name)
    here = Path.cwd()
    like = find_experiment(words.like, checkout=CHECKOUT, here=here)
    dataset = load_dataset(words.dataset, root=CHECKOUT) if words.dataset else None
    folder = CHECKOUT / FOLDER if words.into is None else here / words.into
    made = new_experiment(folder / f"{words.name}.py", like=like.outside or CHECKOUT / like.file, dataset=dataset)
    print(_told(words, made))
    return 0


def _parser() -> Arguments:
    parser = Arguments("reprise new", "Create an experiment from a copy of another. The copy trains without an edit.")
    parser.add_argument("name", metavar="NAME", help="name of the experiment: a Python module name")
    parser.add_argument("--like", metavar="EXPERIMENT", default="digits", help="experiment to copy (default: digits)")
    parser.add_argument(
        "--dataset", metavar="NAME", help="dataset to train on (default: the dataset of the copied experiment)"
    )
    parser.add_argument("--into", metavar="FOLDER", type=Path, help=f"folder to write to (default: {FOLDER})")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _told(words: Namespace, made: Begun) -> str:
    place = find_experiment(str(made.file), checkout=CHECKOUT, here=Path.cwd())
    inside = place.outside is None
    shown, train = (place.file, "docker compose run --rm train") if inside else (made.file, "scripts/reprise train")
    typed = f"{train} --exp {shlex.quote(place.name if inside else str(made.file.resolve()))}"
    if words.json:
        return json.dumps({"file": str(shown), "train": typed, "change": list(made.notes)})
    return "\n".join([f"wrote   {shown}", f"train   {typed}", *(f"change  {note}" for note in made.notes)])
