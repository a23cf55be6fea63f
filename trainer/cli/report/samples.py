"""The picture of each dataset's samples for a report: from the cache, or drawn now if possible.

A picture is identified by the digest of the dataset's content, so that it is drawn once. If a picture cannot be drawn, the report shows the
reason.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DocumentError, RepriseError, UnsafePathError
from trainer.base.safe_folder import Root
from trainer.cli.configuration import CHECKOUT, cache_folder, store_address
from trainer.cli.data import DataContext
from trainer.cli.data.show import picture_of_samples
from trainer.cli.report.plots import is_of_data
from trainer.cli.spelling import spelled
from trainer.data.cache.folder import Cache
from trainer.data.declaration import load_dataset
from trainer.reporting.drawing.pictures import is_png
from trainer.runs.figure import Pictures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.data.declaration import Dataset
    from trainer.reporting.run_contents import RunContents
    from trainer.runs.record import Record

_FOLDER: Final = "pictures"
"""The folder of pictures in the cache."""


def declared(records: Iterable[Record]) -> dict[str, Dataset]:
    """Return the records' datasets that this checkout declares with the same content."""
    datasets: dict[str, Dataset] = {}
    for record in records:
        for name, ingredient in record.ingredients.datasets.items():
            try:
                dataset = load_dataset(name, root=CHECKOUT)
            except RepriseError:
                continue
            if dataset.content == ingredient.content:
                datasets[name] = dataset
    return datasets


def samples(runs: Sequence[RunContents], known: dict[str, Dataset], *, draw: bool) -> dict[str, bytes | str]:
    """Return a picture of each dataset's samples, or the reason why there is none; without `draw` only existing pictures."""
    pictures: dict[str, bytes | str] = {}
    for run in runs:
        for name in run.compared.record.ingredients.datasets.keys() - pictures.keys():
            pictures[name] = _picture_of_run(run) or _picture(name, known.get(name), draw=draw)
    return pictures


def _picture_of_run(run: RunContents) -> bytes | None:
    """Return the picture that the run itself made of its only dataset; `None` if there is none."""
    files = [figure.file for figure in run.figures if isinstance(figure, Pictures) and is_of_data(figure)]
    pictures = [run.pictures.get(file, b"") for file in files if len(run.compared.record.ingredients.datasets) == 1]
    return next(filter(is_png, pictures), None)


def _picture(name: str, dataset: Dataset | None, *, draw: bool) -> bytes | str:
    if dataset is None:
        return f"this checkout declares no dataset {name} with that content"
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
        return f"drawing them in the image ended with exit code {code}: {command}"
    _save(file, picture)
    return picture


def _save(file: str, picture: bytes) -> None:
    try:
        with Root.at(cache_folder(), make=True) as cache, cache.below(_FOLDER, make=True) as folder:
            folder.write_whole(file, picture)
    except (OSError, RepriseError) as fault:
        print(f"reprise: the picture of the samples is not kept for next time: {fault}", file=sys.stderr)
