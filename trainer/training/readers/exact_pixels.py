"""Exact values of pictures that Pillow decodes incorrectly or inexactly, and rejection of ambiguous pictures.

For pictures with more than 8 bits per channel, Pillow returns exact values only if they are gray. Their white value is taken from the
file (65535, the maximum of a PGM, 4095 for a 12-bit TIFF) or from the declaration. For BMP files, Pillow assumes one bit or one byte per
pixel if the palette is gray, and drops the fourth byte of 32-bit pixels.
"""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from trainer.base.suggestions import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS: Final = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
"""Raster formats only: no format for which Pillow starts a program."""
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _COLORS, _SAMPLE_FORMAT, _SUBSAMPLING = 258, 262, 277, 284, 320, 339, 530
_SIXTEEN: Final = 65535
_PLAIN: Final = 16_000_000
"""Maximum number of values that are read from text: each value takes about 50 bytes during decoding."""

_BMP_BITS: Final[Mapping[str, int]] = {"1": 1, "L": 8}
"""Bits per pixel that Pillow assumes for a palette of grays."""
_OS2: Final = 12
"""Size of the oldest header in bytes; its width and height have 2 bytes each."""

Values = np.ndarray[Any, Any]


class PictureError(ValueError):
    """The reason why a picture is rejected: a sentence without its subject, the name of the file."""

    def __init__(self, sentence: str, *, hint: str) -> None:
        super().__init__(sentence)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class WideValues:
    """Values as float32 from 0 to 1: color `[height, width, 1 or 3]`, alpha `[height, width]`."""

    color: Values
    alpha: Values | None = None


def no_such_color(number: int, count: int) -> PictureError:
    """Return the error for a pixel whose color is not in the palette."""
    sentence = f"has a pixel of color {number}, counted from 0, and a palette of {count} colors"
    return PictureError(sentence, hint="it is damaged: replace it, and publish a new version")


def require_clear(image: Image.Image, body: memoryview | bytes, *, drop: bool) -> None:
    """Raise `PictureError` for a picture that Pillow would silently decode to wrong values."""
    match image.format:
        case "TIFF":
            _require_clear_tiff(image, drop=drop)
            _require_clear_colors(image)
        case "JPEG2000":
            _require_clear_jpeg2000(image, bytes(body))
        case "GIF" if not drop and _tile(image).extents != (0, 0, *image.size):
            sentence = "is a GIF whose frame covers only a part of it: the rest has no stated color"
            raise PictureError(
                sentence, hint="write it as PNG; --alpha drop fills the rest with the first color of its palette"
            )
        case "PPM" if image.mode not in {"1", "L", "I", "F", "RGB"}:
            raise PictureError(f"is a PPM of mode {image.mode}, which no standard defines", hint="write it as PNG")
        case "AVIF" if (at := bytes(body).find(b"av1C")) >= 0 and body[at + 6] & 0x40:
            raise PictureError("is AVIF with more than 8 bits per channel", hint="write it as 8-bit AVIF, or as PNG")


def _require_clear_tiff(image: Image.Image, *, drop: bool) -> None:
    tags = _tags(image)
    bits, samples = max(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
    kind = f"TIFF of {samples} channels with {bits} bits (mode {image.mode})"
    if tags.get(_SAMPLE_FORMAT, (1,))[0] == 2 and bits <= 8:  # noqa: PLR2004 - signed integers
        raise PictureError(f"is {kind} and signed values", hint="write it with unsigned values")
    if samples > len(image.getbands()) and not drop:
        others = counted(samples - len(image.getbands()), "channel")
        sentence = f"is {kind}: the meaning of {others} is not stated"
        raise PictureError(sentence, hint="--alpha drop ignores them; to use them, publish arrays (--array)")
    if len(image.getbands()) > 1 and bits > 8 and not _is_plain_color(image):  # noqa: PLR2004 - bits
        raise PictureError(f"is {kind}", hint="write it as RGB, one plane, without premultiplied alpha")


def _require_clear_colors(image: Image.Image) -> None:
    """Raise `PictureError` for palettes and chroma that Pillow misinterprets."""
    tags = _tags(image)
    if image.mode == "YCbCr" and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1):
        raise PictureError("is TIFF of uncompressed YCbCr with subsampled color", hint="write it as RGB")
    if image.mode in {"P", "PA"} and 0 < max(tags.get(_COLORS, (0,))) < 256:  # noqa: PLR2004 - 16-bit values exceed 255
        raise PictureError("is TIFF whose palette has 8-bit values; expected 16-bit values", hint="write it as RGB")


def _is_plain_color(image: Image.Image) -> bool:
    rawmode = str(_tile(image).args[0])
    return bool(re.fullmatch(r"(RGB|RGBA|RGBX);16[LBN]", rawmode)) and _tags(image).get(_PLANAR, 1) == 1


def _require_clear_jpeg2000(image: Image.Image, body: bytes) -> None:
    start = body.find(b"\xff\x4f\xff\x51") + 40
    channels = int.from_bytes(body[start : start + 2])
    depths = set(body[start + 2 : start + 2 + 3 * channels : 3])  # bits minus one; the highest bit means signed
    if depths != ({15} if image.mode == "I;16" else {7}):
        found = ", ".join(f"{(depth & 0x7F) + 1} {'signed ' if depth & 0x80 else ''}bits" for depth in sorted(depths))
        raise PictureError(
            f"is JPEG 2000 with {found} per channel (mode {image.mode})", hint="write it with 8 bits, or as 16-bit PNG"
        )


def wide_values(image: Image.Image, body: memoryview | bytes, *, white: float | None) -> WideValues | None:
    """Return the values of a picture with more than 8 bits per channel; None for up to 8 bits.

    Raise `PictureError` if the white value is unknown, or if a value is not finite or outside of 0 to white.
    """
    if (raw := _raw_values(image, body)) is None:
        return None
    values, stated = raw
    top = white or stated
    if top is None:
        what = "floating-point values" if image.mode == "F" else "integers of more than 16 bits, or signed integers"
        raise PictureError(
            f"has {what} (mode {image.mode}); expected a declared white value",
            hint="--white VALUE, for example 1 for values from 0 to 1; or write it as 16-bit PNG",
        )
    has_alpha = values.shape[2] in {2, 4}
    color = _in_range(values[:, :, :-1] if has_alpha else values, top, declared=white is not None)
    if image.format == "TIFF" and _tags(image).get(_PHOTOMETRIC, 0) == 0:  # PhotometricInterpretation 0: white is zero
        color = top - color
    return WideValues(color=_divided(color, top), alpha=_alpha(image, values, has_alpha=has_alpha))


def _alpha(image: Image.Image, values: Values, *, has_alpha: bool) -> Values | None:
    """Return alpha from the last channel or the tRNS chunk of a PNG, or None. Its range is independent of the white value."""
    if has_alpha:
        return _divided(values[:, :, -1], _SIXTEEN)
    key = image.info.get("transparency")
    return None if key is None else np.where((values == key).all(axis=2), 0, 1).astype(np.float32)


def _divided(values: Values, top: float) -> Values:
    """Divide values by `top`, as float32. float64 is used for values of more than 16 bits, or if float32 cannot represent `top`."""
    is_exact = values.dtype.itemsize <= 2 and float(np.float32(top)) == top  # noqa: PLR2004 - bytes of 16 bits
    return np.divide(values, top, dtype=np.float32 if is_exact else np.float64).astype(np.float32, copy=False)


def _in_range(values: Values, top: float, *, declared: bool) -> Values:
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PictureError("has pixels that are NaN or infinite", hint="replace it, and publish a new version")
    if low < 0 or high > top:
        value = low if low < 0 else high
        sentence = (
            f"has the value {value:.10g}; expected 0 to {top:.10g}, {'the declared' if declared else 'its own'} white"
        )
        raise PictureError(
            sentence, hint="--white VALUE declares the highest value that pictures of the dataset can have"
        )
    return values


def _raw_values(image: Image.Image, body: memoryview | bytes) -> tuple[Values, float | None] | None:
    """Return the stored values `[height, width, channels]`, and the white value if the file states it; None for up to 8 bits."""
    if image.format == "PPM" and image.mode in {"I", "L", "RGB"}:
        return _netpbm(image, body)
    if image.mode.startswith("I;16"):
        has_12_bits = image.format == "TIFF" and max(_tags(image).get(_BITS, (1,))) == 12  # noqa: PLR2004 - bits
        return _channels(image), 4095 if has_12_bits else _SIXTEEN
    if image.mode in {"I", "F"}:
        values = _channels(image)
        is_unsigned = image.format == "TIFF" and _tags(image).get(_SAMPLE_FORMAT, (1,))[0] == 1
        return values.view(np.uint32) if image.mode == "I" and is_unsigned else values, None
    if image.format == "PNG" and body[24] == 16:  # noqa: PLR2004 - the bit depth in its header
        return _colors(image, body), _SIXTEEN
    if image.format == "TIFF" and max(_tags(image).get(_BITS, (1,))) == 16:  # noqa: PLR2004 - bits
        return _colors(image, body), _SIXTEEN
    return None


def _netpbm(image: Image.Image, body: memoryview | bytes) -> tuple[Values, float] | None:
    """Return unscaled integers and the maximum from the header of a PGM or PPM, which Pillow would scale; None for 8 bits."""
    tile = _tile(image)
    if tile.codec_name == "raw":
        return (_channels(image), _SIXTEEN) if image.mode == "I" else None
    most = tile.args[1]
    if most == 255:  # noqa: PLR2004 - 8 bits
        return None
    shape = (image.height, image.width, 3 if image.mode == "RGB" else 1)
    count = shape[0] * shape[1] * shape[2]
    if tile.codec_name == "ppm":
        return np.frombuffer(body, ">u2" if most > 255 else "u1", count, tile.offset).reshape(shape), most  # noqa: PLR2004
    if count > _PLAIN:
        sentence = f"contains {count:,} values as text; expected at most {_PLAIN:,} in a plain PGM or PPM"
        raise PictureError(sentence, hint="write it in binary (P5, P6), or as 16-bit PNG")
    words = re.sub(rb"#[^\r\n]*", b" ", bytes(body[tile.offset :])).split(maxsplit=count)[:count]
    if len(words) < count or not all(re.fullmatch(rb"-?\d{1,9}", word) for word in words):
        raise PictureError(f"contains fewer than {count:,} numbers", hint="replace it, and publish a new version")
    return np.array([int(word) for word in words], dtype=np.int64).reshape(shape), most


def _channels(image: Image.Image) -> Values:
    return np.asarray(image).reshape(image.height, image.width, -1)


def _colors(image: Image.Image, body: memoryview | bytes) -> Values:
    """Return 16-bit colors. Pillow returns their high bytes, and, if the byte order is swapped, their low bytes."""
    if image.format == "PNG" and body[25] == 4:  # noqa: PLR2004 - gray and alpha, which are decoded as four 8-bit channels
        whole = _read_as(body, {"LA;16B": "RGBA"}).astype(np.uint16)
        return whole[:, :, ::2] << 8 | whole[:, :, 1::2]
    native, other = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    swapped = {"B": "L", "L": "B", "N": other} | ({} if native == "L" else {"N": other})
    raw = {f"{mode};16{order}": f"{mode};16{to}" for mode in ("RGB", "RGBA", "RGBX") for order, to in swapped.items()}
    low = _read_as(body, raw)
    return _channels(image).astype(np.uint16) << 8 | low


def _read_as(body: memoryview | bytes, raw: Mapping[str, str]) -> Values:
    """Decode a file again with another raw mode of the same width."""
    with Image.open(io.BytesIO(body), formats=FORMATS) as image:
        tiles = getattr(image, "tile")  # noqa: B009 - `Image` has no such attribute; image files do
        for number, tile in enumerate(tiles):
            args = raw[tile.args] if isinstance(tile.args, str) else (raw[tile.args[0]], *tile.args[1:])
            tiles[number] = tile._replace(args=args)
        return _channels(image)


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2")  # noqa: B009 - `Image` has no such attribute; TIFF files do


def fourth_bytes_differ(image: Image.Image, body: memoryview | bytes) -> bool:
    """Return whether the fourth bytes of a 32-bit BMP without a declared alpha differ: some programs store alpha in them."""
    tile = _tile(image)
    rawmode = str(tile.args[0])
    if tile.codec_name != "raw" or len(rawmode) != 4 or "X" not in rawmode:  # noqa: PLR2004 - bytes per pixel
        return False
    fourth = np.frombuffer(body, np.uint8, 4 * image.width * image.height, tile.offset)[rawmode.index("X") :: 4]
    return bool(fourth.min() != fourth.max())


def grays_of_palette(image: Image.Image, body: memoryview | bytes) -> Image.Image | None:
    """Decode a BMP with a gray palette if Pillow assumes a wrong number of bits per pixel; otherwise return None."""
    head = body[14:] if image.format == "BMP" else body
    start = 10 if int.from_bytes(head[:4], "little") == _OS2 else 14
    tile, bits = _tile(image), int.from_bytes(head[start : start + 2], "little")
    if tile.codec_name != "raw" or _BMP_BITS.get(image.mode, bits) == bits:
        return None
    _, stride, direction = tile.args
    rows = np.frombuffer(body, np.uint8, stride * image.height, tile.offset).reshape(image.height, stride)
    unpacked = np.unpackbits(rows, axis=1).reshape(image.height, -1, bits)
    indices = np.packbits(unpacked, axis=2)[:, : image.width, 0] >> (8 - bits)
    if image.mode == "1" and indices.max() > 1:
        raise no_such_color(int(indices.max()), 2)
    return Image.fromarray((indices * 255 if image.mode == "1" else indices)[::direction])


def _tile(image: Image.Image) -> Any:
    return getattr(image, "tile")[0]  # noqa: B009 - `Image` has no such attribute; image files do
