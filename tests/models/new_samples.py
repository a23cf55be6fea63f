"""1,000 new samples for a model of each kind, in files: samples like its data, and samples with extreme values."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from tests.models.kinds import LINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT: Final = 1000
_FORMATS: Final = ("PNG", "BMP", "TIFF", "PPM")
_LONGEST_LINE: Final = 8
_EXTREME: Final = (0.0, -0.0, 1.0, -1.0, 1e-40, 1e6, -1e6, 255.0)
"""Values of whole samples: both zeros, a subnormal number, and numbers far from all other values."""

Draw = np.random.Generator


def _pictures(folder: Path, draw: Draw) -> None:
    for number in range(COUNT):
        dark = draw.choice([0, 150])
        pixels = draw.integers(dark, dark + 100, (8, 8)).astype(np.uint8)
        if number < len(_FORMATS):
            pixels[:] = (0, 255, 127, 128)[number]
        color = Image.fromarray(pixels).convert("RGB" if number % 3 == 0 else "L")
        body = io.BytesIO()
        color.save(body, _FORMATS[number % len(_FORMATS)])
        (folder / f"{number:04}.png").write_bytes(body.getvalue())  # a picture is recognized by its content


def _rows(draw: Draw) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"color": str(draw.choice(["red", "green", "blue"])), "height": height, "width": width}
        for height, width in draw.uniform(1, 9, (COUNT, 2)).round(2).tolist()
    ]
    for number, value in enumerate(_EXTREME):
        rows[number] |= {"height": value, "width": -value}
    for number, color in enumerate([None, "", "NA", "unseen", "red ", "Red"], start=len(_EXTREME)):
        rows[number]["color"] = color
    rows[20]["width"], rows[21]["width"], rows[22]["width"] = None, "", "nan"
    return rows


def _table(folder: Path, draw: Draw) -> None:
    rows = _rows(draw)
    lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
    (folder / "rows.csv").write_text("\n".join([",".join(rows[0]), *lines]) + "\n")


def rows_of(kind: str) -> list[dict[str, Any]] | None:
    """Return the samples of a table as JSON objects; None for other kinds."""
    return _rows(_generator(kind)) if kind == "table" else None


def _floats(*shape: int, is_normal: bool = False) -> Callable[[Path, Draw], None]:
    def write(folder: Path, draw: Draw) -> None:
        values = draw.normal(size=(COUNT, *shape)) if is_normal else draw.random((COUNT, *shape)) + draw.integers(0, 2)
        for number, value in enumerate(_EXTREME):
            values[number] = value
        np.save(folder / "samples.npy", values.astype(np.float32))

    return write


def _two_inputs(folder: Path, draw: Draw) -> None:
    values = draw.random((COUNT, 1, 4, 4), dtype=np.float32)
    np.savez(folder / "samples.npz", image=values, size=draw.integers(0, 5, COUNT))


def _sequences(folder: Path, draw: Draw) -> None:
    """Write the beginnings of lines, one file for each length."""
    of_length = defaultdict(list)
    for number in range(COUNT):
        line = LINE.format(draw.integers(0, 1000), "many " * int(draw.integers(0, 7))).encode()
        begin = bytes([0, 10, 255][:1]) if number == 0 else line[: int(draw.integers(1, _LONGEST_LINE + 1))]
        of_length[len(begin)].append([*begin])
    _write_lengths(folder, of_length)


def _tokens(folder: Path, draw: Draw) -> None:
    of_length = defaultdict(list)
    for _ in range(COUNT):
        tokens = draw.integers(0, 6, int(draw.integers(1, 8))).tolist()
        of_length[len(tokens)].append(tokens)
    _write_lengths(folder, of_length)


def _write_lengths(folder: Path, of_length: dict[int, list[list[int]]]) -> None:
    for length, rows in sorted(of_length.items()):
        np.save(folder / f"{length}.npy", np.array(rows, dtype=np.int64))


_WRITE: Final[dict[str, Callable[[Path, Draw], None]]] = {
    "pictures": _pictures,
    "table": _table,
    "faces": _floats(1, 4, 4),
    "two-inputs": _two_inputs,
    "regression": _floats(5, is_normal=True),
    "segmentation": _floats(1, 8, 8),
    "verification": _floats(1, 4, 4),
    "multi-label": _floats(4, is_normal=True),
    "multi-task": _floats(1, 4, 4),
    "sequences": _sequences,
    "tokens": _tokens,
    "plain": _floats(1, 4, 4),
    "plain-tensors": _floats(1, 4, 4),
}


def write_samples(kind: str, folder: Path) -> list[Path]:
    """Write the samples of a kind into an empty folder, and return the files in order."""
    _WRITE[kind](folder, _generator(kind))
    return sorted(folder.iterdir())


def _generator(kind: str) -> Draw:
    return np.random.default_rng([*kind.encode()])
