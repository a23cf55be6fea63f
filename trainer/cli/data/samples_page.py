"""`reprise data show NAME --samples FILE.html`: one page with a dataset's samples, values and hints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.suggestions import counted
from trainer.cli.data.values import described_values
from trainer.cli.progress import readable
from trainer.cli.report.elements import digest, lines, pairs, section, table
from trainer.cli.report.page import document
from trainer.data.reader import TableReader
from trainer.data.splits import describe_split
from trainer.reporting.drawing.markup import embedded, tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Dataset
    from trainer.data.overview import Overview
    from trainer.reporting.drawing.markup import Markup


def samples_page(dataset: Dataset, overview: Overview, picture: bytes | None) -> str:
    """Return the page as HTML; `picture` is a PNG of samples, for a dataset of pictures."""
    body = [
        tag("h1", dataset.title),
        pairs(_facts(dataset)),
        section("Samples", *_samples(dataset, overview, picture)),
        section("Values", _values(dataset, overview)),
        section("Hints", lines(overview.hints or ("none",))),
        section("What was looked at", lines(overview.compared)),
    ]
    return document(f"{dataset.title}: samples", *body)


def _facts(dataset: Dataset) -> Iterator[tuple[str, object]]:
    yield "files", f"{counted(dataset.files, 'file')}, {readable(dataset.bytes)}"
    yield "license", dataset.license
    yield "source", dataset.source
    if dataset.upstream:
        yield "revision", dataset.upstream.revision or None
    for name, split in dataset.splits.items():
        yield f"split {name}", describe_split(split)
    yield "content", digest(dataset.content)


def _samples(dataset: Dataset, overview: Overview, picture: bytes | None) -> Iterator[Markup | None]:
    if picture is not None:
        image = embedded(picture, description=f"samples of {dataset.name}")
        yield tag("figure", image, class_="samples") if image else None
    if isinstance(dataset.reader, TableReader):
        yield tag("p", "The values as training reads them: missing values are replaced as declared.", class_="quiet")
    for split, rows in overview.examples.items():
        total = overview.samples.get(split, len(rows))
        yield tag("h3", f"{split or dataset.name}, first {len(rows)} of {counted(total, 'sample')}")
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = ([str(number), *(row.get(name, "") for name in names)] for number, row in enumerate(rows))
        yield table(["", *names], cells, label=f"samples of {split or dataset.name}")


def _values(dataset: Dataset, overview: Overview) -> Markup | None:
    rows = []
    for column in overview.columns:
        names = (column.name, column.type, column.read_as)
        for at, (split, values) in enumerate(column.splits.items()):
            described = described_values(dataset, column.name, values)
            rows.append((*(("", "", "") if at else names), split or "all", f"{values.missing:,}", described))
    return table(["column", "type", "read as", "split", "missing", "values"], rows, label="values")
