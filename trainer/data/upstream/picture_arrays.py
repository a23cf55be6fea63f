"""Convert pictures in the formats of MNIST and CIFAR to `.npy` arrays, without NumPy.

An IDX file has a magic number (0, 0, the type, the number of axes), the length of each axis, and the values in C order; numbers are
big-endian (http://yann.lecun.com/exdb/mnist/, The IDX file format). A record of CIFAR's binary version has a byte for each label, then the
bytes of the pixels by channel, row and column (https://www.cs.toronto.edu/~kriz/cifar.html, Binary version).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import DatasetError
from trainer.data.file_formats import array_head

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

IMAGE: Final = "image"
"""The field of the pictures."""
_ROWS: Final = 1024
"""Pictures in a block."""
_MOST_ROWS: Final = 2**32
"""Limit of the number of pictures, so that every header has the same length."""
_UNSIGNED_BYTES: Final = 0x0800
_DAMAGE: Final = (gzip.BadGzipFile, zlib.error, EOFError)

Shape = tuple[int, int, int]
"""Channels, height and width of a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Consecutive pictures of a split, and a byte for each of their labels by field."""

    split: str
    pictures: bytes
    labels: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxFiles:
    """Two IDX files for each split, compressed by gzip: gray pictures, and their labels."""

    files: Mapping[str, tuple[str, str]]
    """The names of both files by split."""
    shape: Shape
    classes: Mapping[str, int]
    """The number of classes by the field of the labels, which is one."""

    def blocks(self, folder: Path) -> Iterator[_Block]:
        """Read the pictures in `folder`. Raise `DatasetError` for a file that is damaged or has another format."""
        (field,) = self.classes
        for split, names in self.files.items():
            images, labels = (_require_file(folder, name) for name in names)
            with gzip.open(images) as pictures, gzip.open(labels) as numbers:
                rows = _idx_rows(pictures, names[0], self.shape[1:])
                if (labelled := _idx_rows(numbers, names[1], ())) != rows:
                    raise _rejected(names[1], f"it has {labelled:,} labels", f"{rows:,}, one for each picture")
                for start in range(0, rows, _ROWS):
                    count = min(_ROWS, rows - start)
                    body = _read(pictures, count * math.prod(self.shape), names[0])
                    yield _Block(split=split, pictures=body, labels={field: _read(numbers, count, names[1])})
                _require_end(pictures, names[0])
                _require_end(numbers, names[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFiles:
    """Files of records, each a byte for each label and a picture."""

    files: Mapping[str, tuple[str, ...]]
    """The paths of the files by split."""
    shape: Shape
    classes: Mapping[str, int]
    """The number of classes by the field of the label, in the order of the labels in a record."""

    def blocks(self, folder: Path) -> Iterator[_Block]:
        """Read the pictures in `folder`. Raise `DatasetError` for a file that is absent or does not consist of records."""
        head = len(self.classes)
        size = head + math.prod(self.shape)
        for split, names in self.files.items():
            for path, name in ((_require_file(folder, name), name) for name in names):
                found = path.stat().st_size
                if not found or found % size:
                    raise _rejected(name, f"it has {found:,} bytes", f"records of {size:,} bytes")
                with path.open("rb") as file:
                    while block := file.read(_ROWS * size):
                        view = memoryview(block)
                        pictures = b"".join(view[at + head : at + size] for at in range(0, len(block), size))
                        labels = {field: block[number::size] for number, field in enumerate(self.classes)}
                        yield _Block(split=split, pictures=pictures, labels=labels)


def write_arrays(pictures: IdxFiles | RecordFiles, source: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Write `image.npy`, uint8 [rows, *shape], and an array int64 [rows] for each label, into the new folder `folder`.

    Return the first and the end row of each split. Raise `DatasetError` for files in `source` that have another format, and for a label
    outside of its classes.
    """
    ends: dict[str, int] = {}
    labels = {field: bytearray() for field in pictures.classes}
    with disk_faults(folder):
        folder.mkdir()
        with (folder / f"{IMAGE}.npy").open("xb") as file:
            file.write(array_head("|u1", (_MOST_ROWS, *pictures.shape)))
            for block in pictures.blocks(source):
                file.write(block.pictures)
                for field, numbers in block.labels.items():
                    labels[field] += numbers
                    ends[block.split] = len(labels[field])
            file.seek(0)
            file.write(array_head("|u1", (max(ends.values()), *pictures.shape)))
        for field, values in labels.items():
            (folder / f"{field}.npy").write_bytes(_label_array(field, values, pictures.classes[field]))
    return dict(zip(ends, zip([0, *ends.values()], ends.values(), strict=False), strict=True))


def _label_array(field: str, values: bytearray, classes: int) -> bytes:
    if (largest := max(values)) >= classes:
        raise _rejected(f"{field} of picture {values.index(largest):,}", f"it is {largest}", f"0 to {classes - 1}")
    return array_head("<i8", (len(values),)) + struct.pack(f"<{len(values)}q", *values)


def _idx_rows(file: BinaryIO | gzip.GzipFile, name: str, lengths: tuple[int, ...]) -> int:
    """Read the header of an IDX file; return the number of rows. `lengths` are the expected lengths of the other axes."""
    axes = 1 + len(lengths)
    magic, rows, *found = struct.unpack(f">{1 + axes}I", _read(file, 4 * (1 + axes), name))
    if magic != _UNSIGNED_BYTES + axes:
        raise _rejected(name, f"its magic number is {magic:#010x}", f"{_UNSIGNED_BYTES + axes:#010x}")
    if tuple(found) != lengths or not rows:
        raise _rejected(name, f"its shape is {[rows, *found]}", f"{['rows', *lengths]}".replace("'", ""))
    return int(rows)


def _read(file: BinaryIO | gzip.GzipFile, size: int, name: str) -> bytes:
    try:
        data = file.read(size)
    except _DAMAGE as fault:
        raise _rejected(name, f"it is damaged ({fault})", "a gzip file") from fault
    if len(data) != size:
        raise _rejected(name, f"it ends {size - len(data):,} bytes early", "as many values as its header states")
    return data


def _require_end(file: gzip.GzipFile, name: str) -> None:
    try:
        is_longer = bool(file.read(1))  # the end of a gzip file has its checksum
    except _DAMAGE as fault:
        raise _rejected(name, f"it is damaged ({fault})", "a gzip file") from fault
    if is_longer:
        raise _rejected(name, "bytes follow its values", "as many values as its header states")


def _require_file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise _rejected(name, "the file is missing", "a file of the archive")
    return folder / name


def _rejected(what: str, found: str, expected: str) -> DatasetError:
    hint = "nothing was published; convert the source yourself, and publish the arrays: reprise data publish NAME DIR"
    return DatasetError(f"{what}: {found}; expected {expected}", hint=hint)
