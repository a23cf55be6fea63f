"""A picture of samples: rows of eight, each row with a title, each sample with a caption; of a dataset, a row for each split.

Knows how a sample looks to a person. Refuses to know what it means.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import torch
from PIL import Image, ImageDraw

from trainer.data.splits import select
from trainer.training.readers import Pick, open_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trainer.data.dataset import Dataset
    from trainer.data.files import Files
    from trainer.training.readers import Sample, Samples

EACH: Final = 8
"""Samples of a split."""
_CLASSES: Final = 12
"""Of so many classes, each one's count is told."""
_CELL: Final = 112
_GAP: Final = 8
_CAPTION: Final = 14
_LETTERS: Final = 17
"""As many fit into a cell."""
_INK: Final = "black"


def picture_of(dataset: Dataset, files: Files) -> bytes:
    """A PNG of samples of each split, of every class in turn, or of all samples where no split is declared."""
    return picture_of_samples(dataset, open_samples(dataset, files))


def picture_of_samples(dataset: Dataset, samples: Samples) -> bytes:
    """The same, of samples that are open."""
    splits = {name: select(name, dataset.splits, samples.layout, dataset=dataset.name) for name in dataset.splits}
    rows = [_row(name, chosen, samples) for name, chosen in (splits or {dataset.title: range(len(samples))}).items()]
    return drawn(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """As many samples as fit side by side."""

    title: str
    samples: Sequence[Sample]
    captions: Sequence[str]

    @classmethod
    def several(cls, title: str, samples: Sequence[Sample], captions: Sequence[str]) -> list[Row]:
        """Cut any number of samples into rows; the first has the title."""
        starts = range(0, len(samples), EACH)
        return [
            cls(title="" if at else title, samples=samples[at : at + EACH], captions=captions[at : at + EACH])
            for at in starts
        ]


def _row(name: str, chosen: Sequence[int], samples: Samples) -> Row:
    labels = samples.labels(chosen)
    shown = chosen[:EACH] if labels is None else [chosen[at] for at in _in_turn(labels)]
    drawn = [samples.sample(Pick(index=index)) for index in shown]
    counts = "" if labels is None else f": {_counted(labels, samples.classes)}"
    captions = [_caption(each, samples.classes) for each in drawn]
    return Row(title=f"{name}, {len(chosen):,} samples{counts}", samples=drawn, captions=captions)


def _in_turn(labels: Sequence[int]) -> list[int]:
    """Where the first samples are of each class in turn: the first of each, then the second of each."""
    places: dict[int, list[int]] = {}
    for at, label in enumerate(labels):
        known = places.setdefault(label, [])
        if len(known) < EACH:
            known.append(at)
    turns = zip_longest(*(places[label] for label in sorted(places)))
    return [at for turn in turns for at in turn if at is not None][:EACH]


def _counted(labels: Sequence[int], classes: Sequence[str]) -> str:
    counts = Counter(labels)
    if len(counts) > _CLASSES:
        return f"{len(counts)} classes, {min(counts.values()):,} to {max(counts.values()):,} of each"
    return ", ".join(f"{_named(label, classes)} {counts[label]:,}" for label in sorted(counts))


def _named(label: int, classes: Sequence[str]) -> str:
    return (classes[label] if 0 <= label < len(classes) else "") or str(label)


def drawn(rows: Sequence[Row]) -> bytes:
    """Draw the rows: a PNG, whose bytes follow from the samples and captions alone."""
    height = _CAPTION + _CELL + _CAPTION + _GAP
    sheet = Image.new("RGB", (_GAP + EACH * (_CELL + _GAP), _GAP + len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _GAP + number * height
        pen.text((_GAP, top), row.title, fill=_INK)
        for column, (sample, caption) in enumerate(zip(row.samples, row.captions, strict=True)):
            left = _GAP + column * (_CELL + _GAP)
            sheet.paste(_cell(sample), (left, top + _CAPTION))
            pen.text((left, top + _CAPTION + _CELL), caption, fill=_INK)
    body = io.BytesIO()
    sheet.save(body, "PNG")
    return body.getvalue()


def _cell(sample: Sample) -> Image.Image:
    """The first field that is a picture; otherwise what the others say."""
    shown = next((_shown(field) for field in sample.values() if is_picture(field)), None)
    cell = Image.new("RGB", (_CELL, _CELL), "#eeeeee")
    if shown is None:
        ImageDraw.Draw(cell).multiline_text((4, 4), _words(sample), fill=_INK)
        return cell
    scale = _CELL / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    cell.paste(shown.resize(size, Image.Resampling.NEAREST), ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    return cell


def is_picture(field: Tensor) -> bool:
    """Tell whether a field of a sample is one: channels, height, width."""
    return field.ndim == 3 and field.shape[0] in {1, 3, 4} and min(field.shape[1:]) > 1  # noqa: PLR2004 - channels, height, width


def _shown(field: Tensor) -> Image.Image:
    """Numbers as grey or colour: bytes as they are, 0 to 1 as black to white, others from their least to their greatest."""
    if field.dtype != torch.uint8:
        low, high = field.min(), field.max()
        if low < 0 or high > 1:
            field = (field - low) / (high - low).clamp(min=1e-12)
        field = (field.float() * 255).round().to(torch.uint8)
    pixels = field.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")


def _words(sample: Sample) -> str:
    lines: list[str] = []
    for name, field in sample.items():
        if field.ndim == 1 and not field.is_floating_point():
            lines += _wrapped(bytes(field[:400].clamp(0, 255).to(torch.uint8).tolist()).decode(errors="replace"))
        elif field.ndim == 1:
            lines += [name, *(f"{number:.4g}" for number in field[:8].tolist())]
        elif field.ndim > 1:
            lines.append(f"{name} {list(field.shape)}")
    return "\n".join(lines[: _CELL // 12])


def _wrapped(text: str) -> list[str]:
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return [plain[at : at + _LETTERS] for at in range(0, len(plain), _LETTERS)]


def _caption(sample: Sample, classes: Sequence[str]) -> str:
    numbers = {name: field for name, field in sample.items() if field.ndim == 0}
    return ", ".join(
        _named(int(field), classes) if name == "label" and classes else f"{name} {field.item():.4g}"
        for name, field in numbers.items()
    )
