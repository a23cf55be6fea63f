"""The values of each pixel mode, compared with values computed by hand; rejected files and modes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.training.readers.picture_files import bmp, gif, png, save_picture, tiff
from trainer.base.errors import DatasetError
from trainer.data.reader import MOST_PIXELS, ImagesReader
from trainer.training.readers.images import decode_pixels

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.torch
GRAY16 = np.array([[0, 255, 256], [4095, 32768, 65535]], dtype=np.uint16)
RGB16 = np.array([[[0, 1, 255], [256, 4095, 65535]]], dtype=np.uint16)
RGB8 = np.array([[[10, 20, 30], [200, 100, 0]]], dtype=np.uint8)
RGBA8 = np.array([[[10, 20, 30, 255], [200, 100, 0, 51]]], dtype=np.uint8)
FLOATS = np.array([[0.0, 0.25, 1.0]], dtype=np.float32)


def decode(body: bytes, **options: Any) -> np.ndarray[Any, Any]:
    return decode_pixels(body, ImagesReader.model_validate({"kind": "images", "mode": "L", **options}), where="a/1.png")


def decode_values(body: bytes, **options: Any) -> list[Any]:
    return list(decode(body, **options).squeeze().tolist())


def exif_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def channels_first(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels.transpose(2, 0, 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_gray_of_16_bits_keeps_every_bit(kind: str) -> None:
    body = save_picture(GRAY16, kind)
    assert np.array_equal(decode(body)[0], GRAY16.astype(np.float32) / np.float32(65535))
    assert decode(body, dtype="uint8")[0].tolist() == [[0, 1, 1], [16, 128, 255]]
    assert np.array_equal(decode(body, mode="RGB"), np.stack([decode(body)[0]] * 3))
    assert decode_values(body, mode="RGBA")[3] == [[1, 1, 1], [1, 1, 1]]


def test_gray_of_16_bits_is_read_in_either_byte_order() -> None:
    big = Image.frombytes("I;16B", (3, 2), GRAY16.astype(">u2").tobytes())
    assert np.array_equal(decode(save_picture(big, "TIFF")), decode(save_picture(GRAY16, "TIFF")))
    assert np.array_equal(
        decode(save_picture(big, "PNG")), decode(save_picture(GRAY16, "TIFF", compression="tiff_lzw"))
    )


def test_a_declared_white_is_scaled_to_one() -> None:
    body = save_picture(np.array([[0, 819, 4095]], dtype=np.uint16), "PNG")
    assert decode_values(body, white=4095) == [0, np.float32(0.2), 1]
    assert decode_values(body, white=4095, dtype="uint8") == [0, 51, 255]


@pytest.mark.parametrize(
    ("body", "options", "line"),
    [
        (
            save_picture(GRAY16, "PNG"),
            {"white": 4095},
            r"a/1\.png has the value 65535; expected 0 to 4095, the declared white",
        ),
        (save_picture(RGB8, "PNG"), {"white": 4095}, r"has 8 bits per channel \(mode RGB\); the declared white, 4095,"),
        (
            save_picture(FLOATS, "TIFF"),
            {},
            r"has floating-point values \(mode F\); expected a declared white value",
        ),
        (save_picture(FLOATS - 1, "TIFF"), {"white": 1}, "has the value -1; expected 0 to 1, the declared white"),
        (save_picture(np.full_like(FLOATS, np.nan), "TIFF"), {"white": 1}, "has pixels that are NaN or infinite"),
        (save_picture(np.full_like(FLOATS, np.inf), "TIFF"), {"white": 1}, "has pixels that are NaN or infinite"),
        (
            save_picture(GRAY16.astype(np.int32), "TIFF"),
            {},
            r"has integers of more than 16 bits, or signed integers \(mode I\)",
        ),
        (save_picture(GRAY16.astype(np.int32) - 9, "TIFF"), {"white": 1e6}, "has the value -9; expected 0 to 1000000"),
        (b"P5 1 1 100\n\x65", {}, "has the value 101; expected 0 to 100, its own white"),
    ],
)
def test_values_with_an_ambiguous_scale_are_rejected(body: bytes, options: dict[str, Any], line: str) -> None:
    with pytest.raises(DatasetError, match=line):
        decode(body, **options)


def test_unsigned_integers_of_32_bits_keep_their_highest_bit() -> None:
    body = tiff(np.array([2**30, 2**32 - 1], dtype="<u4").tobytes(), (1, 2), bits=[32], photometric=1)
    assert decode_values(body, white=2**32) == [0.25, 1]


def test_floats_and_32_bit_integers_are_divided_by_the_declared_white() -> None:
    assert decode_values(save_picture(FLOATS, "TIFF"), white=1) == [0, 0.25, 1]
    assert decode_values(save_picture(FLOATS * 8, "PPM"), white=8) == [0, 0.25, 1]
    assert decode_values(save_picture(np.array([[0, 250_000, 1_000_000]], dtype=np.int32), "TIFF"), white=1e6) == [
        0,
        0.25,
        1,
    ]


@pytest.mark.parametrize("alpha", [None, "drop"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "compressed TIFF"])
def test_colors_of_16_bits_keep_every_bit(kind: str, alpha: str | None) -> None:
    packed = _tiff16(RGB16, pack=zlib.compress, compression=[8])
    body = {"PNG": png(RGB16, color=2), "TIFF": _tiff16(RGB16), "compressed TIFF": packed}[kind]
    assert np.array_equal(
        decode(body, mode="RGB", alpha=alpha), channels_first(RGB16 / np.float32(65535)).astype(np.float32)
    )
    assert decode(body, mode="RGB", dtype="uint8").tolist() == [[[0, 1]], [[0, 16]], [[1, 255]]]


def _tiff16(pixels: np.ndarray[Any, Any], *, pack: Callable[[bytes], bytes] = bytes, **tags: Any) -> bytes:
    raw = pack(pixels.astype("<u2").tobytes())
    return tiff(raw, pixels.shape[:2], bits=(16,) * pixels.shape[2], photometric=2, **tags)


def test_alpha_of_16_bits_is_kept_composited_or_named() -> None:
    pixels = np.concatenate([RGB16, np.array([[[65535], [13107]]], dtype=np.uint16)], axis=2)
    for body in (png(pixels, color=6), _tiff16(pixels, extra=[2])):
        assert np.array_equal(decode(body, mode="RGBA"), channels_first(pixels.astype(np.float32) / np.float32(65535)))
        assert np.allclose(decode(body, mode="RGB", alpha="white")[:, 0, 1], RGB16[0, 1] / 65535 * 0.2 + 0.8, atol=1e-7)
        with pytest.raises(DatasetError, match=r"a/1\.png has transparent pixels \(mode RGBA\)"):
            decode(body)


def test_gray_and_alpha_of_16_bits_keep_every_bit() -> None:
    pixels = np.array([[[4095, 65535], [257, 0]]], dtype=np.uint16)
    whole = decode(png(pixels, color=4), mode="RGBA")
    assert np.array_equal(whole[[0, 3]], channels_first(pixels.astype(np.float32) / np.float32(65535)))
    assert decode_values(png(pixels, color=4), alpha="black") == [np.float32(4095 / 65535), 0]


def test_luma_of_colors_of_16_bits_is_not_rounded() -> None:
    found = decode(png(RGB16, color=2))
    assert np.allclose(found[0], RGB16 @ np.array([0.299, 0.587, 0.114]) / 65535, atol=1e-7)


def test_tiff_of_12_bits_is_white_at_4095_and_inverted_gray_is_reversed() -> None:
    twelve = bytes([0xFF, 0xF0, 0x00, 0x80, 0x00, 0x00])
    assert decode_values(tiff(twelve, (1, 4), bits=[12], photometric=1)) == [1, 0, np.float32(2048 / 4095), 0]
    inverted = tiff(np.array([0, 13107, 65535], dtype="<u2").tobytes(), (1, 3), bits=[16], photometric=0)
    assert decode_values(inverted) == [1, np.float32(0.8), 0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"P5 3 1 4095\n\x00\x00\x08\x00\x0f\xff", [0, 2048 / 4095, 1]),
        (b"P5 3 1 100\n\x00\x32\x64", [0, 0.5, 1]),
        (b"P2 # a comment\n3 1 1000\n0 # another\n 500 1000\n", [0, 0.5, 1]),
        (b"P2 3 1 255\n0 51 255\n", [0, 0.2, 1]),
        (b"P2 3 1 65535\n0 1 65535\n", [0, 1 / 65535, 1]),
        (b"P5 3 1 65535\n\x00\x00\x00\x01\xff\xff", [0, 1 / 65535, 1]),
        (b"P1 3 1\n1 0 1\n", [0, 1, 0]),
        (b"P6 1 1 1000\n\x00\x00\x01\xf4\x03\xe8", [0.0, 0.5, 1.0]),
        (b"P3 1 1 1000\n0 500 1000\n", [0.0, 0.5, 1.0]),
        (b"P6 1 1 5\n\x00\x01\x05", [0.0, 0.2, 1.0]),
    ],
)
def test_netpbm_is_divided_by_its_own_maximum(body: bytes, expected: list[float]) -> None:
    mode = "RGB" if body[:2] in {b"P3", b"P6"} else "L"
    assert decode_values(body, mode=mode) == [np.float32(value) for value in expected]


@pytest.mark.parametrize(("bits", "most"), [(1, 1), (2, 3), (4, 15), (8, 255)])
def test_gray_of_few_bits_is_white_at_its_greatest_value(bits: int, most: int) -> None:
    body = png(np.array([[[0], [most], [1]]]), bits=bits, color=0)
    assert decode_values(body, dtype="uint8") == [0, 255, 255 // most]


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.fromarray(RGB8), "PNG", [10, 20, 30]),
        (Image.fromarray(RGB8), "BMP", [10, 20, 30]),
        (Image.fromarray(RGB8), "TGA", [10, 20, 30]),
        (Image.fromarray(RGB8), "QOI", [10, 20, 30]),
        (Image.new("1", (2, 1), 1), "PNG", [255, 255, 255]),
        (Image.new("L", (2, 1), 7), "TIFF", [7, 7, 7]),
        (Image.new("LA", (2, 1), (7, 255)), "PNG", [7, 7, 7]),
        (Image.new("P", (2, 1), 9), "PNG", None),
        (Image.new("CMYK", (2, 1), (255, 51, 0, 51)), "TIFF", [0, 163, 204]),
        (Image.new("CMYK", (2, 1), (0, 0, 0, 0)), "JPEG", [255, 255, 255]),
        (Image.new("CMYK", (2, 1), (0, 0, 0, 255)), "JPEG", [0, 0, 0]),
        (Image.new("YCbCr", (2, 1), (80, 128, 128)), "TIFF", [80, 80, 80]),
        (Image.new("L", (8, 8), 60), "JPEG", [60, 60, 60]),
        (Image.new("RGB", (8, 8), (60, 60, 60)), "AVIF", [60, 60, 60]),
    ],
)
def test_each_mode_of_8_bits_becomes_its_colors(image: Image.Image, kind: str, expected: list[int] | None) -> None:
    if expected is None:
        image.putpalette([value for index in range(256) for value in (index, 2 * index % 256, 255 - index)])
        expected = [9, 18, 246]
    body = save_picture(image, kind)
    assert decode(body, mode="RGB", dtype="uint8")[:, 0, 0].tolist() == expected
    assert decode_values(body, mode="RGBA")[3] == np.ones((image.height, image.width)).squeeze().tolist()
    luma = (299 * expected[0] + 587 * expected[1] + 114 * expected[2]) / 1000
    assert abs(float(decode(body, dtype="uint8")[0, 0, 0]) - luma) <= 0.501


def test_lab_becomes_srgb() -> None:
    for lightness, gray in ((255, 255), (0, 0), (137, 128)):  # 137 of 255 is 53.7 of 100
        body = save_picture(Image.new("LAB", (2, 1), (lightness, 128, 128)), "TIFF")
        assert np.allclose(decode(body, mode="RGB", dtype="uint8").astype(int), gray, atol=1)
        assert np.allclose(decode(body, dtype="uint8").astype(int), gray, atol=1)


@pytest.mark.parametrize(
    ("alpha", "expected"), [("drop", [200, 100, 0]), ("black", [40, 20, 0]), ("white", [244, 224, 204])]
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TGA", "QOI", "palette"])
def test_transparency_is_composited_as_declared(kind: str, alpha: str, expected: list[int]) -> None:
    body = _palette() if kind == "palette" else save_picture(RGBA8, kind)
    found = decode(body, mode="RGB", alpha=alpha, dtype="uint8")
    assert found[:, 0, :].T.tolist() == [[10, 20, 30], expected]
    assert decode(body, mode="RGBA", dtype="uint8")[:, 0, 1].tolist() == [200, 100, 0, 51]
    with pytest.raises(DatasetError, match=r"a/1\.png has transparent pixels \(mode (RGBA|P)\); mode RGB has no"):
        decode(body, mode="RGB")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_a_pixel_without_a_color_in_the_palette_is_rejected(kind: str) -> None:
    files = {
        "PNG": lambda last: png(np.array([[[0], [last]]]), bits=8, color=3, palette=bytes(range(6))),
        "GIF": lambda last: gif([0, last], colors=bytes(range(6))),
        "BMP": lambda last: bmp(bytes([0, last, 0, 0]), (1, 2), bits=8, colors=bytes([2, 1, 0, 0, 5, 4, 3, 0])),
    }
    assert decode(files[kind](1), mode="RGB", dtype="uint8")[:, 0].T.tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(
        DatasetError, match=r"a/1\.png has a pixel of color 3, counted from 0, and a palette of 2 colors"
    ):
        decode(files[kind](3), mode="RGB")


def _palette() -> bytes:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0])
    return save_picture(image, "PNG", transparency=bytes([255, 51]))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_gray_value_can_be_transparent(bits: int) -> None:
    most = (1 << bits) - 1
    body = png(np.array([[[0], [most]]]), bits=bits, color=0, key=most.to_bytes(2))
    assert decode_values(body, mode="RGBA", dtype="uint8")[3] == [255, 0]
    assert decode_values(body, alpha="black") == [0, 0]
    unused = png(np.array([[[0], [0]]]), bits=bits, color=0, key=most.to_bytes(2))
    assert decode_values(unused) == [0, 0]


@pytest.mark.parametrize("bits", [8, 16])
def test_one_color_can_be_transparent(bits: int) -> None:
    body = png(np.array([[[1, 2, 3], [1, 2, 4]]]), bits=bits, color=2, key=bytes([0, 1, 0, 2, 0, 3]))
    assert decode_values(body, mode="RGBA", dtype="uint8")[3] == [0, 255]
    with pytest.raises(DatasetError, match=r"has transparent pixels \(mode RGB\)"):
        decode(body, mode="RGB")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_more_than_one_frame_is_rejected_unless_the_first_is_declared(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (0, 0, 0)), Image.new("RGB", (8, 8), (255, 255, 255))
    body = save_picture(first, kind, save_all=True, append_images=[second])
    with pytest.raises(DatasetError, match=r"a/1\.png has 2 frames; expected one"):
        decode(body)
    assert decode(body, frames="first").max() < 0.02
    assert decode(save_picture(second, kind)).min() > 0.98


def test_the_first_image_of_an_mpo_file_is_read() -> None:
    body = save_picture(Image.new("L", (8, 8), 60), "MPO", save_all=True, append_images=[Image.new("L", (4, 4), 9)])
    assert decode(body, dtype="uint8")[0].tolist() == [[60] * 8] * 8


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (2, [[3, 2, 1], [6, 5, 4]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (4, [[4, 5, 6], [1, 2, 3]]),
        (5, [[1, 4], [2, 5], [3, 6]]),
        (6, [[4, 1], [5, 2], [6, 3]]),
        (7, [[6, 3], [5, 2], [4, 1]]),
        (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_pictures_are_rotated_by_exif_orientation(orientation: int, expected: list[list[int]]) -> None:
    pixels = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    size = (len(expected), len(expected[0]))
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        shown = pixels.astype(dtype) * (1 if bits == 8 else 257)
        by_hand = tiff(
            shown.astype(shown.dtype.newbyteorder("<")).tobytes(),
            (2, 3),
            bits=[bits],
            photometric=1,
            orientation=[orientation],
        )
        for body in (save_picture(shown, "PNG", exif=exif_orientation(orientation)), by_hand):
            assert decode(body, dtype="uint8", size=size)[0].tolist() == expected


def test_colors_of_16_bits_are_rotated_too() -> None:
    pixels = np.arange(18).reshape(2, 3, 3) * 3000
    ways: tuple[dict[str, Any], ...] = ({}, {"pack": zlib.compress, "compression": [8]})
    for options in ways:
        found = decode(_tiff16(pixels, orientation=[6], **options), mode="RGB")
        assert np.array_equal(found, channels_first(np.rot90(pixels, -1).astype(np.float32) / np.float32(65535)))


def test_a_photo_is_rotated_before_its_size_is_compared() -> None:
    for kind in ("JPEG", "WEBP", "AVIF", "TIFF", "PNG"):
        body = save_picture(Image.new("RGB", (32, 16)), kind, exif=exif_orientation(6))
        assert decode(body, size=(32, 16)).shape == (1, 32, 16)
        with pytest.raises(DatasetError, match="has 32x16 pixels; expected 16x32, the declared size"):
            decode(body, size=(16, 32))


RAMP = np.array([[0, 0, 0, 0, 200, 200, 200, 200]] * 4, dtype=np.uint8)


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ("stretch", [[0, 25, 175, 200]] * 4),
        ("crop", [[0, 0, 200, 200]] * 4),
        ("pad", [[255] * 4, [0, 25, 175, 200], [0, 25, 175, 200], [255] * 4]),
        ("fit", [[0, 25, 175, 200]] * 2),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_each_resize_mode_has_its_effect(bits: int, resize: str, expected: list[list[int]]) -> None:
    body = save_picture(RAMP if bits == 8 else RAMP.astype(np.uint16) * 257, "PNG")
    options = {"size": (4, 4), "resize": resize, **({"fill": 1} if resize == "pad" else {})}
    assert decode(body, dtype="uint8", **options)[0].tolist() == expected


def test_16_bits_are_resized_without_rounding() -> None:
    body = save_picture(np.array([[1000, 1001]] * 2, dtype=np.uint16), "PNG")
    assert np.allclose(decode(body, size=(1, 1), resize="stretch"), 1000.5 / 65535, rtol=1e-6, atol=0)


def test_colors_of_transparent_pixels_do_not_bleed_when_16_bits_are_resized() -> None:
    pixels = np.array([[[65535, 0, 0, 0], [0, 65535, 0, 65535]]] * 2, dtype=np.uint16)
    found = decode_values(png(pixels, color=6), mode="RGBA", size=(1, 1), resize="stretch")
    assert np.allclose(found, [0, 1, 0, 0.5], atol=1e-6)


def test_a_very_long_picture_is_resized_to_at_least_one_pixel() -> None:
    body = save_picture(np.zeros((1, 1000), dtype=np.uint8), "PNG")
    for resize, shape in (("fit", (1, 1, 8)), ("pad", (1, 8, 8)), ("crop", (1, 8, 8)), ("stretch", (1, 8, 8))):
        assert decode(body, size=(8, 8), resize=resize).shape == shape


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            tiff(bytes(4), (1, 1), bits=(8,) * 4, photometric=2, extra=[0]),
            r"TIFF of 4 channels .*the meaning of 1 channel is not stated",
        ),
        (
            tiff(bytes(5), (1, 1), bits=(8,) * 5, photometric=2, extra=[0, 0]),
            r"5 channels .*the meaning of 2 channels is not stated",
        ),
        (tiff(bytes(2), (1, 1), bits=(8,) * 2, photometric=1, extra=[0]), r"2 channels with 8 bits \(mode L\)"),
        (tiff(bytes(1), (1, 1), bits=[8], photometric=1, sample_format=[2]), r"8 bits \(mode L\) and signed values"),
        (tiff(bytes(8), (1, 1), bits=(16,) * 4, photometric=5), r"4 channels with 16 bits \(mode CMYK\)"),
        (tiff(bytes(8), (1, 1), bits=(16,) * 4, photometric=2, extra=[1]), r"4 channels with 16 bits \(mode RGBA\)"),
        (tiff(bytes(6), (1, 1), bits=(16,) * 3, photometric=2, planar=[2]), r"3 channels with 16 bits \(mode RGB\)"),
        (
            tiff(bytes(8), (1, 1), bits=[64], photometric=1, sample_format=[3]),
            "not support TIFF with these channels, bits or",
        ),
        (tiff(bytes(9), (1, 1), bits=(8,) * 9, photometric=1), "not support TIFF with these channels, bits or values"),
        (
            save_picture(np.full((32, 32), 9, dtype=np.uint8), "AVIF").replace(
                b"av1C\x81\x00\x1c", b"av1C\x81\x00\x5c"
            ),
            "AVIF",
        ),
        (b"PyCMYK 1 1 255\n1234", "is a PPM of mode CMYK"),
        (b"P2 2 1 1000\n1\n", "contains fewer than 2 numbers"),
        (b"P2 2 1 1000\n1 x\n", "contains fewer than 2 numbers"),
        (gif([1, 1], colors=bytes(6), canvas=3), "is a GIF whose frame covers only a part of it"),
        (
            tiff(bytes(6), (2, 2), bits=(8,) * 3, photometric=6),
            "is TIFF of uncompressed YCbCr with subsampled color",
        ),
        (tiff(bytes(1), (1, 1), bits=[8], photometric=3, colors=[1] * 768), "TIFF whose palette has 8-bit values"),
        (b"", "cannot be decoded as a picture: the file is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"a/1\.png cannot be .*found PostScript; expected one"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "found SVG, which has no pixels; expected one of AVIF, BMP"),
        (b"\x89PNG\r\n\x1a\n", "found another format, or a damaged header; expected one of AVIF, BMP"),
        (b"P5 10000 8800 255\n", f"has 8800x10000 pixels; expected at most {MOST_PIXELS:,}"),
        (b"P5 60000 60000 255\n", f"it has more than {MOST_PIXELS:,} pixels"),
    ],
)
def test_conversions_that_would_lose_information_are_errors(body: bytes, line: str) -> None:
    with pytest.raises(DatasetError, match=line):
        decode(body)


def test_unknown_channels_can_be_dropped() -> None:
    for bits, dtype in ((8, "u1"), (16, "<u2")):
        raw = np.array([1, 2, 3, 4], dtype=dtype).tobytes()
        body = tiff(raw, (1, 1), bits=(bits,) * 4, photometric=2, extra=[0])
        assert np.allclose(decode_values(body, mode="RGB", alpha="drop"), np.array([1, 2, 3]) / (2**bits - 1))
