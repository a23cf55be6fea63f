"""Drawing of samples as a PNG in rows of eight, with titles and captions; for a dataset, one row per split."""

from __future__ import annotations

import functools
import io
import unicodedata
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import torch
from PIL import Image, ImageDraw, ImageFont

from trainer.base.suggestions import counted, listed
from trainer.data.splits import select
from trainer.training.readers import Pick, open_samples
from trainer.training.readers.samples import text_of_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.training.readers import Sample, Samples

EACH: Final = 8
"""Number of samples per split and per row."""
_CLASSES: Final = 12
"""Maximum number of classes whose counts are shown."""
_CELL: Final = 112
_GAP: Final = 8
_LINE: Final = 15
"""Pixels from one line of text to the next."""
_CAPTION_LINES: Final = 2
_TITLE_LINES: Final = 3
_INK: Final = "black"
_FONT: Final = "wqy-microhei.ttc"
"""A font with Latin, Greek, Cyrillic, Chinese, Japanese and Korean letters; the images contain it."""
_FONT_NAME: Final = "WenQuanYi Micro Hei"
_PACKAGE: Final = "fonts-wqy-microhei"
"""The Debian package of the font."""
_FONT_SIZE: Final = 12
_GROUND: Final = "#eeeeee"
_NO_LETTER: Final = "\U0010fffe"
"""A noncharacter: a font draws it like every letter that it lacks."""


def picture_of(dataset: Dataset, files: Files) -> bytes:
    """Return a PNG with a few samples of each split, alternating the classes; without declared splits, of the whole dataset."""
    return picture_of_samples(dataset, open_samples(dataset, files))


def picture_of_samples(dataset: Dataset, samples: Samples) -> bytes:
    """Return the PNG of `picture_of` for opened samples."""
    splits = {name: select(name, dataset.splits, samples.layout, dataset=dataset.name) for name in dataset.splits}
    rows = [_row(name, chosen, samples) for name, chosen in (splits or {dataset.title: range(len(samples))}).items()]
    return drawn(rows, note=numbered_note(samples.classes))


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRow:
    """A row of samples, with a title and captions."""

    title: str
    samples: Sequence[Sample]
    captions: Sequence[str]
    decode: Callable[[Sequence[int]], str] = text_of_bytes
    """Converts a field of whole numbers to text."""

    @classmethod
    def several(cls, title: str, samples: Sequence[Sample], captions: Sequence[str]) -> list[PictureRow]:
        """Split samples into rows; the first row has the title."""
        starts = range(0, len(samples), EACH)
        return [
            cls(title="" if at else title, samples=samples[at : at + EACH], captions=captions[at : at + EACH])
            for at in starts
        ]


def _row(name: str, chosen: Sequence[int], samples: Samples) -> PictureRow:
    labels = samples.labels(chosen)
    shown = chosen[:EACH] if labels is None else [chosen[at] for at in _in_turn(labels)]
    drawn = [samples.sample(Pick(index=index)) for index in shown]
    counts = "" if labels is None else f": {_counted(labels, samples.classes)}"
    captions = [_caption(each, samples.classes) for each in drawn]
    title, decode = f"{name}, {counted(len(chosen), 'sample')}{counts}", samples.alphabet.decode
    return PictureRow(title=title, samples=drawn, captions=captions, decode=decode)


def _in_turn(labels: Sequence[int]) -> list[int]:
    """Return the indices of samples with alternating classes: the first of each class, then the second of each."""
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
    return ", ".join(f"{class_text(label, classes)} ({counts[label]:,})" for label in sorted(counts))


def class_text(label: int, classes: Sequence[str]) -> str:
    """Return the name of a class, or its number if it has no name or the font lacks a letter of the name."""
    name = unicodedata.normalize("NFC", classes[label]) if 0 <= label < len(classes) else ""
    return name if name and all(map(_has_glyph, name)) else str(label)


def numbered_note(classes: Sequence[str]) -> str:
    """Return the note that lists the classes shown by number because the font lacks their letters; empty without such classes."""
    numbers = [
        str(label) for label, name in enumerate(classes) if name and class_text(label, classes) == str(label) != name
    ]
    if not numbers:
        return ""
    which = f"Class {numbers[0]} is" if len(numbers) == 1 else f"Classes {listed(numbers)} are"
    font = _font().getname()[0]
    more = "" if font == _FONT_NAME else f"; the package {_PACKAGE} has East Asian letters"
    return f"{which} shown by number: the font {font} does not have the letters of the name{more}."


def drawn(rows: Sequence[PictureRow], *, note: str = "") -> bytes:
    """Return a PNG of the rows and a note below them. Its bytes depend only on samples, texts, font and Pillow's version."""
    width = EACH * (_CELL + _GAP) - _GAP
    titles = [_wrapped(row.title, width, most=_TITLE_LINES) for row in rows]
    captions = [[_wrapped(caption, _CELL, most=_CAPTION_LINES) for caption in row.captions] for row in rows]
    heights = [
        _LINE * (len(title) + max(map(len, below), default=0)) + _CELL + _GAP
        for title, below in zip(titles, captions, strict=True)
    ]
    noted = _wrapped(note, width, most=_TITLE_LINES)
    sheet = Image.new("RGB", (width + 2 * _GAP, _GAP + sum(heights) + (_LINE * len(noted))), "white")
    pen, top = ImageDraw.Draw(sheet), _GAP
    for row, title, below, height in zip(rows, titles, captions, heights, strict=True):
        _write(pen, (_GAP, top), title)
        for column, (sample, caption) in enumerate(zip(row.samples, below, strict=True)):
            left, upper = _GAP + column * (_CELL + _GAP), top + _LINE * len(title)
            sheet.paste(_cell(sample, row.decode), (left, upper))
            _write(pen, (left, upper + _CELL), caption)
        top += height
    _write(pen, (_GAP, top), noted)
    body = io.BytesIO()
    sheet.save(body, "PNG")
    return body.getvalue()


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """Return the font of the images; if it is missing, return the default font of Pillow, which has Latin letters only."""
    try:
        return ImageFont.truetype(_FONT, _FONT_SIZE)
    except OSError:
        font = ImageFont.load_default(_FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow returns this type if a size is passed
    return font


@functools.cache
def _has_glyph(letter: str) -> bool:
    """Return whether the font has a letter; unprinted characters, such as joiners, need no glyph."""
    return not letter.isprintable() or bytes(_font().getmask(letter)) != bytes(_font().getmask(_NO_LETTER))


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        pen.text((place[0], place[1] + number * _LINE), line, fill=_INK, font=_font())


def _wrapped(text: str, width: int, *, most: int) -> list[str]:
    """Wrap a text to at most `most` lines of `width` pixels, between words if possible; an ellipsis replaces the rest."""
    lines: list[str] = []
    letters = (letter if letter.isprintable() else " " for letter in unicodedata.normalize("NFC", text))
    rest = "".join(letter if _has_glyph(letter) else "?" for letter in letters).strip()
    while rest and len(lines) < most:
        fits = _fitting(rest, width)
        if fits == len(rest):
            return [*lines, rest]
        if len(lines) == most - 1:
            return [*lines, f"{rest[: _fitting(rest, width - _width('…'))].rstrip()}…"]
        space = rest.rfind(" ", 0, fits + 1)
        end = space if space > 0 else fits
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines


def _fitting(text: str, width: float) -> int:
    return max(1, bisect_right(range(1, len(text) + 1), width, key=lambda count: _width(text[:count])))


def _width(text: str) -> float:
    return _font().getlength(text)


def _cell(sample: Sample, decode: Callable[[Sequence[int]], str]) -> Image.Image:
    """Draw the first field that is a picture; if there is none, the fields as text."""
    shown = next((_shown(field) for field in sample.values() if is_picture(field)), None)
    cell = Image.new("RGB", (_CELL, _CELL), _GROUND)
    if shown is None:
        _write(ImageDraw.Draw(cell), (4, 2), _words(sample, decode))
        return cell
    scale = _CELL / max(shown.size)
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    cell.paste(shown.resize(size, Image.Resampling.NEAREST), ((_CELL - size[0]) // 2, (_CELL - size[1]) // 2))
    return cell


def is_picture(field: Tensor) -> bool:
    """Return whether a field of a sample is a picture `[channels, height, width]`."""
    return field.ndim == 3 and field.shape[0] in {1, 3, 4} and min(field.shape[1:]) > 1  # noqa: PLR2004 - channels, height, width


def _shown(field: Tensor) -> Image.Image:
    """Draw numbers as gray or color: bytes unchanged, 0 to 1 as black to white, other ranges scaled from minimum to maximum.

    Transparency shows the background of the cell.
    """
    if field.dtype != torch.uint8:
        low, high = field.min(), field.max()
        if low < 0 or high > 1:
            field = (field - low) / (high - low).clamp(min=1e-12)
        field = (field.float() * 255).round().to(torch.uint8)
    pixels = field.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, _GROUND), image).convert("RGB")
    return image.convert("RGB")


def _words(sample: Sample, decode: Callable[[Sequence[int]], str]) -> list[str]:
    lines: list[str] = []
    for name, field in sample.items():
        if field.ndim == 1 and not field.is_floating_point():
            lines += _wrapped(decode(field[:400].tolist()), _CELL - 8, most=_CELL // _LINE)
        elif field.ndim == 1:
            lines += [name, *(f"{number:.4g}" for number in field[:8].tolist())]
        elif field.ndim > 1:
            lines.append(f"{name} {list(field.shape)}")
    return [each for line in lines[: _CELL // _LINE] for each in _wrapped(line, _CELL - 8, most=1)]


def _caption(sample: Sample, classes: Sequence[str]) -> str:
    numbers = {name: field for name, field in sample.items() if field.ndim == 0}
    return ", ".join(
        class_text(int(field), classes) if name == "label" and classes else f"{name} {field.item():.4g}"
        for name, field in numbers.items()
    )
