"""Broken pictures: every error names the file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.training.readers.picture_files import png, save_picture, tiff
from trainer.base.errors import DatasetError
from trainer.data.pictures import SUFFIXES
from trainer.data.reader import ImagesReader
from trainer.training.readers.exact_pixels import FORMATS
from trainer.training.readers.images import decode_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.torch
READERS = [
    ImagesReader.model_validate({"kind": "images", **options})
    for options in (
        {},
        {"mode": "L", "dtype": "uint8"},
        {"mode": "RGBA", "size": (7, 5), "resize": "crop"},
        {"frames": "first", "alpha": "white", "size": (7, 5), "resize": "pad"},
        {"frames": "first", "alpha": "drop", "size": (7, 5), "resize": "fit"},
        {"white": 1, "mode": "L"},
    )
]


def _files() -> dict[str, bytes]:
    """Return pictures of all supported formats and of special modes, by name."""
    values = np.random.default_rng(0)
    color = values.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    gray, wide = values.integers(0, 65536, (24, 20), dtype=np.uint16), values.integers(0, 65536, (9, 8, 4))
    image = Image.fromarray(color)
    return {
        **{kind: save_picture(color, kind) for kind in FORMATS},
        "MPO": save_picture(image, "MPO", save_all=True, append_images=[image]),
        "APNG": save_picture(image, "PNG", save_all=True, append_images=[Image.new("RGB", image.size)]),
        "palette": save_picture(image.convert("P"), "PNG", transparency=bytes([255, 0, 3])),
        "CMYK": save_picture(image.convert("CMYK"), "JPEG"),
        "LAB": save_picture(Image.new("LAB", (9, 9)), "TIFF"),
        "float": save_picture(values.random((24, 20), dtype=np.float32), "TIFF"),
        "PFM": save_picture(values.random((9, 9), dtype=np.float32), "PPM"),
        "gray of 16 bits": save_picture(gray, "PNG"),
        "JPEG 2000 of 16 bits": save_picture(gray, "JPEG2000"),
        "RGBA of 16 bits": png(wide, color=6),
        "gray and alpha of 16 bits": png(wide[:, :, :2], color=4),
        "TIFF of 16 bits": tiff(wide.astype("<u2").tobytes(), (9, 8), bits=(16,) * 4, photometric=2, extra=[2]),
        "LZW": save_picture(color, "TIFF", compression="tiff_lzw"),
        "RLE": save_picture(color, "TGA", compression="tga_rle"),
        "PGM of 12 bits": b"P5 3 1 4095\n\x00\x00\x08\x00\x0f\xff",
        "plain PGM": b"P2 3 1 1000\n0 500 1000\n",
        "plain PPM": b"P3 2 1 255\n0 50 100 3 4 5\n",
    }


FILES = _files()


def mutated_files(count: int) -> Iterator[bytes]:
    """Yield `count` files with changed, removed, copied and inserted bytes and bits, the same files each time."""
    draw = random.Random(33)  # noqa: S311 - test data, not for cryptography
    for _ in range(count):
        body = bytearray(draw.choice([*FILES.values()]))
        for _ in range(draw.choice((1, 1, 2, 4, 16))):
            at, other = draw.randrange(len(body) + 1), draw.randrange(len(body) + 1)
            match draw.randrange(5):
                case 0:
                    body[at : at + 1] = draw.randbytes(1)
                case 1 if at < len(body):
                    body[at] ^= 1 << draw.randrange(8)
                case 2:
                    del body[at:]
                case 3:
                    body[at : at + 4] = body[other : other + 4]
                case _:
                    body[at:at] = draw.randbytes(3)
        yield bytes(body)


@pytest.mark.parametrize("count", [600, pytest.param(40_000, marks=pytest.mark.long)])
def test_a_mutated_picture_has_values_in_range_or_an_error_that_names_it(count: int) -> None:
    read = 0
    for number, body in enumerate(mutated_files(count)):
        try:
            found = decode_pixels(body, READERS[number % len(READERS)], where="a/1.png")
        except DatasetError as fault:
            assert str(fault).startswith("a/1.png ")  # noqa: PT017 - some files raise no error
        else:
            read += 1
            assert found.ndim == 3
            assert found.dtype == np.uint8 or 0 <= found.min() <= found.max() <= 1
    assert 0.1 * count < read < 0.5 * count


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("plain")])
def test_a_truncated_picture_is_never_read_as_a_complete_one(name: str) -> None:
    body = FILES[name]
    reader = ImagesReader(kind="images", frames="first", alpha="drop", white=1 if name in {"float", "PFM"} else None)
    whole = decode_pixels(body, reader, where="a/1.png")
    for part in range(12):
        try:
            found = decode_pixels(body[: len(body) * part // 12], reader, where="a/1.png")
        except DatasetError:
            continue
        assert np.array_equal(found, whole)
    assert part


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_every_suffix_is_read(suffix: str) -> None:
    Image.init()
    kind = Image.registered_extensions()[suffix]
    body = save_picture(Image.new("F", (8, 8), 1) if suffix == ".pfm" else Image.new("RGB", (8, 8), "white"), kind)
    reader = ImagesReader(kind="images", white=1 if suffix == ".pfm" else None)
    assert decode_pixels(body, reader, where="a/1.png").min() > 0.98


def test_no_format_is_read_by_starting_a_program() -> None:
    assert not {"EPS", "PDF", "WMF", "BUFR", "GRIB", "HDF5"} & set(FORMATS)
