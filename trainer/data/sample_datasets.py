"""Create the sample datasets from data in locked packages, without downloads.

The bytes are equal on every machine: `.npy` headers are written here, because NumPy's headers have changed between versions, values are
only rounded to 32 bits, and rows are ordered by sha256. Two packages sort their rows by class or by writer; after `shuffled`, any range of
rows is a fair split.
"""

from __future__ import annotations

import hashlib
import pydoc_data.topics
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from skimage.data import lfw_subset
from sklearn.datasets import load_diabetes, load_digits

from trainer.data.file_formats import array_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_FACES: Final = 100
"""The number of crops with a face; they are the first rows."""
_CUSTOMERS: Final = 2000
_SHAPES: Final = 300
_SIDE: Final = 16
"""Height and width of a picture of shapes."""

Fields = dict[str, "NDArray[Any]"]


def make_sample(name: str, folder: Path) -> None:
    """Write the files of the sample dataset `name`, one of `SAMPLES`, into `folder`."""
    for file, body in SAMPLES[name]().items():
        (folder / file).write_bytes(body)


def digits() -> dict[str, bytes]:
    """1797 handwritten digits: images float32 [1797, 1, 8, 8] in sixteenths from 0 to 1, labels int64 [1797] from 0 to 9."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype("<f4")
    return _arrays("digits", {"images.npy": images, "labels.npy": data.target.astype("<i8")})


def diabetes() -> dict[str, bytes]:
    """442 patients: features float32 [442, 10], not standardized; targets float32 [442], the progression after a year."""
    data = load_diabetes(scaled=False)
    return _arrays("diabetes", {"features.npy": data.data.astype("<f4"), "targets.npy": data.target.astype("<f4")})


def faces() -> dict[str, bytes]:
    """200 crops: images float32 [200, 1, 25, 25] from 0 to 1, labels int64 [200], 1 for a face and 0 otherwise."""
    images = lfw_subset()[:, None].astype("<f4")  # type: ignore[no-untyped-call]
    labels = (np.arange(len(images)) < _FACES).astype("<i8")
    return _arrays("faces", {"images.npy": images, "labels.npy": labels})


def masks() -> dict[str, bytes]:
    """300 pictures of squares and discs: images float32 [300, 1, 16, 16] from 0 to 1, masks uint8 [300, 16, 16]: 1 square, 2 disc."""
    drawings = [_shapes(number) for number in range(_SHAPES)]
    pictures, labels = (np.stack(each) for each in zip(*drawings, strict=True))
    return {"images.npy": npy(pictures[:, None]), "masks.npy": npy(labels)}


def _shapes(number: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a picture and its mask, drawn from the bytes of SHAKE-256: a square and a disc, at random positions, in noise."""
    drawn = np.frombuffer(hashlib.shake_256(f"masks/{number}".encode()).digest(_SIDE * _SIDE + 8), dtype=np.uint8)
    image, (rows, columns) = drawn[8:].reshape(_SIDE, _SIDE).astype("<f4") / 1024, np.mgrid[:_SIDE, :_SIDE]
    mask = np.zeros((_SIDE, _SIDE), dtype="|u1")
    for kind in (1, 2):
        y, x, size, light = (int(each) for each in drawn[4 * kind - 4 : 4 * kind])
        radius = 2 + size % 3
        away = rows - (radius + y % (_SIDE - 2 * radius)), columns - (radius + x % (_SIDE - 2 * radius))
        is_square = kind == 1
        inside = (
            np.maximum(*np.abs(away)) <= radius - 1 if is_square else np.square(away).sum(axis=0) <= radius * radius
        )
        mask[inside] = kind
        image[inside] += np.float32(0.375 + light % 64 / 256)
    return np.minimum(image, np.float32(1)), mask


def customers() -> dict[str, bytes]:
    """2000 synthetic customers: features float32 [2000, 3], categories int64 [2000, 2] from 2, labels int64 [2000].

    A label is 1 if the customer left. The numbers are drawn from the bytes of SHAKE-256. About nine in ten labels follow from the other
    values; the others are random.
    """
    drawn = np.frombuffer(hashlib.shake_256(b"customers").digest(_CUSTOMERS * 12), dtype="<u2").reshape(_CUSTOMERS, 6)
    months, charge = 1 + drawn[:, 0].astype("<i8") % 72, 20 + drawn[:, 1].astype("<i8") % 90
    contract, payment = drawn[:, 2].astype("<i8") % 3, drawn[:, 3].astype("<i8") % 4
    score = 2 * charge - 3 * months + 60 * (contract == 0) + 20 * (payment == 1) - 80
    left = np.where(drawn[:, 4] % 10 == 0, drawn[:, 5] % 2, score > 0)
    return {
        "features.npy": npy(np.stack([months, charge, months * charge], axis=1).astype("<f4")),
        "categories.npy": npy(2 + np.stack([contract, payment], axis=1)),
        "labels.npy": npy(left.astype("<i8")),
    }


def topics() -> dict[str, bytes]:
    """The help topics of the running Python (as `help("if")` prints them), each below a line `# name`."""
    named = sorted(pydoc_data.topics.topics.items())
    return {"topics.txt": "\n".join(f"# {name}\n\n{text.strip()}\n" for name, text in named).encode()}


SAMPLES: Final[dict[str, Callable[[], dict[str, bytes]]]] = {
    make.__name__: make for make in (customers, diabetes, digits, faces, masks, topics)
}


def shuffled(name: str, rows: int) -> list[int]:
    """Return the row numbers in an order that never changes: by the sha256 of `name/row`."""
    return sorted(range(rows), key=lambda row: hashlib.sha256(f"{name}/{row}".encode()).digest())


def npy(array: NDArray[Any]) -> bytes:
    """Return an array as a `.npy` file of version 1.0 (NumPy's NEP 1), with a header that depends only on its dtype and shape."""
    return array_head(array.dtype.str, array.shape) + np.ascontiguousarray(array).tobytes()


def _arrays(name: str, arrays: Fields) -> dict[str, bytes]:
    order = np.array(shuffled(name, len(next(iter(arrays.values())))), dtype="<i8")
    return {file: npy(array[order]) for file, array in arrays.items()} | {"rows.npy": npy(order)}
