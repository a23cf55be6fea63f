"""BMP files that Pillow decodes differently from their header."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.readers.picture_files import bmp
from trainer.base.errors import DatasetError
from trainer.data.reader import ImagesReader
from trainer.training.readers.images import decode_pixels

pytestmark = pytest.mark.torch
BLACK_AND_WHITE = bytes([0, 0, 0, 0, 255, 255, 255, 0])


def decode_row(body: bytes, **options: Any) -> list[Any]:
    reader = ImagesReader.model_validate({"kind": "images", "mode": "L", "dtype": "uint8", **options})
    return list(decode_pixels(body, reader, where="a.bmp").squeeze().tolist())


@pytest.mark.parametrize(
    ("bits", "raw"), [(8, bytes([0, 1, 1, 0])), (4, bytes([0x01, 0x10, 0, 0])), (1, bytes([0x60, 0, 0, 0]))]
)
def test_a_palette_of_black_and_white_is_read_with_any_number_of_bits(bits: int, raw: bytes) -> None:
    body = bmp(raw, (1, 4), bits=bits, colors=BLACK_AND_WHITE)
    assert decode_row(body) == [0, 255, 255, 0]
    assert decode_row(body[14:]) == [0, 255, 255, 0]  # a DIB, which is a BMP without the file header


def test_a_palette_of_16_grays_is_read_with_4_bits() -> None:
    grays = b"".join(bytes([value, value, value, 0]) for value in range(16))
    rows = bytes([0x01, 0x23, 0, 0]) + bytes([0x45, 0x6F, 0, 0])
    assert decode_row(bmp(rows, (2, 4), bits=4, colors=grays)) == [[4, 5, 6, 15], [0, 1, 2, 3]]


def test_a_mask_with_a_third_color_is_rejected() -> None:
    with pytest.raises(DatasetError, match=r"a\.bmp has a pixel of color 7, counted from 0, and a palette of 2 colors"):
        decode_row(bmp(bytes([0, 1, 7, 0]), (1, 4), bits=8, colors=BLACK_AND_WHITE))


@pytest.mark.parametrize("fourth", [(0, 0), (255, 255)])
def test_constant_fourth_bytes_are_ignored(fourth: tuple[int, int]) -> None:
    body = bmp(bytes([3, 2, 1, fourth[0], 6, 5, 4, fourth[1]]), (1, 2), bits=32)
    assert decode_row(body, mode="RGBA") == [[1, 4], [2, 5], [3, 6], [255, 255]]


def test_varying_fourth_bytes_are_rejected_unless_dropped() -> None:
    body = bmp(bytes([3, 2, 1, 255, 6, 5, 4, 0]), (1, 2), bits=32)
    for mode in ("L", "RGB", "RGBA"):
        with pytest.raises(DatasetError, match="is a 32-bit BMP without a stated alpha channel"):
            decode_row(body, mode=mode)
    assert decode_row(body, mode="RGB", alpha="drop") == [[1, 4], [2, 5], [3, 6]]
