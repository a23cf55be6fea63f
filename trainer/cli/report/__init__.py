"""`reprise report RUN...`: write one HTML page about a run, or about several runs side by side. Needs neither torch nor a container engine.

A run is named by its ID, the start of an ID, `latest`, or its folder; a run that is only in the store is pulled first. The picture of a
dataset's samples is identified by the digest of the dataset's content, so that it is drawn once; if it cannot be drawn, the page shows the
reason.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError, RunError, UnsafePathError, UsageError
from trainer.base.safe_folder import Root
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT, cache_folder, runs_folder, store_address, store_at
from trainer.cli.data import DataContext
from trainer.cli.data.show import picture_of_samples
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.messages import spelled
from trainer.cli.report.page import page
from trainer.cli.report.plots import shows_data
from trainer.comparison.compare import EvidenceSources, compare
from trainer.data.cache.folder import Cache
from trainer.data.declaration import load_dataset
from trainer.reporting.drawing.markup import is_png
from trainer.reporting.run_contents import load_run_contents
from trainer.runs.figure import PictureFigure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.comparison.compare import Comparison
    from trainer.data.declaration import Dataset
    from trainer.reporting.run_contents import RunContents
    from trainer.runs.record import Record

MOST_RUNS = 64
"""The largest number of runs on one page."""


def main(argv: list[str]) -> int:
    """Write a page about the named runs, and print its path; with `--output -`, print the page."""
    args = _parser().parse_args(argv)
    if len(args.run) > MOST_RUNS:
        raise UsageError(
            f"{len(args.run)} runs were named; a report shows at most {MOST_RUNS}",
            hint=f"name at most {MOST_RUNS} runs",
        )
    if args.json and args.output == "-":
        raise UsageError("--json has no effect with --output -, which prints the page", hint="remove --json")
    runs, unreadable = _load(dict.fromkeys(args.run))
    text = _text(runs, draw=not args.no_samples)
    if args.output == "-":
        sys.stdout.write(text)
        return 0
    ids = [run.compared.record.run for run in runs]
    suffix = f"-and-{len(runs) - 1}-more" if len(runs) > 1 else ""
    path = Path(args.output) if args.output else runs_folder() / f"report-{ids[0]}{suffix}.html"
    with disk_faults(path), Root.at(path.parent) as folder:
        folder.write_whole(path.name, text.encode())
        folder.give(path.name)
    absolute = path.absolute()
    displayed = absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
    document = {"report": str(displayed), "runs": ids, "bytes": len(text.encode())}
    document |= {"unreadable": unreadable} if unreadable else {}
    print(json.dumps(document) if args.json else displayed)
    return 0


def report_text(names: Iterable[str]) -> str:
    """Return the page about the runs `names` as HTML. Errors from finding or reading a run propagate."""
    return _text(_load(names)[0], draw=True)


def _text(runs: Sequence[RunContents], *, draw: bool) -> str:
    datasets = declared(run.compared.record for run in runs)
    return page(runs, _comparisons(runs), declared=datasets, samples=samples(runs, datasets, draw=draw))


def _parser() -> Arguments:
    parser = Arguments(
        "reprise report",
        "Write one self-contained HTML page about a run, or about several runs side by side: result, comparison, curves, figures,"
        " settings, code, data, environment, machine.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help=RUN_HELP)
    parser.add_argument("-o", "--output", metavar="FILE", help="output file (default: runs/report-ID.html; -: stdout)")
    parser.add_argument(
        "--no-samples", action="store_true", help="do not draw samples of the datasets (drawing may start a container)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _load(names: Iterable[str]) -> tuple[list[RunContents], dict[str, str]]:
    """Return the readable runs, and by name, why the other runs cannot be read. Raise the first error if no run is readable."""
    runs: dict[Path, RunContents] = {}
    errors: dict[str, RepriseError] = {}
    for name in names:
        try:
            folder = find_run(name).folder
            runs[folder] = load_run_contents(folder)
        except (DocumentError, DigestMismatchError, RunError) as error:
            errors[name] = error
    if not runs:
        raise next(iter(errors.values()))
    messages = {name: error.message for name, error in errors.items()}
    for name, message in messages.items():
        print(f"reprise: run {name} cannot be read and is left out: {message}", file=sys.stderr)
    return list(runs.values()), messages


def _comparisons(runs: Sequence[RunContents]) -> list[Comparison | str]:
    """Compare the first run with each other run; a text explains why two runs cannot be compared."""
    if len(runs) < 2:  # noqa: PLR2004 - a comparison needs two runs
        return []
    store, address = None, store_address()
    with suppress(RepriseError):
        store = store_at(address) if address else None
    sources = EvidenceSources(runs=runs_folder(), cache=cache_folder(), store=store)
    comparisons: list[Comparison | str] = []
    for other in runs[1:]:
        try:
            comparisons.append(compare(runs[0].compared, other.compared, sources=sources))
        except RepriseError as fault:
            comparisons.append(fault.message)
    return comparisons


_FOLDER: Final = "pictures"
"""The folder of pictures in the cache."""


def declared(records: Iterable[Record]) -> dict[str, Dataset]:
    """Return the records' datasets that this checkout declares with the same content."""
    datasets: dict[str, Dataset] = {}
    for record in records:
        for name, ingredient in record.ingredients.datasets.items():
            with suppress(RepriseError):
                dataset = load_dataset(name, root=CHECKOUT)
                if dataset.content == ingredient.content:
                    datasets[name] = dataset
    return datasets


def samples(runs: Sequence[RunContents], datasets: dict[str, Dataset], *, draw: bool) -> dict[str, bytes | str]:
    """Return a picture of each dataset's samples, or why there is no picture. Without `draw`, only existing pictures are returned."""
    pictures: dict[str, bytes | str] = {}
    for run in runs:
        for name in run.compared.record.ingredients.datasets.keys() - pictures.keys():
            pictures[name] = _recorded_picture(run) or _picture(name, datasets.get(name), draw=draw)
    return pictures


def _recorded_picture(run: RunContents) -> bytes | None:
    files = [figure.file for figure in run.figures if isinstance(figure, PictureFigure) and shows_data(figure)]
    pictures = [run.pictures.get(file, b"") for file in files if len(run.compared.record.ingredients.datasets) == 1]
    return next(filter(is_png, pictures), None)


def _picture(name: str, dataset: Dataset | None, *, draw: bool) -> bytes | str:
    if dataset is None:
        return f"this checkout declares no dataset {name} with the recorded content"
    file = f"{dataset.content.removeprefix('sha256:')}.png"
    with suppress(OSError, DocumentError, UnsafePathError), Root.at(cache_folder()) as cache:
        return cache.read(f"{_FOLDER}/{file}")
    if not draw:
        return "--no-samples was given"
    context = DataContext(root=CHECKOUT, store=store_address() or "", cache=Cache(root=cache_folder()))
    command = spelled(f"reprise data show {name} --samples {name}.png")
    try:
        code, picture = picture_of_samples(dataset, context, name=dataset.title, command=command)
    except RepriseError as fault:
        return f"{fault.message} ({fault.hint})"
    if code:
        return f"the container that draws them exited with code {code}: {command}"
    _save(file, picture)
    return picture


def _save(file: str, picture: bytes) -> None:
    try:
        with Root.at(cache_folder(), make=True) as cache, cache.below(_FOLDER, make=True) as folder:
            folder.write_whole(file, picture)
    except (OSError, RepriseError) as fault:
        print(f"reprise: the picture of the samples was not saved in the cache: {fault}", file=sys.stderr)
